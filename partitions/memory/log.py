"""The adversarial log in memory (`partitions.ports.Log`), for simulation and tests: deterministic, without threads.

Several `MemoryLog`s over one `MemoryHub` are several processes on one broker; to kill one is to `close` it.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from ..partitioner import partition_of
from ..ports import (
    BufferFull,
    Delivered,
    HubIdentity,
    HubRefused,
    LogRecord,
    LogSpan,
    LogTruncated,
    Report,
    beyond_end,
    replaced_hub,
)
from .faults import DEAD_LETTER, HISTORY, INBOX, REPLIES, SNAPSHOTS
from .hub import Landed, Lane, MemoryHub, Sender


class MemoryHistoryWriter:
    """The append side of one history partition (`partitions.ports.HistoryWriter`)."""

    def __init__(self, hub: MemoryHub, partition: int, sender: Sender) -> None:
        self._hub = hub
        self._partition = partition
        self._lane: Lane | None = hub.open_lane(HISTORY, partition, sender)
        self._reports: list[Report] = []

    def append(self, key: str, value: bytes) -> None:
        assert self._lane is not None, "the writer is closed"
        if len(self._lane) >= self._hub.in_flight_max or self._hub.faults.take_refusal(HISTORY, self._partition):
            raise BufferFull
        if len(value) > self._hub.record_bytes_max:
            self._reports.append(
                Report(None, f"the record has {len(value)} bytes, the log takes {self._hub.record_bytes_max}")
            )
            return
        self._lane.send(key, value, self._take_landing)

    def _take_landing(self, offset: int | None, error: str | None) -> None:
        self._reports.append(Report(offset, error))

    def take_reports(self) -> Sequence[Report]:
        self._hub.poll()
        reports, self._reports = self._reports, []
        return reports

    @property
    def has_reports(self) -> bool:
        return bool(self._reports)

    def close(self) -> None:
        if self._lane is not None:
            self._hub.close_lane(self._lane, HISTORY, self._partition)
            self._lane = None
            self._reports = []


class MemoryTopicReader:
    """The partitions of one topic that one process reads (`partitions.ports.TopicReader`)."""

    def __init__(self, hub: MemoryHub, topic: str) -> None:
        self._hub = hub
        self._topic = topic
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()

    def open(self, partition: int, offset: int) -> None:
        self._positions[partition] = max(offset, self._hub.span(self._topic, partition).start)
        self._paused.discard(partition)

    def close(self, partition: int) -> None:
        self._positions.pop(partition, None)
        self._paused.discard(partition)

    def pause(self, partition: int) -> None:
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)

    def take(self, records_max: int) -> Sequence[tuple[int, LogRecord]]:
        self._hub.poll()
        taken: list[tuple[int, LogRecord]] = []
        room = self._hub.faults.take_short_read(records_max)
        for partition, position in self._readable():
            records = self._hub.journal(self._topic, partition).read_some(position, room - len(taken))
            if records:
                self._positions[partition] = records[-1].offset + 1
                taken.extend((partition, record) for record in records)
        return taken

    def take_faults(self) -> Sequence[tuple[int, LogTruncated]]:
        faults: list[tuple[int, LogTruncated]] = []
        for partition, position in self._readable():
            end = self._hub.journal(self._topic, partition).end
            if position > end:
                faults.append((partition, LogTruncated(beyond_end(f"{self._topic} {partition}", position, end))))
        for partition, _ in faults:
            self.close(partition)
        return faults

    @property
    def has_records(self) -> bool:
        return any(
            self._hub.journal(self._topic, partition).read_some(position, 1) for partition, position in self._readable()
        )

    def _readable(self) -> list[tuple[int, int]]:
        return (
            [] if self._hub.unavailable else [each for each in self._positions.items() if each[0] not in self._paused]
        )


class MemoryPublisher:
    """What one process sends outside the history (`partitions.ports.Publisher`)."""

    def __init__(self, hub: MemoryHub, sender: Sender) -> None:
        self._hub = hub
        self._sender = sender
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._deliveries: deque[tuple[Delivered, str | None]] = deque()

    def publish_inbox(self, partition: int, key: str, value: bytes, delivered: Delivered | None = None) -> None:
        self._send(INBOX, partition, delivered).send(key, value, self._landing(delivered))

    def publish_reply(self, partition: int, key: str, value: bytes) -> None:
        self._send(REPLIES, partition, None).send(key, value, None)

    def publish_dead_letter(
        self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]], delivered: Delivered | None = None
    ) -> None:
        self._send(DEAD_LETTER, 0, delivered).send(key, value, self._landing(delivered), headers)

    def publish_snapshot(self, partition: int, key: str, value: bytes | None, delivered: Delivered) -> None:
        self._send(SNAPSHOTS, partition, delivered).send(key, value, self._landing(delivered))

    def flush(self, timeout_seconds: float) -> None:
        """Deliver all; a step stands for a millisecond of the time-out."""
        for _ in range(max(1, int(timeout_seconds * 1000))):
            self._hub.poll()
            self.serve()
            if not any(map(len, self._lanes.values())):
                return

    def serve(self) -> bool:
        """Call what waits to hear of its delivery; true if there was any."""
        served = bool(self._deliveries)
        for _ in range(len(self._deliveries)):
            delivered, error = self._deliveries.popleft()
            delivered(error)
        return served

    def close(self) -> None:
        for (topic, partition), lane in self._lanes.items():
            self._hub.close_lane(lane, topic, partition)
        self._lanes.clear()
        self._deliveries.clear()

    def _send(self, topic: str, partition: int, delivered: Delivered | None) -> Lane:
        # Only a caller that hears of its delivery can be expected to try again.
        if delivered is not None and self._hub.faults.take_refusal(topic, partition):
            raise BufferFull
        if (topic, partition) not in self._lanes:
            self._lanes[topic, partition] = self._hub.open_lane(topic, partition, self._sender)
        return self._lanes[topic, partition]

    def _landing(self, delivered: Delivered | None) -> Landed | None:
        if delivered is None:
            return None
        return lambda _, error: self._deliveries.append((delivered, error))


class MemorySnapshots:
    """The snapshots of all partitions (`partitions.ports.SnapshotTopic`), as one process sees them."""

    def __init__(self, hub: MemoryHub, publisher: MemoryPublisher) -> None:
        self._hub = hub
        self._publisher = publisher
        self.record_bytes_max = hub.record_bytes_max

    def publish(self, partition: int, key: str, value: bytes | None, delivered: Delivered) -> None:
        self._publisher.publish_snapshot(partition, key, value, delivered)

    def span(self, partition: int) -> LogSpan:
        return self._hub.span(SNAPSHOTS, partition)

    def read(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        self._hub.check()
        yield from self._hub.journal(SNAPSHOTS, partition).read(start, end)


class MemoryReplies:
    """A client's side (`partitions.ports.ReplyReader`)."""

    def __init__(self, hub: MemoryHub, partition: int) -> None:
        self.partition = partition
        self._hub = hub
        self._position = hub.journal(REPLIES, partition).end

    def take(self, timeout_seconds: float) -> Sequence[LogRecord]:
        journal = self._hub.journal(REPLIES, self.partition)
        self._hub.poll()
        if journal.end <= self._position and self._hub.advance is not None:
            self._hub.advance(timeout_seconds)
        records = journal.read(self._position, journal.end)
        self._position = journal.end
        return records

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryLog:
    """One process's handle on the hub (`partitions.ports.Log`). `close` is also its sudden death; while it is `stalled`, nothing
    that it sent arrives."""

    def __init__(self, hub: MemoryHub) -> None:
        self._hub = hub
        self.stalled = False
        self.identity: HubIdentity = hub.identity
        self.inbox = MemoryTopicReader(hub, INBOX)
        self.tail = MemoryTopicReader(hub, HISTORY)
        self.publisher = MemoryPublisher(hub, self)
        self.snapshots = MemorySnapshots(hub, self.publisher)
        self.record_bytes_max = hub.record_bytes_max
        self._writers: list[MemoryHistoryWriter] = []
        self._woken = False

    def open_history(self, partition: int) -> MemoryHistoryWriter:
        writer = MemoryHistoryWriter(self._hub, partition, self)
        self._writers.append(writer)
        return writer

    def read_history(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        span = self.span_history(partition)
        if start < span.start or end > span.end:
            raise LogTruncated(
                f"history {partition}: [{start}, {end}) was asked for, [{span.start}, {span.end}) is there"
            )
        yield from self._hub.journal(HISTORY, partition).read(start, end)

    def span_history(self, partition: int) -> LogSpan:
        return self._hub.span(HISTORY, partition)

    def span_inbox(self, partition: int) -> LogSpan:
        return self._hub.span(INBOX, partition)

    def stable_inbox_end(self, partition: int) -> int:
        self._hub.check()
        return self._hub.journal(INBOX, partition).stable_end

    def trim_inbox(self, partition: int, before: int) -> None:
        self._hub.journal(INBOX, partition).trim(before)

    def trim_history(self, partition: int, before: int) -> None:
        self._hub.journal(HISTORY, partition).trim(before)

    def check_identity(self) -> None:
        self._hub.check()
        if self.identity != self._hub.identity:
            raise HubRefused(
                replaced_hub(
                    self.identity, "history", self.identity.history_topic_id, self._hub.identity.history_topic_id
                )
            )

    def read_clock_ms(self) -> int:
        self._hub.check()
        return self._hub.clock.wall_ms()

    def wait(self, timeout_seconds: float) -> None:
        """Make a step; let virtual time go on if nothing is there. Never blocks."""
        self._hub.poll()
        there = (
            self.publisher.serve()
            or self._woken
            or self.inbox.has_records
            or self.tail.has_records
            or any(writer.has_reports for writer in self._writers)
        )
        self._woken = False
        if not there and timeout_seconds > 0 and self._hub.advance is not None:
            self._hub.advance(timeout_seconds)

    def wake(self) -> None:
        self._woken = True

    def open_replies(self, client_id: str) -> MemoryReplies:
        return MemoryReplies(self._hub, partition_of(client_id, self.identity.partition_count))

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        self.publisher.close()
