"""A hub on Kafka: creating its topics, describing them, and refusing those that would lose what the protocol rests on."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from ..ports import HubIdentity, HubMissing, HubRefused, LogUnavailable
from .settings import KafkaSettings

_Result = TypeVar("_Result")
DEAD_LETTER_PARTITIONS = 1


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """One topic as the brokers have it."""

    name: str
    topic_id: str
    partition_count: int
    replication_factor: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HubDescription:
    """A hub as the brokers have it."""

    identity: HubIdentity
    topics: tuple[TopicDescription, ...]

    def topic(self, name: str) -> TopicDescription:
        return next(topic for topic in self.topics if topic.name == name)


def create_hub(settings: KafkaSettings, partitions: int, replication_factor: int) -> HubDescription:
    """Create what is missing of a hub and return all of it. Raises HubRefused where something else is there, LogUnavailable."""
    topics = settings.topics
    admin = settings.admin()
    counts = {
        topics.inbox: partitions,
        topics.history: partitions,
        topics.replies: partitions,
        topics.dead_letter: DEAD_LETTER_PARTITIONS,
    }
    # From the third replica on one may be away, and an acknowledged record still is on two.
    replicas = {"min.insync.replicas": "2"} if replication_factor >= 3 else {}
    wanted = [
        NewTopic(name, counts[name], replication_factor, config={**replicas, **config})
        for name, config in topics.settings.items()
    ]
    for name, future in admin.create_topics(wanted, operation_timeout=settings.request_seconds_max).items():
        try:
            _result(settings, future)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise HubRefused(f"topic {name} cannot be created: {reason.str()}") from error
    found = _describe_new(settings, admin)
    if found.identity.partition_count != partitions:
        raise HubRefused(
            f"hub {settings.hub!r} exists with {found.identity.partition_count} partitions, not {partitions}; "
            "a hub's partition count never changes: choose another name"
        )
    check_topics(settings, found)
    return found


def count_brokers(settings: KafkaSettings) -> int:
    """How many brokers there are now. Raises LogUnavailable."""
    admin = settings.admin()
    return len(_result(settings, admin.describe_cluster(request_timeout=settings.request_seconds_max)).nodes)


def describe_hub(
    settings: KafkaSettings, admin: AdminClient | None = None, *, with_settings: bool = True
) -> HubDescription:
    """Ask the brokers for a hub. Raises HubMissing, HubRefused and LogUnavailable."""
    admin = admin or settings.admin()
    names = list(settings.topics.all)
    cluster = _result(settings, admin.describe_cluster(request_timeout=settings.request_seconds_max))
    found = _describe_topics(settings, admin, names)
    configs = _describe_settings(settings, admin, names) if with_settings else {name: {} for name in names}
    topics = tuple(
        TopicDescription(
            name, str(found[name].topic_id), len(found[name].partitions), _replicas(found[name]), configs[name]
        )
        for name in names
    )
    counts = {topic.name: topic.partition_count for topic in topics}
    history, inbox, replies = settings.topics.history, settings.topics.inbox, settings.topics.replies
    if not counts[history] == counts[inbox] == counts[replies]:
        raise HubRefused(
            f"the topics of hub {settings.hub!r} do not belong together: {inbox} has {counts[inbox]} partitions, {history} {counts[history]}, "
            f"{replies} {counts[replies]}"
        )
    return HubDescription(
        HubIdentity(settings.hub, cluster.cluster_id, topics[names.index(history)].topic_id, counts[history]), topics
    )


def check_topics(settings: KafkaSettings, hub: HubDescription) -> None:
    """Refuse topics from which records could vanish, or which do not take what our producers send (R4, Topics)."""
    faults: list[str] = []
    for name, required in settings.topics.required.items():
        found = hub.topic(name).settings
        faults += [
            f"topic {name}: {setting} must be {expected}, it is {found.get(setting)}"
            for setting, expected in required.items()
            if found.get(setting) != expected
        ]
    for topic in hub.topics:
        limit = int(topic.settings["max.message.bytes"])
        if limit < settings.message_bytes_max:
            faults.append(
                f"topic {topic.name}: max.message.bytes must be at least {settings.message_bytes_max}, the greater of batch.size and "
                f"message.max.bytes of our producers, it is {limit}"
            )
    if faults:
        raise HubRefused(
            f"hub {settings.hub!r} cannot be used; mend its topics (kafka-configs --alter), or [kafka] for the sizes:\n  "
            + "\n  ".join(faults)
        )


def _describe_new(settings: KafkaSettings, admin: AdminClient) -> HubDescription:
    """Describe a hub whose topics may not have reached every broker yet."""
    deadline = time.monotonic() + settings.request_seconds_max
    while True:
        try:
            return describe_hub(settings, admin)
        except HubMissing:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _describe_topics(settings: KafkaSettings, admin: AdminClient, names: Sequence[str]) -> dict[str, Any]:
    futures = admin.describe_topics(TopicCollection(list(names)), request_timeout=settings.request_seconds_max)
    found: dict[str, Any] = {}
    missing: list[str] = []
    for name, future in futures.items():
        try:
            found[name] = _result(settings, future)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise LogUnavailable(
                    f"topic {name} at {settings.servers} cannot be described: {error.args[0].str()}"
                ) from error
            missing.append(name)
    if missing:
        raise HubMissing(
            f"hub {settings.hub!r} is not at {settings.servers}: there is no topic {', '.join(missing)}; "
            "`perdure hub create` creates it"
        )
    return found


def _describe_settings(
    settings: KafkaSettings, admin: AdminClient, names: Sequence[str]
) -> dict[str, Mapping[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = admin.describe_configs(resources, request_timeout=settings.request_seconds_max)
    try:
        return {
            resource.name: {entry.name: entry.value for entry in _result(settings, future).values()}
            for resource, future in futures.items()
        }
    except KafkaException as error:
        raise LogUnavailable(
            f"the settings of the topics of hub {settings.hub!r} cannot be read: {error.args[0].str()}"
        ) from error


def _replicas(topic: Any) -> int:
    return min(len(partition.replicas) for partition in topic.partitions)


_AWAY = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
    }
)


def _result(settings: KafkaSettings, future: "Future[_Result]") -> _Result:
    """Wait for an answer. Raises LogUnavailable where none comes; other errors are the caller's."""
    try:
        return future.result(timeout=settings.request_seconds_max + 1)
    except FutureTimeout:
        raise unavailable(settings, "no answer") from None
    except KafkaException as error:
        if error.args[0].code() in _AWAY:
            raise unavailable(settings, error.args[0].str()) from error
        if error.args[0].code() in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
            raise LogUnavailable(f"{settings.servers} refused us: {error.args[0].str()}") from error
        raise


def unavailable(settings: KafkaSettings, reason: str) -> LogUnavailable:
    """Return the error for brokers that do not answer."""
    return LogUnavailable(
        f"no Kafka broker answered at {settings.servers} within {settings.request_seconds_max:g} s ({reason}); check that it runs, and that the "
        "address that it advertises can be reached from here"
    )
