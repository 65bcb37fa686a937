"""A client's side of `<hub>.replies`."""

from collections.abc import Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from ..ports import LogRecord, LogRefused
from .history import span_of
from .parts import Joining
from .records import record_of
from .refusals import concerns_reader, describe_refusal, is_unauthorized
from .settings import KafkaSettings
from .stalls import StallWatch, close_consumer

_log = structlog.get_logger("perdure.kafka")
TAKE_RECORDS = 500


class KafkaReplies:
    """`partitions.ports.ReplyReader`: from the end that the partition had when it was opened. What comes in parts is joined for
    this client alone."""

    def __init__(self, settings: KafkaSettings, partition: int, client_id: str) -> None:
        self.partition = partition
        self._key = client_id.encode()
        self._joining = Joining()
        self._settings = settings
        self._topic = settings.topics.replies
        self._stalls = StallWatch(settings, self._topic, committed=False)
        self._consumer: Consumer = settings.reader(committed=False)
        self._position = 0
        self._assign(span_of(self._consumer, settings, self._topic, partition).end)

    def take(self, timeout_seconds: float) -> Sequence[LogRecord]:
        if self._stalls.is_due and self._stalls.is_stalled({self.partition: self._position}):
            _log.warning("reader stalled; another takes its place", topic=self._topic, offset=self._position)
            close_consumer(self._consumer)
            self._consumer = self._settings.reader(committed=False)
            self._assign(self._position)
        first = self._consumer.poll(timeout_seconds)
        if first is None:
            return ()
        replies: list[LogRecord] = []
        for message in (first, *self._consumer.consume(TAKE_RECORDS - 1, 0)):
            error = message.error()
            if error is None:
                self._position = (message.offset() or 0) + 1
                if message.key() == self._key and (reply := self._joining.take(record_of(message))) is not None:
                    replies.append(reply)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                # Retention took what a client that was away for an hour had not read.
                self._consumer.unassign()
                self._assign(span_of(self._consumer, self._settings, self._topic, self.partition).start)
            elif is_unauthorized(error) and concerns_reader(error):
                # Nobody would ever be answered: whoever waits has to hear why.
                raise LogRefused(describe_refusal(error, self._settings.servers))
        return replies

    def close(self) -> None:
        self._stalls.close()
        self._consumer.close()

    def _assign(self, offset: int) -> None:
        self._position = offset
        self._consumer.assign([TopicPartition(self._topic, self.partition, offset)])
