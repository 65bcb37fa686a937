"""Any producer may start an orchestration: plain JSON on the inbox is enough."""

import json
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from perdure.client import Client
from perdure.errors import InstanceNotFound
from perdure.partitions.kafka import KafkaSettings
from perdure.partitions.partitioner import partition_of
from tests.e2e.conftest import PARTITIONS
from tests.e2e.workers import WorkerProcess, until

pytestmark = pytest.mark.kafka
APP = """
from perdure import App, OrchestrationContext

app = App()

@app.orchestration
async def echo(ctx: OrchestrationContext, value: str) -> str:
    return f"{value} {await ctx.wait_for_external_event('go')}"
"""


@pytest.fixture
def produce(settings: KafkaSettings) -> Callable[[object, int], int]:
    """Put a value on a partition of the inbox; return its offset."""
    producer = Producer({"bootstrap.servers": settings.servers, "message.max.bytes": 1_048_500})

    def put(value: object, partition: int) -> int:
        offsets: list[int] = []
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        on_delivery = lambda error, message: offsets.append(message.offset())  # noqa: E731
        producer.produce(settings.topics.inbox, data, partition=partition, on_delivery=on_delivery)
        producer.flush(30)
        return offsets[0]

    return put


def found(client: Client, instance_id: str) -> bool:
    try:
        client.instance(instance_id).get()
    except InstanceNotFound:
        return False
    return True


def test_plain_json_starts_and_goes_on_from_any_partition(
    client: Client, start_worker: Callable[..., WorkerProcess], produce: Callable[[object, int], int]
) -> None:
    start_worker(APP)
    home = partition_of("order-7", PARTITIONS)
    produce({"start": "echo", "id": "order-7", "input": "hello"}, (home + 1) % PARTITIONS)
    until(lambda: found(client, "order-7"))
    produce({"raise": "go", "id": "order-7", "input": "world"}, (home + 2) % PARTITIONS)

    assert "hello world" == client.instance("order-7").result(30)


def test_a_start_without_an_id_gets_one_from_where_it_stands(
    client: Client,
    settings: KafkaSettings,
    start_worker: Callable[..., WorkerProcess],
    produce: Callable[[object, int], int],
) -> None:
    start_worker(APP)
    offset = produce({"start": "echo", "input": "hello"}, 3)
    name = f"{settings.topics.inbox}-3-{offset}"
    until(lambda: found(client, name))
    client.instance(name).raise_event("go", "there")

    assert "hello there" == client.instance(name).result(30)


def test_what_cannot_be_read_is_a_dead_letter_with_its_reason_and_its_bytes(
    client: Client,
    settings: KafkaSettings,
    start_worker: Callable[..., WorkerProcess],
    produce: Callable[[object, int], int],
) -> None:
    start_worker(APP)
    garbage = b"\xff\x00 not a message"
    produce(garbage, 1)
    produce({"start": "echo", "id": "after", "input": "fine"}, partition_of("after", PARTITIONS))
    until(lambda: found(client, "after"))

    (letter,) = dead_letters(settings, 1)
    headers = dict(letter.headers() or [])
    assert garbage == letter.value()
    assert b"expected a JSON object" in (headers["perdure-reason"] or b"")
    assert (b"1", b"0") == (headers["perdure-partition"], headers["perdure-offset"])


def test_the_largest_record_that_cannot_be_read_is_kept_whole_and_keeps_nobody_waiting(
    client: Client,
    settings: KafkaSettings,
    start_worker: Callable[..., WorkerProcess],
    produce: Callable[[object, int], int],
) -> None:
    start_worker(APP)
    largest = json.dumps({"start": "echo", "id": "large", "input": "x" * 1_048_350}).encode()
    produce(largest, 1)
    produce(b"not the last", 1)

    first, second = dead_letters(settings, 2)
    assert [largest, b"not the last"] == [first.value(), second.value()]
    assert b"at most 1000000 bytes of JSON" in (dict(first.headers() or [])["perdure-reason"] or b"")


def dead_letters(settings: KafkaSettings, count: int) -> list[Message]:
    reader = Consumer({"bootstrap.servers": settings.servers, "group.id": "test", "enable.auto.commit": False})
    reader.assign([TopicPartition(settings.topics.dead_letter, 0, 0)])
    letters = [reader.poll(30) for _ in range(count)]
    reader.close()
    assert None not in letters
    return [letter for letter in letters if letter is not None]


def test_a_producer_with_a_partitioner_of_its_own_needs_to_know_nothing(
    client: Client, settings: KafkaSettings, start_worker: Callable[..., WorkerProcess]
) -> None:
    """kcat's way: librdkafka chooses the partition by a hash of the key that is not ours, or at random."""
    start_worker(APP)
    producer = Producer({"bootstrap.servers": settings.servers})
    names = [f"from-kcat-{number}" for number in range(12)]
    for name in names:
        producer.produce(settings.topics.inbox, json.dumps({"start": "echo", "id": name, "input": name}), key=name)
    producer.flush(30)

    until(lambda: all(found(client, name) for name in names))
    assert set(names) == {instance.instance_id for instance in client.list_all(prefix="from-kcat-")}
