"""The index on disk: its generations, which of them is read, and who may write.

    <index>/current            the name of the generation that is searched
    <index>/next               the one that a re-index is building, if any
    <index>/generations/NAME/  a tantivy index and the name of its embedder
    <index>/sources.json       every source that was ever indexed, for a re-index
    <index>/forgotten.json     digests of the people whose data must not come back
    <index>/staging/           passages and vectors between the steps of a batch
    <index>/writer.lock        one writer at a time, over all processes and threads

Workers on several machines share this directory; a lock of the file system is what keeps writers apart. Every small file is
replaced in one step, so a kill leaves the old one or the new.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workloads.files import digest_of, replace_file

CURRENT: Final = "current"
NEXT: Final = "next"
_LOCK_WAIT_SECONDS = 60.0
_LOCK_POLL_SECONDS = 0.02


class WriterBusy(TimeoutError):
    """Another writer held the index for longer than one waits; trying again later is safe."""


def never() -> bool:
    """Nothing has been cancelled."""
    return False


@dataclass(frozen=True, slots=True)
class IndexDirectory:
    """The places in one index directory. Making one touches nothing."""

    root: Path

    def staging(self, ingest: str) -> Path:
        """Return the folder for what one ingest has under way."""
        return self.root / "staging" / digest_of(ingest)

    def generation(self, name: str) -> Path:
        return self.root / "generations" / name

    def read_pointer(self, pointer: str) -> str | None:
        """Return the generation that `current` or `next` names."""
        try:
            return (self.root / pointer).read_text("utf-8").strip() or None
        except FileNotFoundError:
            return None

    def write_pointer(self, pointer: str, name: str) -> None:
        replace_file(self.root / pointer, name.encode())

    def remove_pointer(self, pointer: str) -> None:
        (self.root / pointer).unlink(missing_ok=True)

    def remove_generation(self, name: str) -> None:
        shutil.rmtree(self.generation(name), ignore_errors=True)

    def open_generations(self) -> tuple[str, ...]:
        """Return the generations that an ordinary write goes to: the current one, and the next while one is being built."""
        names = (self.read_pointer(CURRENT), self.read_pointer(NEXT))
        return tuple(dict.fromkeys(name for name in names if name))

    def read_forgotten(self) -> frozenset[str]:
        """Return the digests of forgotten people; their names are not kept."""
        return frozenset(self._read_json("forgotten.json", []))

    def write_forgotten(self, digests: frozenset[str]) -> None:
        self._write_json("forgotten.json", sorted(digests))

    def read_sources(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each source, by its path."""
        sources: dict[str, dict[str, Any]] = self._read_json("sources.json", {})
        return sources

    def write_sources(self, sources: dict[str, dict[str, Any]]) -> None:
        self._write_json("sources.json", sources)

    @contextmanager
    def locked(self, cancelled: Callable[[], bool] = never, wait_seconds: float = _LOCK_WAIT_SECONDS) -> Iterator[None]:
        """Hold the writer's lock. The kernel lets it go when the process dies, however it dies."""
        self.root.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + wait_seconds
        # A descriptor of its own keeps threads of one process apart as well as processes.
        with (self.root / "writer.lock").open("ab") as lock:
            while not _try_lock(lock.fileno()):
                if cancelled() or time.monotonic() > deadline:
                    raise WriterBusy(f"the index at {self.root} has been written by another for {wait_seconds:g} s")
                time.sleep(_LOCK_POLL_SECONDS)
            yield

    def _read_json(self, name: str, otherwise: Any) -> Any:
        try:
            return json.loads((self.root / name).read_bytes())
        except FileNotFoundError:
            return otherwise

    def _write_json(self, name: str, value: object) -> None:
        replace_file(self.root / name, json.dumps(value, ensure_ascii=False, indent=1).encode())


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
