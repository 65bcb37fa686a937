"""Hubs on Kafka: creating, describing, and refusing what would lose records."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from perdure.partitions.kafka import (
    FIXED,
    HubDescription,
    KafkaLog,
    KafkaSettings,
    TopicDescription,
    check_topics,
    create_hub,
    describe_hub,
)
from perdure.partitions.ports import HubIdentity, HubMissing, HubRefused, LogUnavailable
from perdure.partitions.topics import HubNameRefused

_numbers = count(1)


@pytest.fixture
def settings(kafka_servers: str) -> KafkaSettings:
    return KafkaSettings(kafka_servers, f"hub-{time.time_ns()}-{next(_numbers)}")


def alter(settings: KafkaSettings, topic: str, **changes: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in changes.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": settings.servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)
    # The controller has it at once, the broker that is asked a moment later.
    until(lambda: all(settings_of(admin, topic)[entry.name] == entry.value for entry in entries))


def settings_of(admin: AdminClient, topic: str) -> dict[str, str]:
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {entry.name: entry.value for entry in future.result(10).values()}


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


class Behind(AdminClient):
    """Asks for settings, at first, a broker that has not heard of the new topics. A second client would find it no wiser."""

    asked = 0

    def describe_configs(self, resources: Any, **options: Any) -> Any:
        futures = super().describe_configs(resources, **options)
        self.asked += 1
        if self.asked == 1:
            late: Future[Any] = Future()
            late.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
            return {**futures, resources[-1]: late}
        return futures


@pytest.mark.kafka
def test_a_hub_is_created_though_one_of_the_brokers_hears_of_it_late(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.partitions.kafka.settings.AdminClient", Behind)

    assert 2 == create_hub(settings, 2, 1).identity.partition_count


@pytest.mark.kafka
def test_a_broker_that_takes_all_the_time_to_say_that_it_has_not_heard_is_asked_once_more(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = count(step=3600.0)
    monkeypatch.setattr("perdure.partitions.kafka.settings.AdminClient", Behind)
    monkeypatch.setattr(
        "perdure.partitions.kafka.admin.time", SimpleNamespace(monotonic=lambda: next(hours), sleep=time.sleep)
    )

    assert 2 == create_hub(settings, 2, 1).identity.partition_count


@pytest.mark.kafka
def test_a_new_hub_is_described_as_it_was_created(settings: KafkaSettings) -> None:
    created = create_hub(settings, 3, 1)

    found = describe_hub(settings)

    assert created == found
    assert (settings.hub, 3) == (found.identity.hub, found.identity.partition_count)
    assert {topic.name: topic.partition_count for topic in found.topics} == {
        f"{settings.hub}.inbox": 3,
        f"{settings.hub}.history": 3,
        f"{settings.hub}.snapshots": 3,
        f"{settings.hub}.replies": 3,
        f"{settings.hub}.dead-letter": 1,
    }
    assert found.topic(f"{settings.hub}.history").settings["retention.ms"] == "-1"


@pytest.mark.kafka
def test_creating_a_hub_again_changes_nothing(settings: KafkaSettings) -> None:
    assert create_hub(settings, 2, 1) == create_hub(settings, 2, 1)


@pytest.mark.kafka
def test_a_hub_with_another_partition_count_is_refused(settings: KafkaSettings) -> None:
    create_hub(settings, 2, 1)

    with pytest.raises(HubRefused, match="with 2 partitions, not 4"):
        create_hub(settings, 4, 1)
    with pytest.raises(HubRefused, match="has 2 partitions, not 4"):
        KafkaLog.open(settings, partition_count=4)


@pytest.mark.kafka
def test_a_hub_whose_topics_grew_apart_is_refused(settings: KafkaSettings) -> None:
    create_hub(settings, 2, 1)
    admin = AdminClient({"bootstrap.servers": settings.servers})
    for future in admin.create_partitions([NewPartitions(settings.topics.inbox, 3)]).values():
        future.result(10)
    inbox = settings.topics.inbox
    until(lambda: len(admin.list_topics(inbox, timeout=10).topics[inbox].partitions) == 3)

    with pytest.raises(HubRefused, match="inbox has 3"):
        KafkaLog.open(settings)


@pytest.mark.kafka
def test_a_hub_that_is_not_there_is_named_with_the_command_that_creates_it(settings: KafkaSettings) -> None:
    for opening in (KafkaLog.open, KafkaLog.open_client):
        with pytest.raises(HubMissing, match=f"{settings.hub}.*perdure hub create"):
            opening(settings)


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("topic", "setting", "value", "expected"),
    [
        ("history", "retention.ms", "604800000", "-1"),
        ("history", "retention.bytes", "1000000", "-1"),
        ("history", "cleanup.policy", "compact", "delete"),
        ("history", "message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("history", "unclean.leader.election.enable", "true", "false"),
        ("inbox", "retention.ms", "604800000", "-1"),
        ("inbox", "cleanup.policy", "compact,delete", "delete"),
        ("snapshots", "cleanup.policy", "delete", "compact"),
        ("replies", "message.timestamp.type", "CreateTime", "LogAppendTime"),
    ],
)
def test_a_topic_that_would_lose_records_is_refused(
    settings: KafkaSettings, topic: str, setting: str, value: str, expected: str
) -> None:
    create_hub(settings, 1, 1)
    alter(settings, f"{settings.hub}.{topic}", **{setting: value})

    with pytest.raises(HubRefused, match=f"topic {settings.hub}.{topic}: {setting} must be {expected}, it is {value}"):
        KafkaLog.open(settings)


@pytest.mark.kafka
def test_more_replicas_in_sync_than_there_are_is_refused_since_nothing_would_be_acknowledged(
    settings: KafkaSettings,
) -> None:
    create_hub(settings, 1, 1)
    alter(settings, settings.topics.inbox, **{"min.insync.replicas": "2"})

    with pytest.raises(HubRefused, match=r"inbox: min.insync.replicas must be at most its 1 replicas, it is 2"):
        KafkaLog.open(settings)


@pytest.mark.parametrize(("replicas", "in_sync", "fine"), [(1, 1, True), (2, 1, True), (3, 1, False), (3, 2, True)])
def test_records_that_one_broker_alone_may_have_are_refused_where_there_are_three(
    replicas: int, in_sync: int, fine: bool
) -> None:
    settings = KafkaSettings("nowhere:9092", "shop")
    topics = tuple(
        TopicDescription(
            name,
            "topic-id",
            1,
            replicas,
            {**config, "max.message.bytes": "2000000", "min.insync.replicas": str(in_sync)},
        )
        for name, config in settings.topics.settings.items()
    )
    hub = HubDescription(HubIdentity("shop", "cluster", "topic-id", 1), topics)

    if fine:
        check_topics(settings, hub)
    else:
        with pytest.raises(HubRefused, match=r"shop.history: min.insync.replicas must be at least 2 where there are 3"):
            check_topics(settings, hub)


@pytest.mark.kafka
def test_a_topic_that_takes_less_than_our_producers_send_is_refused(settings: KafkaSettings) -> None:
    """R4: one batch that is too large fails whole."""
    create_hub(settings, 1, 1)
    alter(settings, settings.topics.history, **{"max.message.bytes": "100000"})

    with pytest.raises(HubRefused, match=r"history: max.message.bytes must be at least 1048000, .* it is 100000"):
        KafkaLog.open(settings)

    larger_batches = KafkaSettings(
        settings.servers, settings.hub, {"batch.size": 2_000_000, "message.max.bytes": 90_000}
    )
    with pytest.raises(HubRefused, match=r"at least 2000000, the greater of batch.size and message.max.bytes"):
        KafkaLog.open(larger_batches)
    smaller = KafkaSettings(settings.servers, settings.hub, {"batch.size": 90_000, "message.max.bytes": 90_000})
    log = KafkaLog.open(smaller)
    assert log.record_bytes_max < 90_000
    log.close()


@pytest.mark.kafka
def test_larger_records_are_a_matter_of_settings(settings: KafkaSettings) -> None:
    create_hub(settings, 1, 1)
    larger = KafkaSettings(settings.servers, settings.hub, {"message.max.bytes": 3_000_000})
    with pytest.raises(HubRefused, match=r"max\.message\.bytes"):
        KafkaLog.open(larger)
    for topic in settings.topics.all:
        alter(settings, topic, **{"max.message.bytes": "3100000"})

    log = KafkaLog.open(larger)
    writer = log.open_history(0)
    writer.append("instance", bytes(2_900_000))
    deadline = time.monotonic() + 20
    while not (reports := writer.take_reports()) and time.monotonic() < deadline:
        log.wait(0.1)

    assert [0] == [report.offset for report in reports]
    log.close()


def test_a_broker_that_is_away_is_named_within_the_time_given(closed_port: int) -> None:
    settings = KafkaSettings(f"127.0.0.1:{closed_port}", "hub", request_seconds_max=1.0)
    begin = time.monotonic()

    for opening in (KafkaLog.open, KafkaLog.open_client):
        with pytest.raises(LogUnavailable, match=f"127.0.0.1:{closed_port}.*check that it runs"):
            opening(settings)

    assert time.monotonic() - begin < 8


@pytest.mark.parametrize("name", FIXED)
def test_what_the_protocol_fixes_cannot_be_set(name: str) -> None:
    with pytest.raises(HubRefused, match=rf"\[kafka\] {name} cannot be set: "):
        KafkaSettings("127.0.0.1:1", "hub", {name: "whatever"})


@pytest.mark.parametrize(
    ("properties", "message"),
    [({"linger": 1}, 'No such configuration property: "linger"'), ({"socket.timeout.ms": "soon"}, "socket.timeout.ms")],
)
def test_a_property_that_librdkafka_does_not_take_is_refused(properties: dict[str, str | int], message: str) -> None:
    with pytest.raises(HubRefused, match=message):
        KafkaLog.open(KafkaSettings("127.0.0.1:1", "hub", properties))


@pytest.mark.kafka
def test_every_producer_and_reader_of_a_hub_is_as_the_protocol_wants_it(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, dict[str, Any]]] = []
    module = sys.modules[KafkaSettings.__module__]
    for kind in (Producer, Consumer):

        def make(config: dict[str, Any], kind: Any = kind, **options: Any) -> Any:
            made.append((kind.__name__, config))
            return kind(config, **options)

        monkeypatch.setattr(module, kind.__name__, make)
    create_hub(settings, 1, 1)
    log = KafkaLog.open(settings)
    writer = log.open_history(0)
    log.inbox.open(0, 0)
    list(log.read_history(0, 0, log.span_history(0).end))
    log.publisher.publish_reply(0, "client", b"of which nobody waits to hear")
    writer.close()
    log.close()

    producers = [config for kind, config in made if kind == "Producer"]
    assert len(producers) >= 3
    assert {"all"} == {config["acks"] for config in producers}
    assert [False] == [config["enable.idempotence"] for config in producers if not config["enable.idempotence"]]
    assert not any("transactional.id" in config for _, config in made)
    readers = {config["isolation.level"]: config for kind, config in made if kind == "Consumer"}
    assert {"read_committed", "read_uncommitted"} == readers.keys()
    assert {("error", False)} == {
        (config["auto.offset.reset"], config["enable.auto.commit"]) for config in readers.values()
    }


@pytest.mark.kafka
def test_everything_else_passes_through(kafka_servers: str) -> None:
    properties = {
        "compression.type": "lz4",
        "linger.ms": 1,
        "fetch.wait.max.ms": 50,
        "session.timeout.ms": 7000,
        "client.id": "orders",
    }
    settings = KafkaSettings(kafka_servers, f"hub-{time.time_ns()}", properties)
    create_hub(settings, 1, 1)

    KafkaLog.open(settings).close()


@pytest.mark.parametrize("name", ["", "with space", "sl/ash", "x" * 201])
def test_a_hub_that_cannot_be_part_of_a_topics_name_is_refused(name: str) -> None:
    with pytest.raises(HubNameRefused, match="a-z A-Z 0-9"):
        KafkaSettings("127.0.0.1:1", name)
