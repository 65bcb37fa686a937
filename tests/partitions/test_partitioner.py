"""An instance has one partition, the same for every client in every language: that of Kafka's own default partitioner (R9)."""

import time

import pytest
from confluent_kafka import Message, Producer
from hypothesis import given
from hypothesis import strategies as st

from perdure.partitions.kafka import KafkaSettings, create_hub
from perdure.partitions.partitioner import murmur2, partition_of

# From the unit tests of Kafka's Java client.
OF_KAFKA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
IDS = [
    "a",
    "ab",
    "abc",
    "abcd",
    "order-1",
    "größer",
    "订单",
    "🙂",
    "x" * 200,
    *(f"instance-{number}" for number in range(200)),
]


@pytest.mark.parametrize("data", OF_KAFKA)
def test_the_hash_is_that_of_kafkas_java_client(data: bytes) -> None:
    assert OF_KAFKA[data] % (1 << 32) == murmur2(data)


@given(st.text(max_size=300).filter(lambda text: text.isprintable()), st.integers(1, 1_000))
def test_every_id_has_a_partition_that_exists(instance_id: str, count: int) -> None:
    assert 0 <= partition_of(instance_id, count) < count


@pytest.mark.kafka
@pytest.mark.parametrize("partitioner", ["murmur2", "murmur2_random"])
def test_a_client_of_kafka_chooses_the_same_partition(kafka_servers: str, partitioner: str) -> None:
    settings = KafkaSettings(kafka_servers, f"partitioner-{time.time_ns()}")
    create_hub(settings, 7, 1)
    producer = Producer({"bootstrap.servers": kafka_servers, "partitioner": partitioner})
    chosen: dict[str, int] = {}

    def report(_error: object, message: Message) -> None:
        chosen[(message.key() or b"").decode()] = message.partition() or 0

    for instance_id in IDS:
        producer.produce(settings.topics.inbox, b"{}", instance_id, on_delivery=report)

    assert 0 == producer.flush(30)
    assert {instance_id: partition_of(instance_id, 7) for instance_id in IDS} == chosen
