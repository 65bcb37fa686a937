"""One process's log and stores, which may fail at every call.

Rules of this file: `strike` is called before what a call does and, where it changes something, after it; it may stop time for this
process, or end it by raising.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sortedcontainers import SortedDict

from perdure.partitions.memory import MemoryLog, MemoryStores
from perdure.partitions.memory.faults import HISTORY, INBOX
from perdure.partitions.memory.log import (
    MemoryHistoryWriter,
    MemoryPublisher,
    MemorySnapshots,
    MemoryTopicReader,
)
from perdure.partitions.memory.store import MemoryStore
from perdure.partitions.ports import Change, Delivered, LogRecord, LogSpan, Report, StoreCorrupt, StoreUnavailable

from .hub import SimulatedHub

Strike = Callable[[], None]
READ_BATCH = 16


class Trimmed(Protocol):
    """Hears of what is let go of."""

    def __call__(self, partition: int, before: int, /, *, of_inbox: bool) -> None: ...


class SimulatedWriter(MemoryHistoryWriter):
    def __init__(self, hub: SimulatedHub, partition: int, log: "SimulatedLog") -> None:
        super().__init__(hub, partition, log)
        self._strike = log.strike
        self._wake = log.wake_process

    def append(self, key: str, value: bytes) -> None:
        self._strike()
        super().append(key, value)
        self._strike()

    def take_reports(self) -> Sequence[Report]:
        self._strike()
        return super().take_reports()

    def _take_landing(self, offset: int | None, error: str | None) -> None:
        super()._take_landing(offset, error)
        self._wake()


class SimulatedReader(MemoryTopicReader):
    def __init__(self, hub: SimulatedHub, topic: str, strike: Strike) -> None:
        super().__init__(hub, topic)
        self._strike = strike

    def open(self, partition: int, offset: int) -> None:
        self._strike()
        super().open(partition, offset)

    def take(self, records_max: int) -> Sequence[tuple[int, LogRecord]]:
        self._strike()
        return super().take(records_max)

    def reads(self, partition: int) -> bool:
        return partition in self._positions


class SimulatedPublisher(MemoryPublisher):
    def __init__(self, hub: SimulatedHub, log: "SimulatedLog") -> None:
        super().__init__(hub, log)
        self._strike = log.strike
        self._wake = log.wake_process

    def publish_inbox(self, partition: int, key: str, value: bytes, delivered: Delivered | None = None) -> None:
        self._strike()
        super().publish_inbox(partition, key, value, delivered)
        self._strike()

    def publish_reply(self, partition: int, key: str, value: bytes) -> None:
        self._strike()
        super().publish_reply(partition, key, value)
        self._strike()

    def publish_dead_letter(
        self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]], delivered: Delivered | None = None
    ) -> None:
        self._strike()
        super().publish_dead_letter(key, value, headers, delivered)
        self._strike()

    def publish_snapshot(self, partition: int, key: str, value: bytes | None, delivered: Delivered) -> None:
        self._strike()
        super().publish_snapshot(partition, key, value, delivered)
        self._strike()

    def _landing(self, delivered: Delivered | None) -> Callable[[int | None, str | None], None] | None:
        if delivered is None:
            return None

        def landed(_offset: int | None, error: str | None) -> None:
            self._deliveries.append((delivered, error))
            self._wake()

        return landed

    @property
    def has_deliveries(self) -> bool:
        return bool(self._deliveries)


class SimulatedSnapshots(MemorySnapshots):
    def __init__(self, hub: SimulatedHub, publisher: SimulatedPublisher, strike: Strike) -> None:
        super().__init__(hub, publisher)
        self._strike = strike

    def span(self, partition: int) -> LogSpan:
        self._strike()
        return super().span(partition)

    def read(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        return _struck(super().read(partition, start, end), self._strike)


def _struck(records: Iterator[LogRecord], strike: Strike) -> Iterator[LogRecord]:
    """A read that something may happen in."""
    for count, record in enumerate(records):
        if count % READ_BATCH == 0:
            strike()
        yield record
    strike()


class SimulatedLog(MemoryLog):
    """`partitions.ports.Log` of one process. `wake` is called when something came for it."""

    def __init__(self, hub: SimulatedHub, strike: Strike, wake: Callable[[], None], trimmed: Trimmed) -> None:
        super().__init__(hub)
        self._hub: SimulatedHub = hub
        self._trimmed = trimmed
        self.strike = strike
        self.wake_process = wake
        self.inbox: SimulatedReader = SimulatedReader(hub, INBOX, strike)
        self.tail: SimulatedReader = SimulatedReader(hub, HISTORY, strike)
        self.publisher: SimulatedPublisher = SimulatedPublisher(hub, self)
        self.snapshots: SimulatedSnapshots = SimulatedSnapshots(hub, self.publisher, strike)

    def open_history(self, partition: int) -> MemoryHistoryWriter:
        self.strike()
        writer = SimulatedWriter(self._hub, partition, self)
        self._writers.append(writer)
        return writer

    def read_history(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        return _struck(super().read_history(partition, start, end), self.strike)

    def span_history(self, partition: int) -> LogSpan:
        self.strike()
        return self._hub.span(HISTORY, partition)

    def span_inbox(self, partition: int) -> LogSpan:
        self.strike()
        return super().span_inbox(partition)

    def stable_inbox_end(self, partition: int) -> int:
        self.strike()
        return super().stable_inbox_end(partition)

    def check_identity(self) -> None:
        self.strike()
        super().check_identity()

    def trim_inbox(self, partition: int, before: int) -> None:
        self.strike()
        self._trimmed(partition, before, of_inbox=True)
        super().trim_inbox(partition, before)
        self.strike()

    def trim_history(self, partition: int, before: int) -> None:
        self.strike()
        self._trimmed(partition, before, of_inbox=False)
        super().trim_history(partition, before)
        self.strike()

    def read_clock_ms(self) -> int:
        self.strike()
        return super().read_clock_ms()

    def waits_for(self, topic: str, partition: int) -> bool:
        """Whether a record there is news for this process."""
        return (topic == INBOX and self.inbox.reads(partition)) or (topic == HISTORY and self.tail.reads(partition))

    @property
    def has_mail(self) -> bool:
        """Whether a `wait` would end at once."""
        return (
            self.publisher.has_deliveries
            or self.inbox.has_records
            or self.tail.has_records
            or any(writer.has_reports for writer in self._writers)
        )


class Disk(MemoryStores):
    """The stores of one machine. They outlive its processes, and may be lost, put back, swapped or damaged between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.strike: Strike = lambda: None
        self._old: dict[int, dict[bytes, bytes]] = {}
        self._damaged: set[int] = set()

    def open(self, partition: int) -> MemoryStore:
        self.strike()
        if partition in self._damaged:
            raise StoreCorrupt(f"the store of partition {partition} on the simulated disk cannot be read")
        return super().open(partition)

    def _make(self, partition: int, content: SortedDict) -> "SimulatedStore":
        return SimulatedStore(self, partition, content, self._opened)

    def discard(self, partition: int) -> None:
        self.strike()
        super().discard(partition)
        self._damaged.discard(partition)

    def content(self, partition: int) -> SortedDict:
        return self._content.get(partition, SortedDict())

    @property
    def partitions(self) -> list[int]:
        return sorted(self._content)

    def die(self, writes_kept: int) -> None:
        """Lose what a dying process had not flushed."""
        for partition in list(self._opened):
            self.crash(partition, writes_kept)

    def remember(self) -> None:
        """Keep what is there now, to be put back."""
        self._old = {partition: dict(content) for partition, content in self._content.items()}

    def lose(self) -> None:
        self._content.clear()

    def put_back(self) -> None:
        self._content = {partition: SortedDict(content) for partition, content in self._old.items()}

    def swap(self) -> None:
        """Each partition gets the store of another one."""
        kept = list(self._content.items())
        self._content = {kept[n - 1][0]: content for n, (_, content) in enumerate(kept)}

    def damage(self) -> None:
        self._damaged.update(self._content)


class SimulatedStore(MemoryStore):
    def __init__(self, disk: Disk, partition: int, content: SortedDict, opened: dict[int, MemoryStore]) -> None:
        super().__init__(partition, content, opened)
        self._disk = disk

    def write(self, changes: Sequence[Change]) -> None:
        self._disk.strike()
        if self._disk.full:
            raise StoreUnavailable("the simulated disk is full")
        super().write(changes)
        self._disk.strike()

    def flush(self) -> None:
        self._disk.strike()
        if self._disk.full:
            raise StoreUnavailable("the simulated disk is full")
        super().flush()
        self._disk.strike()
