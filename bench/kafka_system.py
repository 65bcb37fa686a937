"""The engine on Kafka: a hub of its own, one `perdure worker` process, and a client that speaks the wire format directly."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import orjson
import psutil
from confluent_kafka import Consumer, TopicPartition

from perdure.partitions.partitioner import partition_of
from perdure.partitions.topics import HubTopics
from perdure.schemas.codec import decode_reply, encode_inbound
from perdure.schemas.messages import Inbound, ReplyCode, ReplyTo, Start

from .bare_loop import kafka_producer, kafka_reader
from .bare_system import BrokerUnderTest
from .jobs import Job
from .measure import BenchmarkFailed, Cpu, cpu_seconds_of
from .suite import Engine, Footprint

APP = "bench.jobs:app"
STATE = Path("build/bench")
STOP_SECONDS = 60


class KafkaDriver:
    """Starts and ends, encoded and decoded as the public client does it, without its conveniences."""

    def __init__(self, servers: str, topics: HubTopics, partitions: int) -> None:
        self._inbox = topics.inbox
        self._partitions = partitions
        self._producer = kafka_producer(servers)
        self._replies = kafka_reader(servers, TopicPartition(topics.replies, 0, 0))
        self._reply_to = ReplyTo(f"bench-{uuid.uuid4().hex[:8]}", 0)

    def start(self, instance_id: str, job: Job) -> None:
        start = Start(job.orchestration, input=orjson.dumps(job.activities), tell_end=True)
        value = encode_inbound(Inbound(instance_id, start, request_id=instance_id, reply_to=self._reply_to))
        self._producer.produce(
            self._inbox, value, key=instance_id, partition=partition_of(instance_id, self._partitions)
        )
        self._producer.poll(0)

    def take_ended(self, timeout_seconds: float) -> Sequence[tuple[str, object]]:
        """Replies that say that a start was taken are passed over."""
        ended: list[tuple[str, object]] = []
        while not ended:
            first = self._replies.poll(timeout_seconds)
            if first is None:
                return ended
            for message in (first, *self._replies.consume(499, 0)):
                if message.error() is not None:
                    raise BenchmarkFailed(f"reading replies: {message.error()}")
                ended += ended_of(message.value() or b"")
        return ended

    def close(self) -> None:
        self._producer.flush(5)
        self._replies.close()


def ended_of(value: bytes) -> list[tuple[str, object]]:
    reply = decode_reply(value)
    if reply.code == ReplyCode.OK:
        return []
    view = orjson.loads(reply.body)
    if reply.code != ReplyCode.ENDED or view["status"] != "COMPLETED":
        raise BenchmarkFailed(f"{reply.request_id}: reply {reply.code}: {reply.body[:200]!r}")
    return [(view["instance_id"], view["result"])]


class KafkaEngine:
    """One hub with default settings and one worker process; `stop` ends it in order."""

    log = "kafka"
    durable = "acknowledged by the one broker, in its page cache"

    def __init__(self, broker: BrokerUnderTest, state: Path) -> None:
        hub = f"bench-{uuid.uuid4().hex[:8]}"
        self._broker = broker
        self._topics = HubTopics(hub)
        self._environment = {
            **os.environ,
            "PERDURE_BROKERS": broker.servers,
            "PERDURE_HUB": hub,
            "PERDURE_DIR": str(state),
        }
        perdure(self._environment, "hub", "create")
        self._partitions = partition_count(broker.servers, self._topics.history)
        self.driver = KafkaDriver(broker.servers, self._topics, self._partitions)
        self._output = (state / "worker.log").open("wb")
        command = [sys.executable, "-m", "perdure", "worker", APP]
        self._worker = subprocess.Popen(command, env=self._environment, stdout=self._output, stderr=subprocess.STDOUT)

    def cpu(self) -> Cpu:
        own = psutil.Process().cpu_times()
        return Cpu(cpu_seconds_of(self._worker.pid), own.user + own.system, cpu_seconds_of(*self._broker.pids))

    def stop(self) -> None:
        self._worker.send_signal(signal.SIGTERM)
        if code := self._worker.wait(STOP_SECONDS):
            raise BenchmarkFailed(f"the worker ended with {code}, see {self._output.name}")

    def audit(self) -> Footprint:
        perdure(self._environment, "audit", "--app", APP)
        return read_footprint(self._broker.servers, self._topics.history, self._partitions)

    def close(self) -> None:
        if self._worker.poll() is None:
            self._worker.kill()
            self._worker.wait()
        self.driver.close()
        self._output.close()


def perdure(environment: Mapping[str, str], *words: str) -> str:
    """Run one command of the CLI; anything but exit 0 is the end of the benchmark."""
    finished = subprocess.run(
        [sys.executable, "-m", "perdure", *words], env=environment, capture_output=True, text=True
    )
    if finished.returncode != 0:
        raise BenchmarkFailed(
            f"perdure {' '.join(words)} ended with {finished.returncode}: {finished.stdout}{finished.stderr}"
        )
    return finished.stdout


def partition_count(servers: str, topic: str) -> int:
    reader = Consumer({"bootstrap.servers": servers, "group.id": "bench"})
    try:
        return len(reader.list_topics(topic, 30).topics[topic].partitions)
    finally:
        reader.close()


def read_footprint(servers: str, topic: str, partitions: int) -> Footprint:
    """Count the records of the history and the bytes of their values."""
    records = size = 0
    for partition in range(partitions):
        reader = kafka_reader(servers, TopicPartition(topic, partition, 0))
        _, end = reader.get_watermark_offsets(TopicPartition(topic, partition), 30)
        at = 0
        while at < end:
            for message in reader.consume(1000, 1):
                at = (message.offset() or 0) + 1
                records, size = records + 1, size + len(message.value() or b"")
        reader.close()
    return Footprint(records, size)


def kafka_engines(broker: BrokerUnderTest) -> Callable[[], AbstractContextManager[Engine]]:
    @contextmanager
    def engine() -> Iterator[Engine]:
        STATE.mkdir(parents=True, exist_ok=True)
        state = Path(tempfile.mkdtemp(prefix="kafka-", dir=STATE))
        running = KafkaEngine(broker, state)
        try:
            yield running
        finally:
            running.close()
        shutil.rmtree(state)

    return engine
