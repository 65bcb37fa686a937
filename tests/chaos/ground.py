"""The ground of a run: a hub on Kafka or an embedded one, its workers, its clients, its recorder, and all the evidence of it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer

from perdure.client import AsyncClient
from perdure.client.aio import REQUEST_SECONDS
from perdure.client.transport import Transport
from perdure.connection import kafka_transport
from perdure.partitions.kafka import KafkaSettings, create_hub
from perdure.partitions.kafka.history import TopicReads
from perdure.partitions.kafka.snapshots import KafkaSnapshots
from perdure.partitions.ports import LogCorrupt, LogTruncated
from perdure.partitions.rocksdb import RocksStores
from perdure.partitions.snapshots import read_shelf
from tests.checkers.evidence import Call, Evidence, StoreImage
from tests.ports import free_ports
from tests.simulation.plans import ENDLESS

from .app import EFFECTS_VARIABLE, Effects
from .load import Crowd, Load
from .processes import Worker
from .recorder import DEAD_LETTER, HISTORY, INBOX, REPLIES, EmbeddedRecorder, KafkaRecorder, Recorder
from .worker import PARTITIONS_VARIABLE
from .wrapping import RECORDED_VARIABLE

QUIET_SECONDS = 1.0
ROOT = Path(__file__).resolve().parents[2] / "build" / "chaos"
KEPT = "wrong"
_ALL = b"\xff" * 8


@dataclass(frozen=True, slots=True)
class Terms:
    """How a hub is run. `variables` are settings of all its workers."""

    partitions: int = 3
    replication_factor: int = 1
    session_ms: int = 2_000
    variables: Mapping[str, str] = field(default_factory=dict)


def _common(terms: Terms, directory: Path) -> dict[str, str]:
    return {
        EFFECTS_VARIABLE: str(directory / "effects"),
        RECORDED_VARIABLE: str(directory / "recorded"),
        PARTITIONS_VARIABLE: str(terms.partitions),
        "PERDURE_DRAIN_TIMEOUT": "5",
        "PERDURE_CHECKPOINT_TURNS_MAX": "60",
        "PERDURE_CHECKPOINT_SECONDS_MAX": "5",
        "PERDURE_SNAPSHOT_RECORDS_MIN": "150",
        **terms.variables,
    }


class Ground:
    """What both kinds have. `calls` are all that its clients did."""

    def __init__(self, terms: Terms, directory: Path, recorder: Recorder, transport: Transport) -> None:
        self.terms = terms
        self.directory = directory
        self.recorder = recorder
        self.transport = transport
        self.calls: list[Call] = []
        self.workers: list[Worker] = []
        self.effects = Effects(directory / "effects")

    def load(self) -> Load:
        return Load(Crowd(self.transport, self.calls, self.publish, self.terms.partitions))

    def publish(self, partition: int, key: str, value: bytes) -> None:
        """Put a message on an inbox, as any producer would. An embedded hub has no such way in."""
        raise NotImplementedError

    def worker(self, name: str, **variables: str) -> Worker:
        """One more worker, which is not started."""
        raise NotImplementedError

    def is_owned(self) -> bool:
        """Whether more than a claim stands on every partition: who owns all of them gives up all of them when it ends."""
        assert not self.recorder.trouble, self.recorder.trouble
        return all(len(self.recorder.records[HISTORY, partition]) > 1 for partition in range(self.terms.partitions))

    async def quiet(self) -> None:
        """Wait until nothing more is written: what is on its way between partitions when all has ended has arrived."""
        seen, since = -1, 0.0
        now = asyncio.get_running_loop().time
        while now() - since < QUIET_SECONDS:
            with suppress(FileNotFoundError, LogTruncated, LogCorrupt):  # an embedded hub was written to at that moment
                await asyncio.to_thread(self.recorder.catch_up)
                count = sum(map(len, list(self.recorder.records.values())))
                if count != seen:
                    seen, since = count, now()
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.kill()
        await self.transport.close()
        self.recorder.close()

    def evidence(self, errors: Sequence[str]) -> Evidence:
        """Everything, once all workers have ended in order."""
        self.recorder.catch_up()
        records, partitions = self.recorder.records, range(self.terms.partitions)
        on_kafka = isinstance(self.recorder, KafkaRecorder)
        return Evidence(
            self.terms.partitions,
            self.recorder.identity.history_topic_id,
            {partition: records[HISTORY, partition] for partition in partitions},
            {partition: records[INBOX, partition] for partition in partitions},
            records[DEAD_LETTER, 0],
            [each for partition in partitions for each in records[REPLIES, partition]] if on_kafka else None,
            self.calls,
            self.effects.read(),
            [image for worker in self.workers for image in self._images(worker)],
            errors=errors,
            endless=frozenset([ENDLESS]),
        )

    def _images(self, worker: Worker) -> list[StoreImage]:
        """What the stores of a worker hold; one that was damaged and not opened since holds nothing that can be judged."""
        stores, images = RocksStores(self._stores_of(worker)), list[StoreImage]()
        for partition in range(self.terms.partitions):
            with suppress(Exception):
                store = stores.open_reader(partition)
                if store is not None:
                    images.append(StoreImage(worker.name, partition, dict(store.scan(b"", _ALL))))
                    store.close()
        return images

    def _stores_of(self, worker: Worker) -> Path:
        raise NotImplementedError


class KafkaGround(Ground):
    """A fresh hub on brokers. `through`: the address that workers use, where that is not the clients'."""

    def __init__(self, servers: str, terms: Terms, directory: Path, *, through: str = "") -> None:
        self.settings = KafkaSettings(servers, f"chaos-{uuid4().hex[:8]}")
        self.through = through or servers
        self.hub = create_hub(self.settings, terms.partitions, terms.replication_factor)
        recorder = KafkaRecorder(self.settings, directory / "recorded")
        super().__init__(terms, directory, recorder, kafka_transport(self.settings.hub, servers, {}, REQUEST_SECONDS))
        self.producer = Producer({"bootstrap.servers": servers, "log_level": 0})

    def publish(self, partition: int, key: str, value: bytes) -> None:
        self.producer.produce(self.settings.topics.inbox, value, key, partition)
        self.producer.poll(0)

    def worker(self, name: str, **variables: str) -> Worker:
        given = {
            **_common(self.terms, self.directory),
            "PERDURE_BROKERS": self.through,
            "PERDURE_HUB": self.settings.hub,
            "PERDURE_HEALTH_PORT": "0",
            "PERDURE_KAFKA_SESSION_TIMEOUT_MS": str(self.terms.session_ms),
            **variables,
        }
        self.workers.append(Worker(name, "kafka", given, self.directory / name))
        return self.workers[-1]

    def has_snapshots(self) -> bool:
        """Whether every partition that has a history has a whole snapshot on the hub's topic."""
        reads = TopicReads(self.settings)
        topic = KafkaSnapshots(self.settings, reads)
        shelves = [read_shelf(topic, partition, lambda _: True) for partition in range(self.terms.partitions)]
        reads.close()
        return all(shelf.kept for shelf in shelves)

    def _stores_of(self, worker: Worker) -> Path:
        return worker.directory / "worker-0"

    async def close(self) -> None:
        await super().close()
        topics = self.settings.topics
        names = [topics.inbox, topics.history, topics.snapshots, topics.replies, topics.dead_letter]
        for future in self.settings.admin().delete_topics(names).values():
            with suppress(Exception):
                future.result(5)


class EmbeddedGround(Ground):
    """A fresh embedded hub. It has one worker, which is all of it; its clients come over HTTP."""

    def __init__(self, terms: Terms, directory: Path) -> None:
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        recorder = EmbeddedRecorder(directory / "hub", directory / "recorded")
        super().__init__(terms, directory, recorder, AsyncClient.http(self.url).transport)

    def worker(self, name: str, **variables: str) -> Worker:
        given = {**_common(self.terms, self.directory), "PERDURE_PORT": str(self._port), **variables}
        self.workers.append(Worker(name, "embedded", given, self.directory / "hub"))
        return self.workers[-1]

    def _stores_of(self, worker: Worker) -> Path:
        return worker.directory / "stores"


@contextmanager
def place() -> Iterator[Path]:
    """A directory for one run, which is kept where the run does not end as it should."""
    ROOT.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=ROOT))
    try:
        yield directory
    except BaseException:
        print(f"  kept: {directory}", flush=True)
        raise
    if not (directory / KEPT).exists():
        shutil.rmtree(directory)


@asynccontextmanager
async def standing(ground: Any) -> AsyncIterator[Any]:
    """The ground, cleared away afterwards."""
    try:
        yield ground
    finally:
        await ground.close()


async def until(done: Any, seconds: float, what: str) -> None:
    """Wait for a condition."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not done():
        assert asyncio.get_running_loop().time() < deadline, f"it did not happen within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)
