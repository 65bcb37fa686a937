"""The log on Kafka (`partitions.ports.Log`): one process's clients of one hub, driven by one thread."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress

import structlog
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ..partitioner import partition_of
from ..ports import HubIdentity, HubRefused, LogRecord, LogSpan, LogUnavailable
from .admin import HubDescription, check_same_topics, check_topics, describe_hub
from .answers import AWAY
from .history import LINGER_MS, KafkaHistoryWriter, TopicReads, let_go
from .publisher import KafkaPublisher
from .replies import KafkaReplies
from .rights import Role
from .settings import MESSAGE_BYTES_DEFAULT, RECORD_OVERHEAD_BYTES, KafkaSettings
from .silence import Silence
from .snapshots import KafkaSnapshots
from .spares import SPARES_MAX, SpareProducers
from .stalls import close_admin
from .topic_reader import KafkaTopicReader

_log = structlog.get_logger("perdure.kafka")

# A wait blocks in one client at a time, and none of librdkafka's can be woken from outside. So it blocks where the next event is
# expected and looks at the others in between: often at first, and ever more seldom while nothing happens, so that what another
# thread wakes us for is seen after at most an eighth of the time for which it was quiet, and an idle process looks 50 times a
# second. A client counts whole milliseconds: with less it does not block at all.
REPORT_SLICE_SECONDS = 0.001
IDLE_SLICE_SECONDS = 0.02
QUIET_FRACTION = 8
READY_SECONDS_MAX = 2.0


class KafkaLog:
    """One process's handle on a hub. All but `wake` and publishing belongs to one thread."""

    def __init__(
        self, settings: KafkaSettings, identity: HubIdentity, admin: AdminClient, *, letter_bytes_max: int = 0
    ) -> None:
        """Without `letter_bytes_max`, the largest record of the dead letters' topic, it is a client's."""
        client = not letter_bytes_max
        self.identity = identity
        # A client may not see the topics' settings, so it takes no more of them for granted than they have by themselves.
        largest = min(settings.record_bytes_max, MESSAGE_BYTES_DEFAULT) if client else settings.record_bytes_max
        self.record_bytes_max = largest - RECORD_OVERHEAD_BYTES
        self.inbox = KafkaTopicReader(settings, settings.topics.inbox, committed=True)
        self.tail = KafkaTopicReader(settings, settings.topics.history, committed=False)
        # A client's requests carry ids, so one that lands twice does nothing; and its first one does not wait for an idempotent producer.
        self.publisher = KafkaPublisher(settings, idempotent=not client, letter_bytes_max=letter_bytes_max)
        self._settings = settings
        self._admin = admin
        self._admin_silence = Silence()
        self._opened: HubDescription | None = None
        self._reads = TopicReads(settings)
        self.snapshots = KafkaSnapshots(settings, self._reads)
        self._writers: list[KafkaHistoryWriter] = []
        self._spares = SpareProducers(self._ready_producer, self._history_producer, let_go)
        self._spares.keep(0 if client else min(SPARES_MAX, identity.partition_count))
        self._woken = False
        self._eventful = time.monotonic()

    @classmethod
    def open(cls, settings: KafkaSettings, *, partition_count: int | None = None) -> "KafkaLog":
        """Find the hub and check its topics. Raises HubMissing, HubRefused, LogRefused and LogUnavailable, within bounded time."""
        admin = settings.admin()
        hub = describe_hub(settings, Role.WORKER, admin)
        count = hub.identity.partition_count
        if partition_count not in (None, count):
            raise HubRefused(
                f"hub {settings.hub!r} has {count} partitions, not {partition_count}; a hub's partition count never changes"
            )
        check_topics(settings, hub)
        letters = hub.topic(settings.topics.dead_letter).settings
        log = cls(settings, hub.identity, admin, letter_bytes_max=int(letters["max.message.bytes"]))
        log._opened = hub
        return log

    @classmethod
    def open_client(cls, settings: KafkaSettings) -> "KafkaLog":
        """Find the hub for a client, which sees inbox and replies and nothing else. Raises as `open` does."""
        return cls._open_beside(settings, Role.CLIENT)

    @classmethod
    def open_reader(cls, settings: KafkaSettings) -> "KafkaLog":
        """Find the hub for an auditor, who reads the history and nothing else. Raises as `open` does."""
        return cls._open_beside(settings, Role.AUDITOR)

    @classmethod
    def _open_beside(cls, settings: KafkaSettings, role: Role) -> "KafkaLog":
        admin = settings.admin()
        hub = describe_hub(settings, role, admin)
        log = cls(settings, hub.identity, admin)
        log._opened = hub
        return log

    def open_history(self, partition: int) -> KafkaHistoryWriter:
        if any(writer.timed_out for writer in self._writers):
            # The brokers were away: what was made before may never hear of them again (stalls.py).
            self._spares.renew()
            for writer in self._writers:
                writer.timed_out = False
        self._writers = [writer for writer in self._writers if not writer.closed]
        writer = KafkaHistoryWriter(self._spares.take(), self._settings.topics.history, partition)
        self._writers.append(writer)
        return writer

    def _history_producer(self) -> Producer:
        return self._settings.producer(linger_ms=LINGER_MS)

    def _ready_producer(self) -> Producer:
        producer = self._history_producer()
        # Where a connection is there early, its number comes at once; and its first append finds the partition's leader known.
        with suppress(KafkaException):
            producer.list_topics(self._settings.topics.history, timeout=READY_SECONDS_MAX)
        return producer

    def read_history(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        return self._reads.read(self._settings.topics.history, partition, start, end)

    def span_history(self, partition: int) -> LogSpan:
        return self._reads.span(self._settings.topics.history, partition)

    def span_inbox(self, partition: int) -> LogSpan:
        return self._reads.span(self._settings.topics.inbox, partition)

    def stable_inbox_end(self, partition: int) -> int:
        with self._reads.patience.asking() as settings:
            return self.inbox.read_end(partition, settings)

    def trim_inbox(self, partition: int, before: int) -> None:
        self._trim(self._settings.topics.inbox, partition, before)

    def trim_history(self, partition: int, before: int) -> None:
        self._trim(self._settings.topics.history, partition, before)

    def _trim(self, topic: str, partition: int, before: int) -> None:
        self._renew_admin()
        futures = self._admin.delete_records(
            [TopicPartition(topic, partition, before)], request_timeout=self._settings.request_seconds_max
        )

        def hear(done: "Future[object]") -> None:
            """Trimmed again with the next checkpoint, so that a failure costs space only."""
            error = done.exception()
            if error is None:
                self._admin_silence.break_off()
                return
            if isinstance(error, KafkaException) and error.args[0].code() in AWAY:
                self._admin_silence.note_timeout(self._settings.request_seconds_max)
            _log.warning("topic not trimmed", topic=topic, partition=partition, error=str(error))

        for future in futures.values():
            future.add_done_callback(hear)

    def _renew_admin(self) -> None:
        """Ask another client from now on, where this one may have stalled."""
        if self._admin_silence.is_stalled:
            close_admin(self._admin)
            self._admin, self._admin_silence = self._settings.admin(), Silence()

    def check_identity(self) -> None:
        if self._opened is None:
            return
        with self._reads.patience.asking() as settings:
            try:
                check_same_topics(settings, self._admin, self._opened)
            except LogUnavailable:
                self._admin_silence.note_timeout(self._settings.request_seconds_max)
                self._renew_admin()
                raise
        self._admin_silence.break_off()

    def read_clock_ms(self) -> int:
        with self._reads.patience.asking() as settings:
            return self.publisher.read_clock_ms(settings.request_seconds_max)

    def wait(self, timeout_seconds: float) -> None:
        now = time.monotonic()
        deadline = now + timeout_seconds
        while not self._look(min(self._slice(now), max(deadline - now, 0))):
            now = time.monotonic()
            if now >= deadline:
                return
        self._eventful = time.monotonic()

    def wake(self) -> None:
        self._woken = True

    def open_replies(self, client_id: str) -> KafkaReplies:
        return KafkaReplies(self._settings, partition_of(client_id, self.identity.partition_count), client_id)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        self._spares.close()
        self.inbox.leave()
        self.tail.leave()
        self.publisher.close()
        self.snapshots.close()
        self._reads.close()

    def _slice(self, now: float) -> float:
        quiet = (now - self._eventful) / QUIET_FRACTION
        return min(max(quiet, REPORT_SLICE_SECONDS), IDLE_SLICE_SECONDS)

    def _look(self, slice_seconds: float) -> bool:
        """Serve every client once and block in one of them; true if there is anything for the caller."""
        if self._woken:
            self._woken = False
            return True
        there = self.publisher.poll(0) or self.inbox.has_records
        there = self.snapshots.poll() or self.tail.poll(0) or there
        awaited: KafkaHistoryWriter | None = None
        for writer in self._writers:
            if writer.in_flight:
                there = writer.poll(0) or there
                awaited = writer
        if there:
            return True
        if awaited is not None:
            return self.inbox.poll(0) or awaited.poll(min(slice_seconds, REPORT_SLICE_SECONDS))
        if self.publisher.in_flight or not self.inbox.is_open:
            return self.inbox.poll(0) or self.publisher.poll(
                min(slice_seconds, REPORT_SLICE_SECONDS) if self.inbox.is_open else slice_seconds
            )
        return self.inbox.poll(slice_seconds)
