"""What each Kafka client is configured with: the user's properties, the defaults, and what the protocol fixes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from ..ports import SettingRefused
from ..topics import HubTopics
from .client_logs import LOGGER
from .properties import CONSUMER_ONLY, FILES, FIXED, GROUP_ONLY, PRODUCER_ONLY
from .refusals import Refusals

Properties = Mapping[str, str | int | float | bool]
_Client = TypeVar("_Client")
_NONE: Properties = MappingProxyType({})

# A topic takes 1,048,588 bytes unless it is told otherwise, the head of a batch and of a record included. This fits it, and holds
# a payload of the largest size (actors/limits.py) with its envelope.
MESSAGE_BYTES_DEFAULT = 1_048_000
BATCH_BYTES_DEFAULT = 1_000_000
SESSION_MS_DEFAULT = 6_000
_UNKNOWN = "No such configuration property"
# What a record needs besides its value: headers of record and batch, and a key of any sensible length.
RECORD_OVERHEAD_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where the hub is, and how its clients are configured. `properties` are librdkafka's; FIXED ones are refused.

    `request_seconds_max` bounds whatever asks the brokers something; `delivery_seconds_max` the way of a record.
    """

    servers: str
    hub: str
    properties: Properties = field(default_factory=lambda: _NONE, repr=False)
    request_seconds_max: float = 10.0
    delivery_seconds_max: float = 30.0
    refusals: Refusals = field(default_factory=Refusals, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        HubTopics(self.hub)
        for name, reason in FIXED.items():
            if name in self.properties:
                raise SettingRefused(f"[kafka] {name} cannot be set: {reason}")

    @property
    def topics(self) -> HubTopics:
        return HubTopics(self.hub)

    @property
    def session_seconds(self) -> float:
        """How long the group waits for a silent member."""
        return int(self.properties.get("session.timeout.ms", SESSION_MS_DEFAULT)) / 1000

    @property
    def message_bytes_max(self) -> int:
        """The largest request that a producer of ours makes for one partition."""
        return max(int(self.properties.get("batch.size", BATCH_BYTES_DEFAULT)), self.record_bytes_max)

    @property
    def record_bytes_max(self) -> int:
        """The largest message that a producer of ours takes."""
        return int(self.properties.get("message.max.bytes", MESSAGE_BYTES_DEFAULT))

    def producer(self, *, idempotent: bool = True, record_bytes_max: int = 0, linger_ms: float = 0) -> Producer:
        """Return a producer that gives up in time. An idempotent one is ready half a second later. `record_bytes_max`: where some
        of its records may be larger than others; `linger_ms`: how long one waits for company, unless `flush` is called."""
        defaults = {
            "batch.size": BATCH_BYTES_DEFAULT,
            "linger.ms": linger_ms,
            "queue.buffering.max.messages": 500_000,
            "max.in.flight.requests.per.connection": 5,
            "delivery.timeout.ms": int(self.delivery_seconds_max * 1000),
            "request.timeout.ms": int(self.delivery_seconds_max * 1000),
        }
        fixed: Properties = {
            "acks": "all",
            "enable.idempotence": idempotent,
            "message.max.bytes": max(record_bytes_max, self.record_bytes_max),
        }
        return self._make(Producer, defaults, fixed, CONSUMER_ONLY)

    def reader(self, *, committed: bool, ends: bool = True, waits: bool = True) -> Consumer:
        """Return a consumer for manual assignment that waits for nothing that is there. It belongs to no group. `ends`: it says
        when it has come to the end of a partition. `waits`: it asks there for what comes next in a way that spares the brokers; a
        partition that is assigned meanwhile has to wait for their answer."""
        defaults = {
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 16_384,
        }
        fixed: Properties = {
            "group.id": f"{self.hub}.readers",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": ends,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            **({} if waits else {"fetch.wait.max.ms": 1}),
        }
        return self._make(Consumer, defaults, fixed, PRODUCER_ONLY | GROUP_ONLY)

    def member(self, hear: Callable[[str], None]) -> Consumer:
        """Return the consumer that is this process's membership in the hub's group. `hear` is told every second how it stands, as JSON."""
        session_ms = int(self.session_seconds * 1000)
        defaults = {
            "session.timeout.ms": session_ms,
            # A member hears of a rebalance with its heartbeat: two of them are what a hand-over takes.
            "heartbeat.interval.ms": min(75, session_ms // 4),
            "max.poll.interval.ms": max(600_000, session_ms),
        }
        fixed: Properties = {
            "group.id": self.hub,
            "group.protocol": "classic",
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # It fetches nothing; this only keeps an assignment without committed offsets from being an error.
            "auto.offset.reset": "latest",
        }
        return self._make(Consumer, {**defaults, "statistics.interval.ms": 1_000}, fixed, PRODUCER_ONLY, stats_cb=hear)

    def admin(self) -> AdminClient:
        return self._make(AdminClient, {}, {}, PRODUCER_ONLY | CONSUMER_ONLY)

    def _make(
        self,
        kind: Callable[..., _Client],
        defaults: Properties,
        fixed: Properties,
        foreign: frozenset[str],
        **heard: Callable[[str], None],
    ) -> _Client:
        common: Properties = {
            "bootstrap.servers": self.servers,
            "client.id": "perdure",
            "socket.nagle.disable": True,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
        }
        own = {name: value for name, value in self.properties.items() if name not in foreign}
        try:
            return kind({**common, **defaults, **own, **fixed, **heard, "error_cb": self.refusals.note}, logger=LOGGER)
        except (KafkaException, TypeError, ValueError) as error:
            reason = _reason(error)
            raise SettingRefused(f"[kafka] cannot be used: {reason}{_missing(reason)}{_unreadable(own)}") from error


def find_unknown(properties: Properties) -> list[str]:
    """The names that the client does not know: slips, of which nobody can say whether they were meant to name a secret."""
    return [name for name, value in properties.items() if not _is_known(name, value)]


def _is_known(name: str, value: str | float) -> bool:
    """Asked of a client that has this property alone, and so no broker to go to."""
    try:
        Producer({name: value}, logger=LOGGER)
    except KafkaException as error:
        return error.args[0].code() != KafkaError._INVALID_ARG or _UNKNOWN not in error.args[0].str()
    except (TypeError, ValueError, AttributeError):  # a kind of value that this property does not take
        return True
    return True


def _reason(error: Exception) -> str:
    return error.args[0].str() if isinstance(error, KafkaException) else str(error)


def _missing(reason: str) -> str:
    """How to set a password that is missing, since a file is no place for it."""
    return "; PERDURE_KAFKA_SASL_PASSWORD sets the password" if "sasl.password" in reason else ""


def _unreadable(properties: Properties) -> str:
    """Which files cannot be read, since the client's own words leave out their names."""
    troubles: list[str] = []
    for name in FILES & properties.keys():
        try:
            Path(str(properties[name])).open("rb").close()
        except IsADirectoryError:
            continue
        except OSError as error:
            troubles.append(f"; {name}: {error}")
    return "".join(sorted(troubles))
