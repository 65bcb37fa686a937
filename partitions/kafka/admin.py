"""A hub on Kafka: creating its topics, describing them, and refusing those that would lose what the protocol rests on."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from ..ports import HubIdentity, HubMissing, HubRefused, LogRefused, LogUnavailable, replaced_hub
from .answers import COORDINATOR_SECONDS, await_answer
from .refusals import describe_refusal, is_refusal, is_unauthorized
from .rights import Operation, Resource, Role, describe_missing, grants_of, missing_rights
from .settings import KafkaSettings

DEAD_LETTER_PARTITIONS = 1
REPLICAS_MANY = 3
"""From so many replicas on one may be away, and what is acknowledged is on two all the same."""
_WITH_SETTINGS = (Role.WORKER, Role.ADMIN)


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
    """A hub as the brokers have it, as far as a role can see it: the identity that a client gets has no topic id."""

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
        topics.snapshots: partitions,
        topics.replies: partitions,
        topics.dead_letter: DEAD_LETTER_PARTITIONS,
    }
    replicas = {"min.insync.replicas": "2"} if replication_factor >= REPLICAS_MANY else {}
    wanted = [
        NewTopic(name, counts[name], replication_factor, config={**replicas, **config})
        for name, config in topics.settings.items()
    ]
    for name, future in admin.create_topics(wanted, operation_timeout=settings.request_seconds_max).items():
        try:
            await_answer(settings, admin, future)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                more = (
                    "; `perdure hub acls --role admin` prints the rights that it takes"
                    if is_unauthorized(reason)
                    else ""
                )
                raise HubRefused(f"topic {name} cannot be created: {reason.str()}{more}") from error
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
    described = admin.describe_cluster(request_timeout=settings.request_seconds_max)
    return len(await_answer(settings, admin, described).nodes)


def describe_hub(settings: KafkaSettings, role: Role = Role.ADMIN, admin: AdminClient | None = None) -> HubDescription:
    """Ask the brokers for what a role can see of a hub, and check that it may do its work.

    Raises HubMissing, HubRefused, LogRefused and LogUnavailable.
    """
    # A client with nothing outstanding has the length 0, and is false.
    admin = settings.admin() if admin is None else admin
    names = [grant.name for grant in grants_of(role, settings.topics) if grant.resource == Resource.TOPIC]
    cluster = await_answer(settings, admin, admin.describe_cluster(request_timeout=settings.request_seconds_max))
    found = _describe_topics(settings, role, admin, names)
    configs = _describe_settings(settings, admin, names) if role in _WITH_SETTINGS else {name: {} for name in names}
    topics = tuple(
        TopicDescription(
            name, str(found[name].topic_id), len(found[name].partitions), _replicas(found[name]), configs[name]
        )
        for name in names
    )
    count = _common_count(settings, topics)
    history = next((topic.topic_id for topic in topics if topic.name == settings.topics.history), "")
    return HubDescription(HubIdentity(settings.hub, cluster.cluster_id, history, count), topics)


def check_same_topics(settings: KafkaSettings, admin: AdminClient, opened: HubDescription) -> None:
    """Raise HubRefused where a topic that owners write or read is another one than when the hub was opened (R14), HubMissing
    where it is gone, LogUnavailable."""
    # Those of them that a client or an auditor sees.
    names = [each.name for each in opened.topics if each.name in (settings.topics.history, settings.topics.inbox)]
    asked = admin.describe_topics(TopicCollection(names), request_timeout=settings.request_seconds_max)
    for name in names:
        try:
            found = str(await_answer(settings, admin, asked[name]).topic_id)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise HubMissing(f"topic {name} at {settings.servers} was deleted") from error
            if is_refusal(error.args[0]):
                raise LogRefused(describe_refusal(error.args[0], settings.servers)) from error
            raise LogUnavailable(
                f"topic {name} at {settings.servers} cannot be described: {error.args[0].str()}"
            ) from error
        if found != opened.topic(name).topic_id:
            raise HubRefused(replaced_hub(opened.identity, name, opened.topic(name).topic_id, found))


def _common_count(settings: KafkaSettings, topics: Sequence[TopicDescription]) -> int:
    """The partition count of the hub, which all its topics have but the dead letters."""
    counts = {topic.name: topic.partition_count for topic in topics if topic.name != settings.topics.dead_letter}
    if len({*counts.values()}) != 1:
        told = ", ".join(f"{name} has {count} partitions" for name, count in counts.items())
        raise HubRefused(f"the topics of hub {settings.hub!r} do not belong together: {told}")
    return next(iter(counts.values()))


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
    for name in (settings.topics.inbox, settings.topics.history, settings.topics.dead_letter):
        faults += _check_replicas(hub.topic(name))
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


def _check_replicas(topic: TopicDescription) -> Iterator[str]:
    """What is acknowledged is on more than one broker where there are enough of them, and can be acknowledged at all."""
    in_sync, replicas = int(topic.settings["min.insync.replicas"]), topic.replication_factor
    if in_sync > replicas:
        yield f"topic {topic.name}: min.insync.replicas must be at most its {replicas} replicas, it is {in_sync}: nothing would be acknowledged"
    if replicas >= REPLICAS_MANY and in_sync < 2:
        yield (
            f"topic {topic.name}: min.insync.replicas must be at least 2 where there are {replicas} replicas, it is {in_sync}: what is "
            "acknowledged could be lost with one broker"
        )


def _describe_new(settings: KafkaSettings, admin: AdminClient) -> HubDescription:
    """Describe a hub whose topics may not have reached every broker yet. An answer that took all the time is asked for once more."""
    asked = time.monotonic()
    deadline = asked + settings.request_seconds_max
    while True:
        try:
            return describe_hub(settings, Role.ADMIN, admin)
        except HubMissing:
            if asked > deadline:
                raise
            time.sleep(0.1)
            asked = time.monotonic()


def _describe_topics(settings: KafkaSettings, role: Role, admin: AdminClient, names: Sequence[str]) -> dict[str, Any]:
    """The topics by name, and whether the role's rights are there: all that is missing is said at once."""
    futures = admin.describe_topics(
        TopicCollection(list(names)),
        include_authorized_operations=True,
        request_timeout=settings.request_seconds_max,
    )
    allowed: dict[tuple[Resource, str], frozenset[Operation] | None] = {}
    found: dict[str, Any] = {}
    missing: list[str] = []
    for name, future in futures.items():
        try:
            found[name] = await_answer(settings, admin, future)
            allowed[Resource.TOPIC, name] = _operations(found[name].authorized_operations)
        except KafkaException as error:
            reason = error.args[0]
            if is_unauthorized(reason):
                # It may not be there either: who may not see a topic is not told.
                allowed[Resource.TOPIC, name] = frozenset()
            elif reason.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                missing.append(name)
            else:
                raise LogUnavailable(
                    f"topic {name} at {settings.servers} cannot be described: {reason.str()}"
                ) from error
    if role == Role.WORKER:
        allowed[Resource.GROUP, settings.hub] = _group_operations(settings, admin)
    if lacks := missing_rights(role, settings.topics, allowed):
        raise LogRefused(describe_missing(role, settings.hub, lacks))
    if missing:
        raise HubMissing(
            f"hub {settings.hub!r} is not at {settings.servers}: there is no topic {', '.join(missing)}; "
            "`perdure hub create` creates it"
        )
    return found


def _group_operations(settings: KafkaSettings, admin: AdminClient) -> frozenset[Operation] | None:
    """What we may do with the hub's group. None where the brokers do not say: the group's coordinator may just be moving."""
    futures = admin.describe_consumer_groups(
        [settings.hub], include_authorized_operations=True, request_timeout=COORDINATOR_SECONDS
    )
    try:
        return _operations(await_answer(settings, admin, futures[settings.hub]).authorized_operations)
    except KafkaException as error:
        return frozenset() if is_unauthorized(error.args[0]) else None


def _operations(said: Any) -> frozenset[Operation] | None:
    """The client's operations as ours; None where the brokers did not say."""
    if said is None:
        return None
    known = {operation.name: operation for operation in Operation}
    return frozenset(known[each.name] for each in said if each.name in known)


def _describe_settings(
    settings: KafkaSettings, admin: AdminClient, names: Sequence[str]
) -> dict[str, Mapping[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = admin.describe_configs(resources, request_timeout=settings.request_seconds_max)
    try:
        return {
            resource.name: {entry.name: entry.value for entry in await_answer(settings, admin, future).values()}
            for resource, future in futures.items()
        }
    except KafkaException as error:
        if is_refusal(error.args[0]):
            raise LogRefused(describe_refusal(error.args[0], settings.servers)) from error
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            # Another broker than the one that described the topics is asked for their settings.
            raise HubMissing(
                f"a broker at {settings.servers} does not know the topics of hub {settings.hub!r}"
            ) from error
        raise LogUnavailable(
            f"the settings of the topics of hub {settings.hub!r} cannot be read: {error.args[0].str()}"
        ) from error


def _replicas(topic: Any) -> int:
    return min(len(partition.replicas) for partition in topic.partitions)
