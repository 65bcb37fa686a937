"""The topic of snapshots on Kafka (`partitions.ports.SnapshotTopic`), with a producer of its own, made when it is first needed."""

from collections.abc import Iterator

from ..ports import Delivered, LogRecord, LogSpan
from .history import TopicReads
from .publisher import KafkaPublisher
from .settings import RECORD_OVERHEAD_BYTES, KafkaSettings


class KafkaSnapshots:
    """A snapshot is large: on the publisher's own connection replies would have to wait behind it."""

    def __init__(self, settings: KafkaSettings, reads: TopicReads) -> None:
        self._settings = settings
        self._topic = settings.topics.snapshots
        self._reads = reads
        self._publisher: KafkaPublisher | None = None
        self.record_bytes_max = settings.record_bytes_max - RECORD_OVERHEAD_BYTES

    def publish(self, partition: int, key: str, value: bytes | None, delivered: Delivered) -> None:
        if self._publisher is None:
            self._publisher = KafkaPublisher(self._settings, idempotent=True, letter_bytes_max=0)
        self._publisher.publish_snapshot(partition, key, value, delivered)

    def span(self, partition: int) -> LogSpan:
        return self._reads.span(self._topic, partition)

    def read(self, partition: int, start: int, end: int) -> Iterator[LogRecord]:
        return self._reads.read(self._topic, partition, start, end)

    def poll(self) -> bool:
        """Let the client report; true if anybody was told anything."""
        return self._publisher is not None and self._publisher.in_flight and self._publisher.poll(0)

    def close(self) -> None:
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
