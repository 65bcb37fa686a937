"""Kafka's messages as the port's records, and its errors as the port's."""

from typing import cast

from confluent_kafka import KafkaError, KafkaException, Message

from ..ports import LogRecord


def record_of(message: Message) -> LogRecord:
    # The client's own annotations are for what may be sent; what comes back has bytes, or None.
    headers = cast("list[tuple[str, bytes | None]] | None", message.headers())
    return LogRecord(
        message.offset() or 0,
        message.key(),
        message.value(),
        message.timestamp()[1],
        tuple((name, value or b"") for name, value in headers) if headers else (),
    )


def error_of(error: KafkaException) -> KafkaError:
    inner: KafkaError = error.args[0]
    return inner
