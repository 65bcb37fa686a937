"""The newest inbox records of one partition, kept in memory for readers that are not far behind."""

from collections.abc import Sequence
from threading import Lock

from ..ports import LogRecord

BYTES_MAX = 8 << 20


class Tail:
    """A window over the end of the partition; the older half goes when it is full."""

    def __init__(self, end: int) -> None:
        self._lock = Lock()
        self._start = end
        self._records: list[LogRecord] = []
        self._bytes = 0

    @property
    def end(self) -> int:
        """The next offset."""
        return self._start + len(self._records)

    def extend(self, records: Sequence[LogRecord]) -> None:
        with self._lock:
            self._records.extend(records)
            self._bytes += sum(map(_size, records))
            while self._bytes > BYTES_MAX and len(self._records) > 1:
                half = (len(self._records) + 1) // 2
                self._bytes -= sum(map(_size, self._records[:half]))
                self._start += half
                del self._records[:half]

    def take(self, start: int, count: int) -> Sequence[LogRecord] | None:
        """At most `count` records from `start` on; None where `start` is older than the window."""
        with self._lock:
            at = start - self._start
            return None if at < 0 else self._records[at : at + count]


def _size(record: LogRecord) -> int:
    # What Python needs for the objects counts too, or a million tiny records would.
    return 256 + len(record.value or b"")
