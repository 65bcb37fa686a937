"""Waiting for what the brokers answer, no longer than it makes sense to."""

import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from ..ports import LogRefused, LogUnavailable
from .refusals import describe_refusal
from .settings import KafkaSettings

_Result = TypeVar("_Result")
_LOOK_SECONDS = 0.1
COORDINATOR_SECONDS = 3_600.0
"""How long the client itself waits where a group's coordinator is asked: as long as it can. When its time is over and the coordinator comes
back, librdkafka ends the process (confluentinc/librdkafka#4605). Who asks gives up sooner, and lets the client go."""
AWAY = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
    }
)


def await_answer(settings: KafkaSettings, admin: AdminClient, future: "Future[_Result]") -> _Result:
    """Wait for an answer. Raises LogRefused as soon as we are refused, LogUnavailable where none comes; other errors are the caller's."""
    began = time.monotonic()
    deadline = began + settings.request_seconds_max + 1
    while True:
        try:
            return future.result(timeout=_LOOK_SECONDS)
        except FutureTimeout:
            _raise_refusal(settings, admin, began)
            if time.monotonic() > deadline:
                raise unavailable(settings, settings.refusals.trouble_since(began) or "no answer") from None
        except KafkaException as error:
            if error.args[0].code() not in AWAY:
                raise
            _raise_refusal(settings, admin, began)
            trouble = settings.refusals.trouble_since(began)
            raise unavailable(settings, trouble or error.args[0].str()) from error


def _raise_refusal(settings: KafkaSettings, admin: AdminClient, since: float) -> None:
    """Let the client tell of its connections, and give up where one of them was refused."""
    admin.poll(0)
    refusal = settings.refusals.since(since)
    if refusal is not None:
        raise LogRefused(describe_refusal(refusal, settings.servers))


def unavailable(settings: KafkaSettings, reason: str) -> LogUnavailable:
    """Return the error for brokers that do not answer."""
    protocol = settings.properties.get("security.protocol", "plaintext")
    return LogUnavailable(
        f"no Kafka broker answered at {settings.servers} within {settings.request_seconds_max:g} s ({reason}); check that it runs, that the "
        f"address that it advertises can be reached from here, and that it speaks {protocol} there (security.protocol)"
    )
