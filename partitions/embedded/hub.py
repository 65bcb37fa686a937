"""The embedded hub: what a broker is to the Kafka log. One flusher thread makes durable, in groups, what any thread sends.

Rules of this file: offsets are given out under the lock, in the order of the queue; nothing is seen or reported before it is
synced; the flusher does no work per record that its sender can do. What the disk refuses is reported and leaves no hole:
whoever sends next gets the same offset.
"""

import errno
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import Protocol

import structlog

from ..ports import BufferFull, Clock, HubIdentity, LogRecord, LogSpan, LogUnavailable
from ..private import make_private
from .directory import lock_directory, open_hub_file
from .frames import Entry, EntryKind
from .journal import SEGMENT_BYTES, Journal
from .signal import Signal
from .tail import Tail

HISTORY = "history"
INBOX = "inbox"
DEAD_LETTER = "dead-letter"
REPLIES = "replies"
# Room for a payload of the largest size (actors/limits.py) with its envelope, as on Kafka.
# What stands in a hub's directory: its own, and the stores and the state file of the process that runs it.
CONTENT = ("hub.json*", "lock", HISTORY, INBOX, DEAD_LETTER, "stores", "dev.*", "worker-*")
RECORD_BYTES_MAX = 1_048_576
QUEUE_BYTES_MAX = 64 << 20
BATCH_BYTES_MAX = 8 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_log = structlog.get_logger("perdure.embedded")


class Sink(Protocol):
    """Who hears of a record; called on the flusher's thread."""

    def landed(self, offset: int, /) -> None: ...

    def failed(self, error: str, /) -> None: ...


InboxWatcher = Callable[[int], None]
ReplyWatcher = Callable[[int, LogRecord], None]


class WallClock:
    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class Topic:
    """A journal, what waits to be written to it, and where its partitions will stand then."""

    def __init__(self, journal: Journal, partition_count: int) -> None:
        self.journal = journal
        self.ends = [journal.span(partition).end for partition in range(partition_count)]
        self.queue: list[tuple[Entry, Sink | None]] = []

    def take_batch(self) -> list[tuple[Entry, Sink | None]]:
        """Take from the front of the queue what one batch holds."""
        size = 0
        for count, (entry, _) in enumerate(self.queue, 1):
            size += len(entry.value or b"")
            if size >= BATCH_BYTES_MAX:
                batch, self.queue = self.queue[:count], self.queue[count:]
                return batch
        batch, self.queue = self.queue, []
        return batch


class EmbeddedHub:
    """The topics of one directory, for all logs of this process. Any thread may call anything but `close`."""

    def __init__(
        self,
        directory: Path,
        *,
        hub: str = "dev",
        partition_count: int | None = None,
        clock: Clock | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Open or create. Raises LogLocked, HubRefused, NotPrivate, LogCorrupt, LogUnavailable."""
        self.directory = directory
        try:
            make_private(directory, CONTENT)
            self._directory_lock = lock_directory(directory)
            try:
                self.identity: HubIdentity = open_hub_file(directory, hub, partition_count).identity
                self._topics = _open_topics(directory, self.identity.partition_count, segment_bytes)
            except BaseException:
                self._directory_lock.close()
                raise
        except OSError as error:
            raise LogUnavailable(f"cannot use the hub's directory {directory}: {error}") from error
        count = self.identity.partition_count
        self._clock = clock or WallClock()
        self._lock = Lock()
        self._tails = [Tail(self.span(INBOX, partition).end) for partition in range(count)]
        self._replies = [0] * count
        self._inbox_watchers: tuple[InboxWatcher, ...] = ()
        self._reply_watchers: tuple[ReplyWatcher, ...] = ()
        self._queued_bytes = 0
        self._failure: str | None = None
        self._closing = False
        self._work = Signal()
        self._flusher = Thread(target=self._run_flusher, name="perdure-log-flusher", daemon=True)
        self._flusher.start()

    def send(
        self,
        topic: str,
        partition: int,
        key: str,
        value: bytes,
        sink: Sink | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Queue one record. Raises BufferFull; any other trouble comes to the sink."""
        now_ms = self._clock.wall_ms()
        with self._lock:
            failure = self._failure or ("the log is closed" if self._closing else None)
            if failure is None:
                if self._queued_bytes >= QUEUE_BYTES_MAX:
                    raise BufferFull
                target = self._topics[topic]
                offset = target.ends[partition]
                target.ends[partition] = offset + 1
                entry = Entry(EntryKind.RECORD, partition, offset, now_ms, key.encode(), value, tuple(headers))
                target.queue.append((entry, sink))
                self._queued_bytes += len(value)
        if failure is None:
            self._work.set()
        elif sink is not None:
            sink.failed(failure)

    def send_reply(self, partition: int, key: str, value: bytes) -> None:
        """Hand a reply to those who read now. Replies are kept nowhere: a client of an embedded hub lives in its process."""
        with self._lock:
            offset = self._replies[partition]
            self._replies[partition] = offset + 1
        record = LogRecord(offset, key.encode(), value, self._clock.wall_ms())
        for watch in self._reply_watchers:
            watch(partition, record)

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Let go of records below `before`, soon."""
        with self._lock:
            target = self._topics[topic]
            span = target.journal.span(partition)
            if self._failure is None and not self._closing and span.start < before <= span.end:
                target.queue.append((Entry(EntryKind.TRIM, partition, before, 0), None))
        self._work.set()

    def read_clock_ms(self) -> int:
        return self._clock.wall_ms()

    def span(self, topic: str, partition: int) -> LogSpan:
        return self._topics[topic].journal.span(partition)

    def journal(self, topic: str) -> Journal:
        return self._topics[topic].journal

    def tail(self, partition: int) -> Tail:
        """The newest inbox records of a partition."""
        return self._tails[partition]

    def watch_inbox(self, watch: InboxWatcher) -> None:
        """Call `watch` with a partition when records came to it, on the flusher's thread."""
        with self._lock:
            self._inbox_watchers = (*self._inbox_watchers, watch)

    def watch_replies(self, watch: ReplyWatcher) -> None:
        """Call `watch` with each reply, on the thread that sends it."""
        with self._lock:
            self._reply_watchers = (*self._reply_watchers, watch)

    def unwatch(self, watch: InboxWatcher | ReplyWatcher) -> None:
        with self._lock:
            self._inbox_watchers = tuple(each for each in self._inbox_watchers if each != watch)
            self._reply_watchers = tuple(each for each in self._reply_watchers if each != watch)

    def close(self) -> None:
        """Make durable what is queued, and let the directory go."""
        with self._lock:
            self._closing = True
        self._work.set()
        self._flusher.join()
        for topic in self._topics.values():
            topic.journal.close()
        self._directory_lock.close()

    def _run_flusher(self) -> None:
        try:
            self._flush_until_closed()
        except Exception as error:  # noqa: BLE001 - a bug of ours; in silence everybody would wait for reports that never come
            _log.error("log flusher ended", directory=str(self.directory), exc_info=error)
            for topic in self._topics.values():
                self._fail(topic, [], error)

    def _flush_until_closed(self) -> None:
        while True:
            self._work.wait(None)
            while any(topic.queue for topic in self._topics.values()):
                for name, topic in self._topics.items():
                    if topic.queue:
                        self._flush(name, topic)
            if self._closing:
                return

    def _flush(self, name: str, topic: Topic) -> None:
        """One group commit."""
        with self._lock:
            batch = topic.take_batch()
            self._queued_bytes -= sum(len(entry.value or b"") for entry, _ in batch)
        try:
            topic.journal.append([entry for entry, _ in batch])
        except Exception as error:  # noqa: BLE001  (whatever it is, it is reported: the flusher must not die in silence)
            self._fail(topic, batch, error)
            return
        for entry, sink in batch:
            if sink is not None:
                sink.landed(entry.offset)
        if name == INBOX:
            self._show(batch)

    def _show(self, batch: Sequence[tuple[Entry, Sink | None]]) -> None:
        """Let readers have what is durable now."""
        records: dict[int, list[LogRecord]] = {}
        for entry, _ in batch:
            if entry.kind == EntryKind.RECORD:
                record = LogRecord(entry.offset, entry.key, entry.value, entry.timestamp_ms, entry.headers)
                records.setdefault(entry.partition, []).append(record)
        for partition, arrived in records.items():
            self._tails[partition].extend(arrived)
        for watch in self._inbox_watchers:
            for partition in records:
                watch(partition)

    def _fail(self, topic: Topic, batch: list[tuple[Entry, Sink | None]], error: Exception) -> None:
        """Report an append that the disk refused, and all that was queued behind it. A full disk may have room again later;
        after any other error nothing can be said of what the disk holds, so the log is read-only until it is opened anew."""
        full = isinstance(error, OSError) and error.errno in _DISK_FULL
        message = f"the log in {self.directory} cannot be written: {error}; " + (
            "free some space" if full else "it is read-only now"
        )
        with self._lock:
            batch += topic.queue
            self._queued_bytes -= sum(len(entry.value or b"") for entry, _ in topic.queue)
            topic.queue = []
            topic.ends = [topic.journal.span(partition).end for partition in range(len(topic.ends))]
            if not full:
                self._failure = message
        _log.error("append refused by the disk", directory=str(self.directory), error=str(error), records=len(batch))
        for _, sink in batch:
            if sink is not None:
                sink.failed(message)


def _open_topics(directory: Path, partition_count: int, segment_bytes: int) -> dict[str, Topic]:
    counts = {HISTORY: partition_count, INBOX: partition_count, DEAD_LETTER: 1}
    return {
        name: Topic(Journal(directory / name, count, writable=True, segment_bytes=segment_bytes), count)
        for name, count in counts.items()
    }
