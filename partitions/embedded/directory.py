"""A hub's directory: who it is, and who has it open."""

import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..ports import HubIdentity, HubMissing, HubRefused, LogLocked
from ..private import open_private
from .journal import sync_directory

FORMAT = 1
HUB_FILE = "hub.json"
LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True)
class HubFile:
    """What `hub.json` says."""

    identity: HubIdentity

    def save(self, directory: Path) -> None:
        """Write it whole or not at all."""
        identity = self.identity
        content = {
            "format": FORMAT,
            "hub": identity.hub,
            "cluster_id": identity.cluster_id,
            "history_topic_id": identity.history_topic_id,
            "partition_count": identity.partition_count,
        }
        draft = directory / f"{HUB_FILE}.draft"
        with open(draft, "w", encoding="utf-8", opener=open_private) as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(directory / HUB_FILE)
        sync_directory(directory)


def read_hub_file(directory: Path) -> HubFile:
    """Raises HubMissing and HubRefused."""
    path = directory / HUB_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise HubRefused(f"{path} is of format {content['format']}, this build reads format {FORMAT}")
        identity = HubIdentity(
            *(content[name] for name in ("hub", "cluster_id", "history_topic_id", "partition_count"))
        )
        texts = (identity.hub, identity.cluster_id, identity.history_topic_id)
        count = identity.partition_count
        if not all(isinstance(text, str) for text in texts) or type(count) is not int or count < 1:
            raise ValueError(
                f"expected a hub, a cluster_id, a history_topic_id and a partition_count of at least 1, found {identity}"
            )
        return HubFile(identity)
    except FileNotFoundError:
        raise HubMissing(f"there is no hub in {directory}; `perdure dev` creates one") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HubRefused(f"{path} cannot be read: {error!r}") from error


def open_hub_file(directory: Path, hub: str, partition_count: int | None) -> HubFile:
    """Read who the hub is; create it where there is none. Raises HubRefused."""
    try:
        found = read_hub_file(directory)
    except HubMissing:
        if any(directory.glob("history/*.segment")):
            raise HubRefused(
                f"{directory} holds a history but no {HUB_FILE}: restore that file, or choose another directory"
            ) from None
        count = 4 if partition_count is None else partition_count
        found = HubFile(HubIdentity(hub, secrets.token_urlsafe(16), secrets.token_urlsafe(16), count))
        found.save(directory)
    identity = found.identity
    check_hub(identity, hub, directory)
    if partition_count not in (None, identity.partition_count):
        raise HubRefused(
            f"hub {hub!r} in {directory} has {identity.partition_count} partitions, not {partition_count}; a hub's partition count never changes"
        )
    return found


def check_hub(found: HubIdentity, hub: str, directory: Path) -> None:
    """Raises HubRefused where it is not the one that was named."""
    if found.hub != hub:
        raise HubRefused(f"{directory} holds hub {found.hub!r}, not {hub!r}; name that one, or another directory")


def lock_directory(directory: Path) -> IO[str]:
    """Take the directory for this process until the file is closed. Raises LogLocked."""
    lock = open(directory / LOCK_FILE, "a+", encoding="utf-8", opener=open_private)  # noqa: SIM115 - held until the hub is closed
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise LogLocked(
            f"{directory} is in use by the process with pid {holder}: one process at a time. Talk to it over HTTP, or stop it first"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock
