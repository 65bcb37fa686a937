"""From settings to a way into the hub: over HTTP, over Kafka, or to a `perdure dev` that runs near here."""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from perdure.partitions.private import open_private

from .brokers import check_brokers
from .client.transport import Transport
from .config import KafkaValue, Loaded, Settings
from .errors import ConfigError, HubUnavailable
from .loopback import is_loopback

if TYPE_CHECKING:
    from perdure.partitions.kafka import KafkaSettings

DEV_FILE = "dev.json"
HUB_FILE = "hub.json"
_LISTENS_SECONDS = 1.0
_PID_END = 1 << 31
_PATIENCE = 0.8
_PATIENCE_SECONDS_MIN = 1.0


@dataclass(frozen=True, slots=True)
class RunningDev:
    """A `perdure dev`, as its state file tells."""

    url: str
    pid: int
    directory: str

    def save(self) -> None:
        """Write the state file whole or not at all."""
        file = Path(self.directory) / DEV_FILE
        draft = file.with_suffix(".draft")
        with open(draft, "w", encoding="utf-8", opener=open_private) as out:
            json.dump(asdict(self), out)
        draft.replace(file)

    def forget(self) -> None:
        (Path(self.directory) / DEV_FILE).unlink(missing_ok=True)


def find_dev(directory: Path) -> RunningDev | None:
    """The dev that serves this state directory, if it is running."""
    try:
        found = decode_dev((directory / DEV_FILE).read_text(encoding="utf-8"))
        return found if _is_running(found.pid) and _listens(found.url) else None
    except (OSError, ValueError, RecursionError):
        return None


def decode_dev(text: str) -> RunningDev:
    """What a state file says. Raises ValueError."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"{DEV_FILE} is an object, found {text[:40]!r}")
    url, pid, directory = (content.get(name) for name in ("url", "pid", "directory"))
    if not isinstance(url, str) or not isinstance(pid, int) or isinstance(pid, bool) or not isinstance(directory, str):
        raise ValueError(f"{DEV_FILE} names url, pid and directory, found {text[:40]!r}")
    # A number below 1 means a group of processes, or all of them.
    if not 0 < pid < _PID_END or urlsplit(url).scheme != "http" or not urlsplit(url).hostname:
        raise ValueError(f"{DEV_FILE} names a process and an address, found {text[:40]!r}")
    return RunningDev(url, pid, directory)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # it runs, and is somebody else's
        return True
    except OSError:
        return False
    return True


def _listens(url: str) -> bool:
    """Its process was killed, perhaps, and left its file; the pid may be another's by now."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), _LISTENS_SECONDS).close()
    except OSError:
        return False
    return True


def has_embedded_hub(directory: Path) -> bool:
    """True where `perdure dev` has run."""
    return (directory / HUB_FILE).exists()


def _dev_token(dev: RunningDev, settings: Settings) -> str:
    """Our token goes to no other machine because a file in a directory says so."""
    return settings.token if is_loopback(urlsplit(dev.url).hostname or "") else ""


def connect_transport(loaded: Loaded) -> Transport:
    """The way in that the settings name: what a flag or variable says, then a running dev, then perdure.toml. Raises ConfigError,
    and HubUnavailable where there is a hub that nobody runs."""
    settings = loaded.settings
    transport = api_transport(loaded)
    if transport is not None:
        return transport
    if settings.brokers:
        return kafka_transport(settings.hub, settings.brokers, settings.kafka, settings.request_timeout)
    if has_embedded_hub(settings.dir):
        raise HubUnavailable(f"nobody runs the hub in {hub_directory(loaded)}: start `perdure dev`")
    say = loaded.spell
    raise ConfigError(
        f"there is no hub to ask: neither brokers nor a url is set, and there is none in {settings.dir}; start `perdure dev`, or, where one "
        f"runs, run this in its directory, or name that with {say('dir')}; or name a hub elsewhere with {say('brokers')} or {say('url')}"
    )


def api_transport(loaded: Loaded) -> Transport | None:
    """The way to the API that the settings name, if they name one: a running dev's, or that of a url. Raises ConfigError, and
    HubRefused where the running dev has another hub than was named."""
    settings = loaded.settings
    dev = None if is_elsewhere(loaded) else find_dev(settings.dir)
    if dev is not None:
        hub_directory(loaded)
        return http_transport(dev.url, _dev_token(dev, settings))
    # Brokers that were meant now win over a url that stands in the file.
    if settings.url and (loaded.named_now("url") or not loaded.named_now("brokers")):
        return http_transport(settings.url, settings.token)
    return None


def is_elsewhere(loaded: Loaded) -> bool:
    """True where a flag or a variable names a hub that is not the directory's."""
    return loaded.named_now("url") or loaded.named_now("brokers")


def looks_at_directory(loaded: Loaded) -> bool:
    """True where reads may look at the state directory itself: a hub stands there, nobody runs it, and no other one is meant."""
    settings = loaded.settings
    if is_elsewhere(loaded) or not has_embedded_hub(settings.dir):
        return False
    return find_dev(settings.dir) is None and (loaded.named_now("dir") or not (settings.url or settings.brokers))


def hub_directory(loaded: Loaded) -> Path:
    """The state directory. Raises HubRefused where a flag or a variable names another hub than the one that stands there."""
    directory, hub = loaded.settings.dir, loaded.settings.hub
    if loaded.named_now("hub"):
        from perdure.partitions.embedded.directory import check_hub, read_hub_file

        from .client.hubs import open_errors

        with open_errors():
            check_hub(read_hub_file(directory).identity, hub, directory)
    return directory


def http_transport(url: str, token: str) -> Transport:
    from .client.http_transport import HttpTransport

    return HttpTransport(url, token)


def kafka_transport(hub: str, brokers: str, properties: Mapping[str, KafkaValue], seconds: float) -> Transport:
    """The way in through Kafka alone; `seconds` is what a request will mostly be given. Raises ConfigError where a property cannot be
    set."""
    from perdure.partitions.kafka import KafkaLog

    from .client.log_transport import LogTransport

    settings = kafka_settings(hub, brokers, properties)
    # Less than the whole: who is not answered should still hear why.
    patience = max(_PATIENCE * seconds, _PATIENCE_SECONDS_MIN)
    settings = replace(settings, request_seconds_max=min(settings.request_seconds_max, patience))
    return LogTransport(lambda: KafkaLog.open_client(settings))


def kafka_settings(hub: str, brokers: str, properties: Mapping[str, KafkaValue]) -> "KafkaSettings":
    """What Kafka's clients are made with. Raises ConfigError."""
    from perdure.partitions.kafka import KafkaSettings as Made

    from .client.hubs import open_errors

    check_brokers(brokers, "brokers")
    with open_errors():
        return Made(brokers, hub, properties)


def kafka_settings_of(settings: Settings) -> "KafkaSettings":
    """As the configuration says. Raises ConfigError where no brokers are named."""
    if not settings.brokers:
        raise ConfigError("no brokers are named: set PERDURE_BROKERS, --brokers, or `brokers` in perdure.toml")
    return kafka_settings(settings.hub, settings.brokers, settings.kafka)
