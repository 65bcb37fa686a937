"""A batch of a few kilobytes that comes to more than anybody takes: brokers refuse it, and where they do not it stops nobody (R8)."""

import json
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from perdure.client import Client
from perdure.partitions.kafka import KafkaSettings
from perdure.partitions.partitioner import partition_of
from tests.e2e.conftest import PARTITIONS
from tests.e2e.workers import WorkerProcess

pytestmark = pytest.mark.kafka
MEGABYTE = 1 << 20
# librdkafka unpacks at most 100 MB.
TOO_MUCH = 150
APP = """
from perdure import App, OrchestrationContext

app = App()

@app.orchestration
async def echo(ctx: OrchestrationContext, value: str) -> str:
    return value
"""


class Stranger:
    """A producer that packs as well as it can, and no broker's word for what is too large before that."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._topic = settings.topics.inbox
        self._errors: list[KafkaError | None] = []
        self._producer = Producer(
            {
                "bootstrap.servers": settings.servers,
                "compression.type": "zstd",
                "message.max.bytes": 500 * MEGABYTE,
                "batch.size": 500 * MEGABYTE,
                "queue.buffering.max.kbytes": 1_000_000,
                "linger.ms": 500,
            }
        )

    def send(self, partition: int, *values: bytes) -> set[str]:
        """Send them as one batch; what became of each."""
        self._errors.clear()
        for value in values:
            self._producer.produce(self._topic, value, partition=partition, on_delivery=self._note)
        self._producer.flush(60)
        assert len(self._errors) == len(values)
        return {"" if error is None else error.name() for error in self._errors}

    def _note(self, error: KafkaError | None, _message: Message) -> None:
        self._errors.append(error)


def start_of(name: str) -> bytes:
    return json.dumps({"start": "echo", "id": name, "input": name}).encode()


def names_of(partition: int, count: int) -> list[str]:
    candidates = (f"echo-{number}" for number in range(1_000))
    return [name for name in candidates if partition_of(name, PARTITIONS) == partition][:count]


def test_brokers_refuse_a_batch_that_comes_to_more_than_a_message_may_have(settings: KafkaSettings) -> None:
    stranger = Stranger(settings)

    assert {"MSG_SIZE_TOO_LARGE"} == stranger.send(0, bytes(2 * MEGABYTE))
    assert {""} == stranger.send(0, bytes(MEGABYTE // 2))


def test_where_brokers_take_it_what_stands_before_and_behind_it_is_done_all_the_same(
    client: Client, settings: KafkaSettings, start_worker: Callable[..., WorkerProcess]
) -> None:
    """As on a hub that was made otherwise. One batch has one huge record, one has many that are huge together."""
    entry = ConfigEntry("compression.type", "producer", incremental_operation=AlterConfigOpType.SET)
    altered = ConfigResource(ResourceType.TOPIC, settings.topics.inbox, incremental_configs=[entry])
    admin = settings.admin()
    for future in admin.incremental_alter_configs([altered]).values():
        future.result(30)
    worker, stranger = start_worker(APP), Stranger(settings)
    names = names_of(1, 4)
    for name, batch in zip(
        names,
        ([bytes(30 * MEGABYTE)], [bytes(TOO_MUCH * MEGABYTE)], [bytes(MEGABYTE)] * TOO_MUCH, [b"no message"]),
        strict=True,
    ):
        assert {""} == stranger.send(1, *batch) | stranger.send(1, start_of(name))

    assert names == [client.instance(name).result(60) for name in names]
    told = [dict(letter.headers() or [])["perdure-reason"].decode() for letter in dead_letters(settings, 4)]
    assert ["30", "unpack", "unpack", "JSON"] == [
        "30" if f"found {30 * MEGABYTE} bytes" in reason else "unpack" if "cannot unpack" in reason else "JSON"
        for reason in told
    ]
    # Another owner comes to no other end of it.
    worker.kill()
    start_worker(APP)
    (last,) = names_of(1, 5)[4:]
    assert last == client.start("echo", last, instance_id=last).result(60)


def dead_letters(settings: KafkaSettings, count: int) -> list[Message]:
    reader = Consumer({"bootstrap.servers": settings.servers, "group.id": "test", "enable.auto.commit": False})
    reader.assign([TopicPartition(settings.topics.dead_letter, 0, 0)])
    letters = [reader.poll(30) for _ in range(count)]
    reader.close()
    assert None not in letters
    return [letter for letter in letters if letter is not None]
