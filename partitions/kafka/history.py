"""The history on Kafka: one producer for each owned partition, and reads by consumers that one read hands to the next."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ..ports import BufferFull, LogRecord, LogRefused, LogSpan, LogTruncated, LogUnavailable, Report
from .patience import Patience
from .records import error_of, record_of
from .refusals import concerns_reader, describe_refusal, is_refusal
from .reports import Sent, SentQueue
from .settings import KafkaSettings
from .stalls import end_apart

READ_RECORDS = 500
IDLE_CONSUMERS_MAX = 2
# So long a record waits for the rest of its burst, while the engine goes on deciding: a request for each part of a burst costs more
# than all else that the client does. When the engine waits, nothing lingers.
LINGER_MS = 1
_OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


class KafkaHistoryWriter:
    """The append side of one history partition (`partitions.ports.HistoryWriter`)."""

    def __init__(self, producer: Producer, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        self._producer: Producer | None = producer
        self._sent = SentQueue()
        self._lingers = False
        self.timed_out = False

    def append(self, key: str, value: bytes) -> None:
        assert self._producer is not None, "the writer is closed"
        sent = Sent()
        self._lingers = True
        try:
            self._producer.produce(self._topic, value, key, self._partition, sent)
        except BufferError:
            raise BufferFull from None
        except KafkaException as error:
            # Too large, or the producer has ended for good: the epoch is over either way.
            sent.fail(error_of(error))
        self._sent.add(sent)

    def take_reports(self) -> Sequence[Report]:
        if self._producer is None or not self._sent:
            return ()
        self._producer.poll(0)
        taken = self._sent.take()
        self.timed_out |= any(sent.timed_out for sent, _ in taken)
        return [report for _, report in taken]

    @property
    def in_flight(self) -> int:
        return len(self._sent)

    def poll(self, timeout_seconds: float) -> bool:
        """Let the client report for a while; true if something can be taken."""
        if self._producer is not None and not self._sent.has_reports:
            if self._lingers and timeout_seconds > 0:
                self._lingers = False
                self._producer.flush(timeout_seconds)
            else:
                self._producer.poll(timeout_seconds)
        return self._sent.has_reports

    @property
    def closed(self) -> bool:
        return self._producer is None

    def close(self) -> None:
        if self._producer is not None:
            let_go(self._producer)
            self._producer = None
            self._sent = SentQueue()


def let_go(producer: Producer) -> None:
    """Purge a producer and end it."""
    producer.purge(blocking=False)
    end_apart(producer.close)


class TopicReads:
    """Reading stretches of history and snapshots, read uncommitted (R9). Blocks."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._idle: list[Consumer] = []
        self.patience = Patience(settings)

    def span(self, topic: str, partition: int) -> LogSpan:
        """Ask the brokers where a partition begins and ends. Raises LogUnavailable."""
        with self.patience.asking() as settings, self._consumer() as consumer:
            return span_of(consumer, settings, topic, partition)

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        """Read what there is of [start, end). Raises LogTruncated and LogUnavailable."""
        span = self.span(topic, partition)
        if start < span.start or end > span.end:
            raise LogTruncated(
                f"topic {topic}, partition {partition}: [{start}, {end}) was asked for, [{span.start}, {span.end}) is there"
            )
        if start >= end:
            return
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(topic, partition, start)])
            yield from self._read(consumer, topic, partition, (start, end))

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        """One that nobody else has: several reads may be under way, each a batch at a time. To make one and to connect it takes longer
        than most reads. The one that was used last comes first: it was asked for the same partition, and knows its leader; one that
        does not may ask a second later."""
        consumer = self._idle.pop() if self._idle else self._settings.reader(committed=False, waits=False)
        failed = False
        try:
            yield consumer
        except Exception:
            failed = True  # it may have more to tell of this trouble
            raise
        finally:
            if failed:
                consumer.close()
            else:
                consumer.unassign()
                self._idle.append(consumer)
            if len(self._idle) > IDLE_CONSUMERS_MAX:
                self._idle.pop(0).close()

    def _read(self, consumer: Consumer, topic: str, partition: int, wanted: tuple[int, int]) -> Iterator[LogRecord]:
        (expected, end), silent_since = wanted, time.monotonic()
        while expected < end:
            for message in consumer.consume(min(READ_RECORDS, end - expected), 0.2):
                error = message.error()
                if message.topic() is not None and (message.topic(), message.partition()) != (topic, partition):
                    continue  # of the consumer's last read
                if error is None:
                    record = record_of(message)
                    if record.offset >= end:
                        return
                    expected, silent_since = record.offset + 1, time.monotonic()
                    yield record
                elif error.code() == KafkaError._PARTITION_EOF:
                    # Nothing readable stands between here and the end: markers of somebody's transaction, or what was compacted.
                    if (message.offset() or 0) >= end:
                        return
                else:
                    self._raise_trouble(error, topic, expected)
            if time.monotonic() - silent_since > self._settings.request_seconds_max:
                raise LogUnavailable(
                    f"topic {topic} at {self._settings.servers}: nothing came after offset {expected - 1} for "
                    f"{self._settings.request_seconds_max:g} s; check the brokers, or whether the partition has a leader"
                )

    def _raise_trouble(self, error: KafkaError, topic: str, expected: int) -> None:
        """Raise what an error means, unless the client goes on by itself."""
        servers = self._settings.servers
        if error.code() in _OUT_OF_RANGE:
            raise LogTruncated(f"topic {topic}: offset {expected} went while it was read: {error.str()}")
        if not concerns_reader(error):
            return
        if is_refusal(error):
            raise LogRefused(describe_refusal(error, servers))
        if error.fatal() or (not error.retriable() and error.code() not in _PASSING):
            raise LogUnavailable(f"topic {topic} at {servers} cannot be read: {error.str()}")


# The client goes on by itself; `request_seconds_max` without a record ends the wait.
_PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
)


def span_of(consumer: Consumer, settings: KafkaSettings, topic: str, partition: int) -> LogSpan:
    """Ask until there is an answer: a leader may just be changing. Raises LogRefused, LogUnavailable."""
    deadline = time.monotonic() + settings.request_seconds_max
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            start, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=left)
            return LogSpan(start, end)
        except KafkaException as error:
            reason = error_of(error)
            if is_refusal(reason):
                raise LogRefused(describe_refusal(reason, settings.servers)) from error
            if reason.code() == KafkaError._UNKNOWN_PARTITION and _has(consumer, topic, partition, left):
                reason = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
            if reason.code() == KafkaError._UNKNOWN_PARTITION:
                raise LogUnavailable(
                    f"{settings.servers} has no topic {topic} with a partition {partition}, or our credentials may not see it; `perdure hub acls` "
                    "prints the rights that each role needs"
                ) from error
            if reason.code() not in _PASSING or time.monotonic() >= deadline:
                raise LogUnavailable(
                    f"topic {topic}, partition {partition}: {settings.servers} did not say within {settings.request_seconds_max:g} s "
                    f"where it ends ({reason.str()}); check that the brokers run and the partition has a leader"
                ) from error
            time.sleep(0.02)


def _has(consumer: Consumer, topic: str, partition: int, seconds: float) -> bool:
    """Ask the brokers. The client answers that there is no such partition from what it remembers, and what a broker told that was
    just starting it would remember for minutes."""
    try:
        found = consumer.list_topics(topic, timeout=seconds).topics.get(topic)
    except KafkaException:
        return False
    return found is not None and partition in found.partitions
