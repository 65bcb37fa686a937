"""Directories and files that only this user reads: histories and payloads are in them.

Rules of this file: what is made here is for its owner alone, whatever the umask says. A directory that is there, is ours and holds
nothing but ours is tightened; one with other things in it, or of somebody else, is refused, since to close it may be wrong and to
leave it open would be.
"""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import structlog

_log = structlog.get_logger("perdure.partitions")
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_OTHERS = 0o077


class NotPrivate(Exception):
    """The directory cannot be kept from others; the message says why, and what to do."""


def make_private(directory: Path, ours: Iterable[str]) -> None:
    """Make a directory for ourselves, and those above it that are missing, or see that it is one. `ours` are patterns of what we put
    there. Raises NotPrivate, OSError."""
    for missing in reversed([each for each in (directory, *directory.parents) if not each.exists()]):
        missing.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid():
        raise NotPrivate(
            f"{directory} belongs to user {found.st_uid}, and this process is user {os.geteuid()}: name a directory below it, or one of its own"
        )
    if not found.st_mode & _OTHERS:
        return
    patterns = tuple(ours)
    names = (each.name for each in directory.iterdir())
    others = sorted(name for name in names if not any(fnmatchcase(name, each) for each in patterns))
    if others:
        raise NotPrivate(
            f"{directory} can be entered by others (mode {found.st_mode & 0o777:04o}) and holds other things than ours ({', '.join(others[:3])}): "
            "name a directory of its own, or `chmod 700` it"
        )
    directory.chmod(DIRECTORY_MODE)
    _log.warning("directory.tightened", directory=str(directory), mode=f"{found.st_mode & 0o777:04o}")


def open_private(path: str, flags: int) -> int:
    """An `opener` for `open`: what it creates is for its owner alone."""
    return os.open(path, flags, FILE_MODE)
