"""A topic on Kafka as it grows: one consumer for all partitions that this process reads, by manual assignment (R6)."""

from collections import deque
from collections.abc import Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from ..ports import LogRecord, LogSpan, LogTruncated, LogUnavailable, beyond_end
from .batches import find_batch_end, is_packed_up
from .history import span_of
from .records import record_of
from .refusals import concerns_reader, describe_refusal, is_unauthorized
from .settings import KafkaSettings
from .stalls import StallWatch, close_consumer

_log = structlog.get_logger("perdure.kafka")


class KafkaTopicReader:
    """The partitions of one topic (`partitions.ports.TopicReader`). `committed`: the inbox is read so, the history not (R9)."""

    def __init__(self, settings: KafkaSettings, topic: str, *, committed: bool) -> None:
        self._settings = settings
        self._topic = topic
        self._committed = committed
        self._consumer: Consumer | None = None
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()
        # What `poll` found while it waited, for the next `take`.
        self._held: deque[Message] = deque()
        self._faults: list[tuple[int, LogTruncated]] = []
        self._stalls = StallWatch(settings, topic, committed=committed)

    def open(self, partition: int, offset: int) -> None:
        consumer = self._reader()
        if partition in self._positions:
            self.close(partition)
        self._positions[partition] = offset
        consumer.incremental_assign([TopicPartition(self._topic, partition, offset)])

    def read_end(self, partition: int, settings: KafkaSettings) -> int:
        """Ask where reading stops now: for one that reads committed records that is the last stable offset."""
        return span_of(self._reader(), settings, self._topic, partition).end

    def _reader(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._settings.reader(committed=self._committed, ends=False)
        return self._consumer

    def close(self, partition: int) -> None:
        if self._consumer is not None and partition in self._positions:
            # The client remembers a pause, and a partition that is opened again would never be read.
            self.resume(partition)
            del self._positions[partition]
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
            self._held = deque(message for message in self._held if message.partition() != partition)

    def pause(self, partition: int) -> None:
        if self._consumer is not None and partition in self._positions and partition not in self._paused:
            self._consumer.pause([TopicPartition(self._topic, partition)])
            self._paused.add(partition)
            self._return_held(partition)

    def resume(self, partition: int) -> None:
        if self._consumer is not None and partition in self._paused:
            self._paused.discard(partition)
            self._consumer.resume([TopicPartition(self._topic, partition)])

    def take(self, records_max: int) -> Sequence[tuple[int, LogRecord]]:
        if self._consumer is None:
            return ()
        if self._stalls.is_due:
            self._replace_stalled()
        # Also where nothing is open: the client tells of its troubles there too, and what is held ends every wait.
        messages = [self._held.popleft() for _ in range(min(len(self._held), records_max))]
        if self._positions and len(messages) < records_max:
            messages += self._consumer.consume(records_max - len(messages), 0)
        taken: list[tuple[int, LogRecord]] = []
        for message in messages:
            partition = message.partition()
            if (error := message.error()) is not None:
                if self._committed and partition in self._positions and is_packed_up(error):
                    taken.extend(self._pass_over(partition, error))
                else:
                    self._take_error(partition, error)
                continue
            record = record_of(message)
            # What the client had fetched before a close, pause or reopening is not for us.
            if partition is not None and record.offset >= self._positions.get(partition, record.offset + 1):
                self._positions[partition] = record.offset + 1
                taken.append((partition, record))
        return taken

    def take_faults(self) -> Sequence[tuple[int, LogTruncated]]:
        faults, self._faults = self._faults, []
        return faults

    @property
    def is_open(self) -> bool:
        return bool(self._positions)

    @property
    def has_records(self) -> bool:
        return bool(self._held)

    def poll(self, timeout_seconds: float) -> bool:
        """Block until the first record; true if there is one for `take`."""
        if self._consumer is None or self._held:
            return bool(self._held)
        message = self._consumer.poll(timeout_seconds)
        if message is not None:
            self._held.append(message)
        return message is not None

    def leave(self) -> None:
        self._stalls.close()
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._positions.clear()

    def _replace_stalled(self) -> None:
        """Have another consumer go on where this one stands still."""
        read = {partition: at for partition, at in self._positions.items() if partition not in self._paused}
        if not self._stalls.is_stalled(read) or self._consumer is None:
            return
        _log.warning("reader stalled; another takes its place", topic=self._topic, offsets=read)
        close_consumer(self._consumer)
        self._consumer = None
        self._held.clear()  # none of it was taken
        where = [TopicPartition(self._topic, partition, at) for partition, at in self._positions.items()]
        self._reader().incremental_assign(where)
        if self._paused:
            self._reader().pause([TopicPartition(self._topic, partition) for partition in self._paused])

    def _return_held(self, partition: int) -> None:
        """Put back what was polled before a pause: read it again after the resume."""
        returned = [message for message in self._held if message.partition() == partition]
        if returned and self._consumer is not None:
            self._held = deque(message for message in self._held if message.partition() != partition)
            self._consumer.seek(TopicPartition(self._topic, partition, self._positions[partition]))

    def _take_error(self, partition: int | None, error: KafkaError) -> None:
        if (
            error.code() == KafkaError._AUTO_OFFSET_RESET
            and partition in self._positions
            and self._consumer is not None
        ):
            self._restart(partition)
        elif not concerns_reader(error):
            return
        elif is_unauthorized(error):
            why = describe_refusal(error, self._settings.servers)
            _log.error("topic refused", topic=self._topic, partition=partition, error=why)
        else:
            # The client goes on by itself; a trouble that lasts shows as the inbox's lag.
            _log.warning("topic trouble", topic=self._topic, partition=partition, error=error.str())

    def _pass_over(self, partition: int, error: KafkaError) -> Sequence[tuple[int, LogRecord]]:
        """A record without a value in the place of a batch that nobody can unpack, so that what stands behind it is read."""
        first = self._positions[partition]
        try:
            end = self.read_end(partition, self._settings)
            behind = find_batch_end(self._settings, self._topic, partition, first, end)
        except LogUnavailable as trouble:  # the client tries again by itself
            _log.warning("topic trouble", topic=self._topic, partition=partition, error=str(trouble))
            return ()
        if behind == first:
            return ()
        _log.error(
            "batch passed over", topic=self._topic, partition=partition, start=first, end=behind, error=error.str()
        )
        self._open_again(partition, behind)
        return ((partition, LogRecord(behind - 1, None, None, 0)),)

    def _open_again(self, partition: int, offset: int) -> None:
        paused = partition in self._paused
        self.open(partition, offset)
        if paused:
            self.pause(partition)

    def _restart(self, partition: int) -> None:
        """Go on from the log's start where the position is below it; beyond the end something was lost, and that is for the caller."""
        assert self._consumer is not None
        position = self._positions[partition]
        try:
            span = span_of(self._consumer, self._settings, self._topic, partition)
        except LogUnavailable as error:
            _log.warning("topic trouble", topic=self._topic, partition=partition, error=str(error))
            span = LogSpan(0, position)  # the same again, until the brokers say something else
        if position > span.end:
            self.close(partition)
            where = f"topic {self._topic}, partition {partition}"
            self._faults.append((partition, LogTruncated(beyond_end(where, position, span.end))))
            return
        if position < span.start:
            _log.error("topic records gone", topic=self._topic, partition=partition, start=position, end=span.start)
        self._open_again(partition, max(position, span.start))
