"""Workers of one consumer group on a real Kafka share a hub's partitions, and hand them over under load."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from perdure.audit import audit_records, read_log
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.kafka.admin import create_hub
from perdure.partitions.kafka.log import KafkaLog
from perdure.partitions.kafka.membership import KafkaMembership
from perdure.partitions.kafka.settings import KafkaSettings
from perdure.partitions.owner import Phase
from perdure.partitions.partitioner import partition_of
from perdure.partitions.rocksdb import RocksStores
from perdure.schemas.codec import decode_reply, encode_inbound
from perdure.schemas.messages import Body, Inbound, Query, QueryKind, ReplyCode, ReplyTo, Start
from perdure.worker import Worker, WorkerSettings
from tests.worker.engine import OneActivityApp

pytestmark = pytest.mark.kafka
PARTITIONS = 4
PLENTY_SECONDS = 60.0
ASK_AGAIN_SECONDS = 2.0


class Member:
    """A worker of the group, in a thread."""

    def __init__(self, settings: KafkaSettings, app: OneActivityApp, directory: Path) -> None:
        self.log = KafkaLog.open(settings)
        self.stores = RocksStores(directory)
        membership = KafkaMembership(settings, self.log.wake)
        owner = OwnerSettings(directory.name, session_seconds=settings.session_seconds)
        self.worker = Worker(app, self.log, membership, self.stores, WorkerSettings(owner))
        self._thread = threading.Thread(target=self.worker.run)
        self._thread.start()

    def owned(self) -> set[int]:
        return {number for number, owner in self.worker.owners.copy().items() if owner.phase == Phase.OWNING}

    def stop(self) -> None:
        self.worker.stop()
        self._thread.join(PLENTY_SECONDS)
        assert not self._thread.is_alive()
        self.stores.close()
        self.log.close()


class Client:
    """Starts instances, and waits for their ends: it asks again, since who promised to tell of one may have handed it over."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._log = KafkaLog.open_client(settings)
        self._replies = self._log.open_replies("client")
        self._running: set[str] = set()

    def start(self, instance_id: str) -> None:
        self._running.add(instance_id)
        self._ask(instance_id, Start("nap", b'"in"', tell_end=True))

    def _ask(self, instance_id: str, body: Body) -> None:
        inbound = Inbound(instance_id, body, instance_id, reply_to=ReplyTo("client", self._replies.partition))
        partition = partition_of(instance_id, PARTITIONS)
        self._log.publisher.publish_inbox(partition, instance_id, encode_inbound(inbound))

    def until_ended(self) -> None:
        deadline = time.monotonic() + PLENTY_SECONDS
        ask_again_at = time.monotonic() + ASK_AGAIN_SECONDS
        while self._running:
            assert time.monotonic() < deadline, f"not ended: {sorted(self._running)}"
            if time.monotonic() > ask_again_at:
                ask_again_at = time.monotonic() + ASK_AGAIN_SECONDS
                for instance_id in self._running:
                    self._ask(instance_id, Query(QueryKind.WAIT))
            for record in self._replies.take(0.1):
                reply = decode_reply(record.value or b"")
                if reply.code == ReplyCode.ENDED:
                    self._running.discard(reply.request_id)

    def close(self) -> None:
        self._log.publisher.flush(5)
        self._replies.close()
        self._log.close()


@pytest.fixture
def settings(kafka_servers: str) -> KafkaSettings:
    settings = KafkaSettings(kafka_servers, f"group-{uuid4().hex[:8]}")
    create_hub(settings, PARTITIONS, 1)
    return settings


@pytest.fixture
def join(settings: KafkaSettings, tmp_path: Path) -> Iterator[Callable[[str], Member]]:
    members: list[Member] = []

    async def nap(value: Any) -> Any:
        await asyncio.sleep(0.05)
        return value

    def begin(name: str) -> Member:
        members.append(Member(settings, OneActivityApp(nap=nap), tmp_path / name))
        return members[-1]

    yield begin
    for member in members:
        if member.worker.owners:
            member.stop()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PLENTY_SECONDS
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_partitions_move_in_order_when_workers_come_and_go_and_every_instance_ends_once(
    settings: KafkaSettings, join: Callable[[str], Member]
) -> None:
    client = Client(settings)
    first = join("worker-0")
    until(lambda: first.owned() == {0, 1, 2, 3})
    for number in range(100):
        client.start(f"before-{number}")
    second = join("worker-1")
    until(lambda: len(second.owned()) == 2 and len(first.owned()) == 2)
    for number in range(100):
        client.start(f"between-{number}")
    began = time.monotonic()
    first.stop()
    until(lambda: second.owned() == {0, 1, 2, 3})
    moved = time.monotonic() - began
    for number in range(100):
        client.start(f"after-{number}")
    client.until_ended()
    lost = sum(owner.counts.epochs_lost for owner in second.worker.owners.values())
    second.stop()
    client.close()

    log = KafkaLog.open_reader(settings)
    audit = audit_records(read_log(log))
    log.close()
    assert ((), {"COMPLETED": 300}) == (audit.findings, dict(audit.counts.finished))
    assert lost == 0
    assert moved < 10
