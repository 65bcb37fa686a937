"""Whether one right is there, seen by doing what it is for, with the client that the product does it with."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AclBinding, AclOperation, ConfigResource, NewTopic, ResourceType

from perdure.partitions.kafka import KafkaMembership, KafkaSettings
from perdure.partitions.ports import LogRefused

_SECONDS = 15
_REFUSED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError._UNKNOWN_PARTITION,
)


def is_allowed(settings: KafkaSettings, binding: AclBinding) -> bool:
    """True if what `binding` allows works, False if it is refused; any other outcome is an error."""
    try:
        _PROBES[binding.restype, binding.operation](settings, binding.name)
    except LogRefused:
        return False
    except KafkaException as error:
        if error.args[0].code() not in _REFUSED:
            raise
        return False
    return True


def read_topic(settings: KafkaSettings, topic: str) -> None:
    consumer: Consumer = settings.reader(committed=False)
    try:
        # Who may not even see a topic is told that it has no such partition.
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), _SECONDS)
        consumer.assign([TopicPartition(topic, 0, end)])
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None or (error := message.error()) is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                return
            if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise KafkaException(error)
        raise AssertionError(f"{topic}: neither its end nor a refusal")
    finally:
        consumer.close()


def write_topic(settings: KafkaSettings, topic: str) -> None:
    producer = settings.producer()
    outcome: list[KafkaError | None] = []
    producer.produce(topic, b"", b"", 0, lambda error, _: outcome.append(error))
    producer.flush(_SECONDS)
    assert outcome, f"{topic}: no report"
    if outcome[0] is not None:
        raise KafkaException(outcome[0])


def delete_records(settings: KafkaSettings, topic: str) -> None:
    admin = settings.admin()
    for future in admin.delete_records([TopicPartition(topic, 0, 0)]).values():
        future.result(_SECONDS)


def create_topic(settings: KafkaSettings, topic: str) -> None:
    admin = settings.admin()
    for future in admin.create_topics([NewTopic(topic, 1, 1)], validate_only=True).values():
        try:
            future.result(_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def describe_topic(settings: KafkaSettings, topic: str) -> None:
    admin = settings.admin()
    for future in admin.describe_topics(TopicCollection([topic])).values():
        future.result(_SECONDS)


def describe_configs(settings: KafkaSettings, topic: str) -> None:
    admin = settings.admin()
    for future in admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values():
        future.result(_SECONDS)


def join_group(settings: KafkaSettings, _group: str) -> None:
    membership = KafkaMembership(settings, lambda: None)
    try:
        deadline = time.monotonic() + _SECONDS
        while not membership.poll():
            assert time.monotonic() < deadline, "neither an assignment nor a refusal"
            time.sleep(0.02)
    finally:
        membership.close()


_PROBES: dict[tuple[ResourceType, AclOperation], Callable[[KafkaSettings, str], None]] = {
    (ResourceType.TOPIC, AclOperation.READ): read_topic,
    (ResourceType.TOPIC, AclOperation.WRITE): write_topic,
    (ResourceType.TOPIC, AclOperation.DELETE): delete_records,
    (ResourceType.TOPIC, AclOperation.CREATE): create_topic,
    (ResourceType.TOPIC, AclOperation.DESCRIBE): describe_topic,
    (ResourceType.TOPIC, AclOperation.DESCRIBE_CONFIGS): describe_configs,
    (ResourceType.GROUP, AclOperation.READ): join_group,
}
