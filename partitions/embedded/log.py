"""The embedded log (`partitions.ports.Log`): one handle on an embedded hub. An engine has one, each client in the process another."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

from ..partitioner import partition_of
from ..ports import BufferFull, Delivered, HubIdentity, LogRecord, LogSpan, LogTruncated, Report
from ..topics import LETTER_BYTES_MAX
from .hub import DEAD_LETTER, HISTORY, INBOX, RECORD_BYTES_MAX, EmbeddedHub
from .reader import EmbeddedReader
from .signal import Signal


class EmbeddedHistoryWriter:
    """The append side of one history partition (`partitions.ports.HistoryWriter`)."""

    def __init__(self, hub: EmbeddedHub, partition: int, signal: Signal) -> None:
        self._hub = hub
        self._partition = partition
        self._signal = signal
        self._reports: deque[Report] = deque()
        self._closed = False

    def append(self, key: str, value: bytes) -> None:
        assert not self._closed, "the writer is closed"
        if len(value) > RECORD_BYTES_MAX:
            self.failed(f"the record has {len(value)} bytes, the log takes {RECORD_BYTES_MAX}")
        else:
            self._hub.send(HISTORY, self._partition, key, value, self)

    def take_reports(self) -> Sequence[Report]:
        reports = self._reports
        return [reports.popleft() for _ in range(len(reports))]

    @property
    def has_reports(self) -> bool:
        return bool(self._reports)

    def close(self) -> None:
        """What is queued still lands, as it does where a broker has it already (R4)."""
        self._closed = True
        self._reports.clear()

    @property
    def closed(self) -> bool:
        return self._closed

    def landed(self, offset: int) -> None:
        self._report(Report(offset))

    def failed(self, error: str) -> None:
        self._report(Report(None, error))

    def _report(self, report: Report) -> None:
        if not self._closed:
            self._reports.append(report)
            self._signal.set()


class EmbeddedInboxReader:
    """The inbox partitions of one handle (`partitions.ports.TopicReader`)."""

    def __init__(self, hub: EmbeddedHub, signal: Signal) -> None:
        self._hub = hub
        self._signal = signal
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()
        hub.watch_inbox(self._watch)

    def open(self, partition: int, offset: int) -> None:
        self._positions[partition] = max(offset, self._hub.span(INBOX, partition).start)
        self._paused.discard(partition)

    def close(self, partition: int) -> None:
        self._positions.pop(partition, None)
        self._paused.discard(partition)

    def pause(self, partition: int) -> None:
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)

    def take(self, records_max: int) -> Sequence[tuple[int, LogRecord]]:
        taken: list[tuple[int, LogRecord]] = []
        for partition, position in self._positions.items():
            if partition in self._paused or self._hub.tail(partition).end <= position:
                continue
            records = self._read(partition, position, records_max - len(taken))
            if records:
                # In place: no key is added or removed while the loop runs.
                self._positions[partition] = records[-1].offset + 1
                taken.extend([(partition, record) for record in records])
        return taken

    def take_faults(self) -> Sequence[tuple[int, LogTruncated]]:
        """The directory is this process's alone: what was there stays there."""
        return ()

    @property
    def has_records(self) -> bool:
        return any(
            self._hub.tail(partition).end > at
            for partition, at in self._positions.items()
            if partition not in self._paused
        )

    def leave(self) -> None:
        self._hub.unwatch(self._watch)

    def _watch(self, partition: int) -> None:
        if partition in self._positions:
            self._signal.set()

    def _read(self, partition: int, position: int, count: int) -> Sequence[LogRecord]:
        records = self._hub.tail(partition).take(position, count)
        if records is not None:
            return records
        span = self._hub.span(INBOX, partition)
        start = max(position, span.start)
        return list(self._hub.journal(INBOX).read(partition, start, min(start + count, span.end)))


class _Delivery:
    """One record's `delivered`, on its way back to the thread of its handle."""

    __slots__ = ("_delivered", "_publisher")

    def __init__(self, publisher: "EmbeddedPublisher", delivered: Delivered | None) -> None:
        self._publisher = publisher
        self._delivered = delivered

    def landed(self, _: int, /) -> None:
        self._publisher.settle(self._delivered, None)

    def failed(self, error: str) -> None:
        self._publisher.settle(self._delivered, error)


class EmbeddedPublisher:
    """What one handle sends outside the history (`partitions.ports.Publisher`). Any thread may publish."""

    def __init__(self, hub: EmbeddedHub, signal: Signal) -> None:
        self._hub = hub
        self._signal = signal
        self._lock = Lock()
        self._outstanding = 0
        self._settled: deque[tuple[Delivered, str | None]] = deque()

    def publish_inbox(self, partition: int, key: str, value: bytes, delivered: Delivered | None = None) -> None:
        self._send(INBOX, partition, key, value, delivered)

    def publish_reply(self, partition: int, key: str, value: bytes) -> None:
        self._hub.send_reply(partition, key, value)

    def publish_dead_letter(
        self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]], delivered: Delivered | None = None
    ) -> None:
        self._send(DEAD_LETTER, 0, key, value, delivered, headers)

    def flush(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while self._outstanding and (left := deadline - time.monotonic()) > 0:
            self._signal.wait(left)
            self.serve()
        self.serve()

    def serve(self) -> None:
        """Call what waits to hear of its delivery."""
        while self._settled:
            delivered, error = self._settled.popleft()
            delivered(error)

    def settle(self, delivered: Delivered | None, error: str | None) -> None:
        """Called on the flusher's thread, in order."""
        if delivered is not None:
            self._settled.append((delivered, error))
        with self._lock:
            self._outstanding -= 1
        self._signal.set()

    def _send(
        self,
        topic: str,
        partition: int,
        key: str,
        value: bytes,
        delivered: Delivered | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        with self._lock:
            self._outstanding += 1
        limit = LETTER_BYTES_MAX if topic == DEAD_LETTER else RECORD_BYTES_MAX
        if len(value) > limit:
            self.settle(delivered, f"the record has {len(value)} bytes, the log takes {limit}")
            return
        try:
            self._hub.send(topic, partition, key, value, _Delivery(self, delivered), headers)
        except BufferFull:
            with self._lock:
                self._outstanding -= 1
            raise


class EmbeddedReplies:
    """A client's side (`partitions.ports.ReplyReader`)."""

    def __init__(self, hub: EmbeddedHub, partition: int) -> None:
        self.partition = partition
        self._hub = hub
        self._signal = Signal()
        self._replies: deque[LogRecord] = deque()
        hub.watch_replies(self._watch)

    def take(self, timeout_seconds: float) -> Sequence[LogRecord]:
        if not self._replies:
            self._signal.wait(timeout_seconds)
        return [self._replies.popleft() for _ in range(len(self._replies))]

    def close(self) -> None:
        self._hub.unwatch(self._watch)

    def _watch(self, partition: int, reply: LogRecord) -> None:
        if partition == self.partition:
            self._replies.append(reply)
            self._signal.set()


class EmbeddedLog:
    """One handle on a hub. `wait`, `take_...` and the inbox belong to one thread."""

    def __init__(self, hub: EmbeddedHub, *, owns_hub: bool = False) -> None:
        self._hub = hub
        self._owns_hub = owns_hub
        self._signal = Signal()
        self._writers: list[EmbeddedHistoryWriter] = []
        self.identity: HubIdentity = hub.identity
        self.inbox = EmbeddedInboxReader(hub, self._signal)
        self.publisher = EmbeddedPublisher(hub, self._signal)
        self.tail = None
        self.snapshots = None  # its stores lie in the same directory, and are as safe
        self.record_bytes_max = RECORD_BYTES_MAX

    @classmethod
    def open(cls, directory: Path, *, hub: str = "dev", partition_count: int | None = None) -> "EmbeddedLog":
        """Open or create a hub in `directory`; closing the log closes it. Raises LogLocked, HubRefused, LogCorrupt, LogUnavailable."""
        return cls(EmbeddedHub(directory, hub=hub, partition_count=partition_count), owns_hub=True)

    @staticmethod
    def open_reader(directory: Path) -> EmbeddedReader:
        """Read what is there now, beside the process that has the hub open, if any. Raises HubMissing, HubRefused, LogCorrupt."""
        return EmbeddedReader(directory)

    def share(self) -> "EmbeddedLog":
        """Return another handle on the same hub, for another thread: a client in the process of its hub."""
        return EmbeddedLog(self._hub)

    def open_history(self, partition: int) -> EmbeddedHistoryWriter:
        self._writers = [writer for writer in self._writers if not writer.closed]
        writer = EmbeddedHistoryWriter(self._hub, partition, self._signal)
        self._writers.append(writer)
        return writer

    def read_history(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        return self._hub.journal(HISTORY).read(partition, start, end)

    def span_history(self, partition: int) -> LogSpan:
        return self._hub.span(HISTORY, partition)

    def span_inbox(self, partition: int) -> LogSpan:
        return self._hub.span(INBOX, partition)

    def stable_inbox_end(self, partition: int) -> int:
        """There are no transactions."""
        return self.span_inbox(partition).end

    def trim_inbox(self, partition: int, before: int) -> None:
        self._hub.trim(INBOX, partition, before)

    def trim_history(self, partition: int, before: int) -> None:
        self._hub.trim(HISTORY, partition, before)

    def check_identity(self) -> None:
        """The directory is this process's alone."""

    def read_clock_ms(self) -> int:
        return self._hub.read_clock_ms()

    def wait(self, timeout_seconds: float) -> None:
        self.publisher.serve()
        if not self.inbox.has_records and not any(writer.has_reports for writer in self._writers):
            self._signal.wait(timeout_seconds)
            self.publisher.serve()

    def wake(self) -> None:
        self._signal.set()

    def open_replies(self, client_id: str) -> EmbeddedReplies:
        return EmbeddedReplies(self._hub, partition_of(client_id, self.identity.partition_count))

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self.inbox.leave()
        if self._owns_hub:
            self._hub.close()
