"""Replies on their way to clients, with a producer of their own, made when it is first needed.

Replies need no order, since clients ask again. So their producer may have many requests under way: an idempotent one has none
beside five records of a partition, and spins while others wait.
"""

import time
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ..ports import BufferFull
from .answers import unavailable
from .history import let_go
from .parts import split
from .records import error_of
from .settings import KafkaSettings
from .silence import Silence

_log = structlog.get_logger("perdure.kafka")


class ReplyProducer:
    """Sends replies, and asks the brokers what time it is by one that is nobody's."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = settings.topics.replies
        self._producer: Producer | None = None
        self._silence = Silence()

    def publish(self, partition: int, key: str, value: bytes) -> None:
        """Send a reply, of which nobody waits to hear. Raises BufferFull."""
        try:
            for piece, headers in split(value):
                self._produce(piece, key, partition, self._hear, headers=headers)
        except KafkaException as error:
            _log.warning("reply not sent", topic=self._topic, error=error_of(error).str())

    def read_clock_ms(self, seconds_max: float) -> int:
        """The time with which the brokers stamp an empty reply: no request of Kafka asks for it. Raises LogUnavailable."""
        told: list[tuple[int, int] | KafkaError] = []

        def take(error: KafkaError | None, message: Message) -> None:
            told.append(message.timestamp() if error is None else error)

        try:
            producer = self._produce(b"", "clock", 0, take)
        except BufferFull:
            raise unavailable(self._settings, "the local queue is full") from None
        deadline = time.monotonic() + seconds_max
        while not told and (left := deadline - time.monotonic()) > 0:
            producer.poll(left)
        answer = told[0] if told else None
        if not isinstance(answer, tuple):
            self._silence.note_timeout(self._settings.request_seconds_max)
            raise unavailable(self._settings, "no answer" if answer is None else answer.str())
        self._silence.break_off()
        return answer[1]

    def poll(self) -> None:
        """Let the client report."""
        if self._producer is not None:
            self._producer.poll(0)

    def flush(self, timeout_seconds: float) -> None:
        """Block until all is delivered, at most `timeout_seconds`."""
        if self._producer is not None:
            self._producer.flush(timeout_seconds)

    def close(self) -> None:
        if self._producer is not None:
            let_go(self._producer)
            self._producer = None

    def _hear(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self._silence.break_off()
        elif error.code() == KafkaError._MSG_TIMED_OUT:
            self._silence.note_timeout(self._settings.delivery_seconds_max)

    def _produce(self, *arguments: Any, **options: Any) -> Producer:
        if self._silence.is_stalled:
            # Where the brokers were away it may never hear of them again (stalls.py).
            self.close()
        if self._producer is None:
            self._producer, self._silence = self._settings.producer(idempotent=False), Silence()
        try:
            self._producer.produce(self._topic, *arguments, **options)
        except BufferError:
            raise BufferFull from None
        return self._producer
