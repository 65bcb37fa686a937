"""The bare loop as a system: its topics, its process, and a client that starts and waits."""

import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
)

from .bare_loop import kafka_producer, kafka_reader
from .jobs import Job
from .measure import Cpu, cpu_seconds_of


@dataclass(frozen=True, slots=True)
class BrokerUnderTest:
    """A warm broker, and the processes whose CPU time is the broker's."""

    servers: str
    pids: tuple[int, ...]


class BareDriver:
    """Starts by JSON records on the inbox, answers by JSON records on the replies."""

    def __init__(self, servers: str, hub: str) -> None:
        self._inbox = f"{hub}.inbox"
        self._producer = kafka_producer(servers)
        self._replies = kafka_reader(servers, TopicPartition(f"{hub}.replies", 0, 0))

    def start(self, instance_id: str, job: Job) -> None:
        self._producer.produce(self._inbox, orjson.dumps({"id": instance_id, "length": job.activities}), partition=0)
        self._producer.poll(0)

    def take_ended(self, timeout_seconds: float) -> Sequence[tuple[str, object]]:
        first = self._replies.poll(timeout_seconds)
        messages = [] if first is None else [first, *self._replies.consume(199, 0)]
        replies = [orjson.loads(message.value() or b"") for message in messages if message.error() is None]
        return [(reply["id"], reply["result"]) for reply in replies]

    def close(self) -> None:
        self._producer.flush(5)
        self._replies.close()


@dataclass(frozen=True, slots=True)
class BareSystem:
    driver: BareDriver
    engine_pid: int
    broker: BrokerUnderTest

    def cpu(self) -> Cpu:
        own = psutil.Process().cpu_times()
        return Cpu(cpu_seconds_of(self.engine_pid), own.user + own.system, cpu_seconds_of(*self.broker.pids))


@contextmanager
def bare_system(broker: BrokerUnderTest) -> Iterator[BareSystem]:
    """Run a bare loop in a process of its own for as long as it is asked for."""
    hub = f"bare-{uuid.uuid4().hex[:8]}"
    topics = [f"{hub}.{name}" for name in ("inbox", "history", "replies")]
    admin = AdminClient({"bootstrap.servers": broker.servers})
    for created in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
        created.result(30)
    engine = subprocess.Popen([sys.executable, "-m", "bench.bare_loop", broker.servers, hub], stdin=subprocess.PIPE)
    driver = BareDriver(broker.servers, hub)
    try:
        yield BareSystem(driver, engine.pid, broker)
    finally:
        driver.close()
        assert engine.stdin is not None
        engine.stdin.close()
        engine.wait(30)
        for deleted in admin.delete_topics(topics).values():
            deleted.result(30)
