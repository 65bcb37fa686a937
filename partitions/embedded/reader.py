"""An embedded hub seen from outside: read only, without its lock, as of the moment when it was opened."""

from collections.abc import Iterator
from pathlib import Path

from ..ports import HubIdentity, LogRecord, LogSpan
from .directory import read_hub_file
from .journal import Journal


class EmbeddedReader:
    """What stands in a hub's directory now. A process that has the hub open is not disturbed; what it is just writing is left out."""

    def __init__(self, directory: Path) -> None:
        """Raises HubMissing, HubRefused, LogCorrupt."""
        self.identity: HubIdentity = read_hub_file(directory).identity
        count = self.identity.partition_count
        self._history = Journal(directory / "history", count, writable=False)
        self._inbox = Journal(directory / "inbox", count, writable=False)
        self._dead_letter = Journal(directory / "dead-letter", 1, writable=False)

    def read_history(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        """Read [start, end). Raises LogTruncated and LogCorrupt."""
        return self._history.read(partition, start, end)

    def span_history(self, partition: int) -> LogSpan:
        return self._history.span(partition)

    def read_inbox(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        return self._inbox.read(partition, start, end)

    def span_inbox(self, partition: int) -> LogSpan:
        return self._inbox.span(partition)

    def read_dead_letters(self) -> Iterator[LogRecord]:
        span = self._dead_letter.span(0)
        return self._dead_letter.read(0, span.start, span.end)
