"""Refusals: what the brokers hold against our credentials, certificates or rights, in words that say what to check.

librdkafka tells of a refused password or certificate to whoever polls, while the request that waits for it just runs out of time. So
every client notes such complaints here, and whoever waits looks.
"""

import time
from typing import Final

from confluent_kafka import KafkaError

_UNAUTHENTICATED: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})
_UNAUTHORIZED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_TROUBLES: Final = frozenset({KafkaError._TRANSPORT, KafkaError._RESOLVE})
_TLS_ALERT = "SSL routines"


class Refusals:
    """The newest complaint about the connections of one `KafkaSettings`. Any thread may note one."""

    __slots__ = ("_newest", "_trouble")

    def __init__(self) -> None:
        self._newest: tuple[float, KafkaError] | None = None
        self._trouble: tuple[float, str] | None = None

    def note(self, error: KafkaError) -> None:
        """A client's `error_cb`."""
        now = time.monotonic()
        if is_refusal(error) and concerns_reader(error):
            self._newest = (now, error)
        elif error.code() in _TROUBLES:
            self._trouble = (now, error.str())

    def since(self, moment: float) -> KafkaError | None:
        """The newest refusal, if it came at `moment` (monotonic seconds) or later."""
        newest = self._newest
        return newest[1] if newest is not None and newest[0] >= moment else None

    def trouble_since(self, moment: float) -> str:
        """The newest trouble of a connection that was no refusal; empty if there was none."""
        trouble = self._trouble
        return trouble[1] if trouble is not None and trouble[0] >= moment else ""


def is_refusal(error: KafkaError) -> bool:
    """True for what will be the same at the next try: somebody has to change something first."""
    if error.code() in _UNAUTHENTICATED or error.code() in _UNAUTHORIZED or error.code() == KafkaError._SSL:
        return True
    # A broker that refuses our certificate tells so while we read.
    return error.code() == KafkaError._TRANSPORT and _TLS_ALERT in error.str()


def is_unauthorized(error: KafkaError) -> bool:
    return error.code() in _UNAUTHORIZED


def concerns_reader(error: KafkaError) -> bool:
    """False where a reader, which assigns itself its partitions, is told that it may not use a group: it does not want to."""
    return error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED


def describe_refusal(error: KafkaError, servers: str) -> str:
    """What was refused, and what to check. Never holds a secret: the brokers' words do not, and ours do not."""
    text = error.str()
    if error.code() in _UNAUTHENTICATED:
        return (
            f"the brokers at {servers} refused our credentials: {text}; check sasl.mechanism and what it asks for, as sasl.username "
            "and sasl.password, in [kafka] of perdure.toml or in PERDURE_KAFKA_SASL_..."
        )
    if error.code() in _UNAUTHORIZED:
        return (
            f"the brokers at {servers} know us but do not allow this: {text}; `perdure hub acls` prints the rights that each "
            "role needs"
        )
    return (
        f"no TLS connection to the brokers at {servers}: {text}; check ssl.ca.location (the authority that signed the brokers' "
        "certificate) and, where the brokers ask for ours, ssl.certificate.location and ssl.key.location"
    )
