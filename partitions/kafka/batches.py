"""Batches that the client will not unpack: what a few kilobytes come to may be more than it takes, and it would ask for them for ever.

Rules of this file: what is passed over is one batch and nothing behind it; where it ends the client does not say, so that is looked
for, by asking for offsets in it and behind it which batch they are in.
"""

import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from ..ports import LogUnavailable
from .settings import KafkaSettings


def find_batch_end(settings: KafkaSettings, topic: str, partition: int, first: int, end: int) -> int:
    """The first offset behind the batch that holds `first` and that nobody can unpack; at most `end`. Blocks. Raises
    LogUnavailable."""
    consumer = settings.reader(committed=True)
    try:
        where = _Looking(consumer, settings, topic, partition)
        batch = where.batch_at(first)
        low, high = first, end
        while batch is not None and high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if where.batch_at(middle) == batch else (low, middle)
        return high if batch is not None else first
    finally:
        consumer.close()


class _Looking:
    """Asks for one offset after the other."""

    def __init__(self, consumer: Consumer, settings: KafkaSettings, topic: str, partition: int) -> None:
        self._consumer = consumer
        self._settings = settings
        self._topic = topic
        self._partition = partition

    def batch_at(self, offset: int) -> int | None:
        """Where the batch begins that holds an offset, if it is one that cannot be unpacked."""
        self._consumer.assign([TopicPartition(self._topic, self._partition, offset)])
        until = time.monotonic() + self._settings.request_seconds_max
        while time.monotonic() < until:
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                return None
            if is_packed_up(error):
                return message.offset()
        raise LogUnavailable(
            f"topic {self._topic}, partition {self._partition}: nobody says what is at offset {offset}"
        )


def is_packed_up(error: KafkaError) -> bool:
    return error.code() == KafkaError._BAD_COMPRESSION
