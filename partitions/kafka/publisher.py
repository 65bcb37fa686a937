"""What one process sends outside the history: producers that trouble with the history never touches (R4)."""

import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from ..outbox import CUT
from ..ports import BufferFull, Delivered
from .history import let_go
from .records import error_of
from .reply_producer import ReplyProducer
from .reports import Sent, SentQueue
from .settings import KafkaSettings
from .silence import Silence

_log = structlog.get_logger("perdure.kafka")
Headers = Sequence[tuple[str, bytes]]
_CUT = f"perdure-{CUT}"
_LETTER_OVERHEAD_BYTES = 1_024


class KafkaPublisher:
    """`partitions.ports.Publisher`. Any thread may publish; `delivered` is called on the one that waits or flushes."""

    def __init__(self, settings: KafkaSettings, *, idempotent: bool, letter_bytes_max: int) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._letter_bytes_max = letter_bytes_max
        self._idempotent = idempotent
        self._producer = self._make_producer()
        self._silence = Silence()
        self._replies = ReplyProducer(settings)
        # So that a queue and the client have the same order.
        self._lock = Lock()
        self._sent: dict[tuple[str, int], SentQueue] = {}

    def publish_inbox(self, partition: int, key: str, value: bytes, delivered: Delivered | None = None) -> None:
        self._send(self._topics.inbox, partition, key, value, delivered)

    def publish_reply(self, partition: int, key: str, value: bytes) -> None:
        self._replies.publish(partition, key, value)

    def publish_dead_letter(self, key: str, value: bytes, headers: Headers, delivered: Delivered | None = None) -> None:
        room = self._letter_bytes_max - _LETTER_OVERHEAD_BYTES - len(key.encode())
        room -= sum(len(name) + len(text) for name, text in headers)
        if len(value) > room:
            # A topic of less than it was created with; what it cannot take must not keep the others waiting.
            _log.error(
                "dead letter cut short", topic=self._topics.dead_letter, bytes=len(value), bytes_kept=max(room, 0)
            )
            cut = [] if _CUT in dict(headers) else [(_CUT, str(len(value)).encode())]
            value, headers = value[: max(room, 0)], [*headers, *cut]
        self._send(self._topics.dead_letter, 0, key, value, delivered, headers)

    def publish_snapshot(self, partition: int, key: str, value: bytes | None, delivered: Delivered) -> None:
        """For `KafkaSnapshots`, which has a publisher of its own."""
        self._send(self._topics.snapshots, partition, key, value, delivered)

    def read_clock_ms(self, seconds_max: float) -> int:
        """The brokers' time now. Raises LogUnavailable."""
        return self._replies.read_clock_ms(seconds_max)

    def flush(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while len(self._producer) and (left := deadline - time.monotonic()) > 0:
            self._producer.poll(min(left, 0.02))
            self.serve()
        self.serve()
        self._replies.flush(max(deadline - time.monotonic(), 0))

    @property
    def in_flight(self) -> bool:
        """Somebody waits to hear of a delivery."""
        return any(self._sent.values())

    def poll(self, timeout_seconds: float) -> bool:
        """Let the client report for a while; true if anybody was told anything."""
        self._replies.poll()
        self._producer.poll(timeout_seconds)
        return self.serve()

    def serve(self) -> bool:
        """Tell those who wait what became of their records, in order for each partition."""
        served = False
        for queue in tuple(self._sent.values()):
            if queue.has_reports:
                with self._lock:
                    settled = queue.take()
                for sent, report in settled:
                    served = True
                    self._judge(sent)
                    if sent.delivered is not None:
                        sent.delivered(report.error)
        return served

    def _judge(self, sent: Sent) -> None:
        """Nothing was delivered while a record ran out of time: where only its partition is away others are."""
        if sent.report is not None and sent.report.error is None:
            self._silence.break_off()
        elif sent.timed_out:
            self._silence.note_timeout(self._settings.delivery_seconds_max)

    def close(self) -> None:
        let_go(self._producer)
        self._replies.close()
        self._sent.clear()

    def _send(
        self,
        topic: str,
        partition: int,
        key: str,
        value: bytes | None,
        delivered: Delivered | None,
        headers: Headers = (),
    ) -> None:
        sent = Sent(delivered)
        with self._lock:
            queue = self._sent.setdefault((topic, partition), SentQueue())
            queue.add(sent)
            try:
                self._produce(topic, value, key, partition, sent, headers=list(headers))
            except BufferFull:
                queue.drop_last()
                raise
            except KafkaException as error:
                sent.fail(error_of(error))

    def _produce(self, *arguments: Any, **options: Any) -> None:
        if self._silence.is_stalled:
            # Where the brokers were away it may never hear of them again (stalls.py).
            self._replace("producer stalled; another takes its place")
        try:
            self._producer.produce(*arguments, **options)
        except BufferError:
            raise BufferFull from None
        except KafkaException as error:
            if not (error_of(error).fatal() or error_of(error).code() == KafkaError._FATAL):
                raise
            self._replace("producer ended; another takes its place")
            self._producer.produce(*arguments, **options)

    def _make_producer(self) -> Producer:
        return self._settings.producer(idempotent=self._idempotent, record_bytes_max=self._letter_bytes_max)

    def _replace(self, why: str) -> None:
        """All that the old one had is reported as failed. An idempotent one that cannot vouch for its order any more has ended for good."""
        _log.error(why, hub=self._settings.hub)
        old, self._producer, self._silence = self._producer, self._make_producer(), Silence()
        old.purge()
        old.flush(1.0)
        let_go(old)
