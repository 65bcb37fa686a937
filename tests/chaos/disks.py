"""What may happen to a state directory between two lives of its process, or under one."""

import os
import shutil
import subprocess
from pathlib import Path
from random import Random


def lose(directory: Path) -> bool:
    """Everything is gone, as on a new machine."""
    if not directory.exists():
        return False
    for each in directory.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    return True


def damage(directory: Path, pattern: str, dice: Random, *, truncate: bool = False) -> bool:
    """Flip some bits in every file of a kind in every store, or cut each short; true if there was one."""
    files = [file for file in directory.rglob(pattern) if file.is_file() and file.stat().st_size]
    for file in files:
        size = file.stat().st_size
        if truncate:
            os.truncate(file, dice.randrange(size))
        else:
            _flip(file, size, dice)
    return bool(files)


def _flip(file: Path, size: int, dice: Random) -> None:
    with file.open("r+b") as content:
        for _ in range(3):
            at = dice.randrange(size)
            content.seek(at)
            byte = content.read(1)[0]
            content.seek(at)
            content.write(bytes([byte ^ (1 << dice.randrange(8))]))


def can_mount() -> bool:
    """Whether this process may make file systems: it is root, and nothing forbids it."""
    return os.geteuid() == 0 and shutil.which("mount") is not None and _probe()


def _probe() -> bool:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"], capture_output=True)
    if done.returncode == 0:
        subprocess.run(["umount", "/mnt"], check=True)
    return done.returncode == 0


class SmallDisk:
    """A file system of a few megabytes under a directory; it can be filled, and made read-only."""

    def __init__(self, directory: Path, megabytes: int = 64) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "none", str(directory))
        self._filler = directory / "filler"

    def fill(self) -> None:
        """Take all room there is."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass

    def clear(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)

    def make_read_only(self) -> bool:
        """False where somebody who writes keeps it from happening."""
        return subprocess.run(["mount", "-o", "remount,ro", str(self.directory)], capture_output=True).returncode == 0

    def make_writable(self) -> None:
        _mount("-o", "remount,rw", str(self.directory))

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.directory)], check=True)


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)
