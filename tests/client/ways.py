"""The ways into a hub: each with a worker that can be stopped and started again, and clients as a user would make them."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition

from perdure.actors.app import App
from perdure.client import AsyncClient, Client
from perdure.partitions.embedded.log import EmbeddedLog
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.kafka import KafkaLog, KafkaMembership, KafkaSettings, create_hub
from perdure.partitions.ports import Membership
from perdure.partitions.rocksdb import RocksStores
from perdure.serve import ApiServer, create_api
from perdure.serve.server import bind
from perdure.worker import Worker, WorkerSettings
from tests.client.hub import PARTITIONS, RunningHub, ShareOf, app

ALL = range(PARTITIONS)


API_SECONDS = 1.0


class Way(Protocol):
    """A hub, and how a client comes to it. `hasty_seconds`: what a client of little patience gives an owner to answer."""

    hasty_seconds: float

    def connect(self, timeout: float = 20.0) -> Client: ...

    def connect_async(self, timeout: float = 20.0) -> AsyncClient: ...

    def stop_worker(self) -> None: ...

    def restart_worker(self, code: App | None = None, partitions: Sequence[int] = ALL) -> None:
        """`partitions`: nobody owns the others."""

    def dead_letters(self) -> list[dict[str, bytes]]:
        """What is said of each dead letter, the oldest first."""
        ...

    def close(self) -> None: ...


@contextmanager
def impatient(way: Way, seconds: float) -> Iterator[Client]:
    """A client that took its time to find the hub, and gives an answer no more than `seconds`."""
    with way.connect() as client:
        client._inner.timeout = seconds
        yield client


class InProcess:
    """Over the hub's own log, in its process."""

    hasty_seconds = 1.0

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.hub = RunningHub(directory)
        self.stop_worker: Callable[[], None] = self.hub.stop_worker
        self.restart_worker: Callable[..., None] = self.hub.restart_worker

    def connect(self, timeout: float = 20.0) -> Client:
        return Client.over(self.hub.log.share(), timeout=timeout)

    def connect_async(self, timeout: float = 20.0) -> AsyncClient:
        return AsyncClient.over(self.hub.log.share(), timeout=timeout)

    def dead_letters(self) -> list[dict[str, bytes]]:
        return [dict(record.headers) for record in EmbeddedLog.open_reader(self._directory).read_dead_letters()]

    def close(self) -> None:
        self.hub.close()


class OverHttp(InProcess):
    """Through the API, with a token."""

    hasty_seconds = 2 * API_SECONDS

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.serve()

    def serve(self, port: int = 0) -> None:
        api = create_api(AsyncClient.over(self.hub.log.share(), timeout=API_SECONDS), "secret")
        self.server = ApiServer(api, bind("127.0.0.1", port))
        self.server.start()

    def connect(self, timeout: float = 20.0) -> Client:
        return Client.http(self.server.url, "secret", timeout=timeout)

    def connect_async(self, timeout: float = 20.0) -> AsyncClient:
        return AsyncClient.http(self.server.url, "secret", timeout=timeout)

    def close(self) -> None:
        self.server.close()
        super().close()


class OverKafka:
    """Over nothing but Kafka."""

    hasty_seconds = 1.0

    def __init__(self, directory: Path, servers: str) -> None:
        self._directory = directory
        self.settings = KafkaSettings(servers, f"way-{uuid4().hex[:8]}", {"session.timeout.ms": 2000})
        create_hub(self.settings, PARTITIONS, 1)
        self._code = app
        self.restart_worker()

    def restart_worker(self, code: App | None = None, partitions: Sequence[int] = ALL) -> None:
        self._code = code or self._code
        self._stack = ExitStack()
        log = KafkaLog.open(self.settings)
        self._stack.callback(log.close)
        stores = RocksStores(self._directory / "stores")
        self._stack.callback(stores.close)
        whole = len(partitions) == PARTITIONS
        membership: Membership = KafkaMembership(self.settings, log.wake) if whole else ShareOf(partitions)
        self._worker = Worker(self._code, log, membership, stores, WorkerSettings(OwnerSettings("test")))
        self._thread = threading.Thread(target=self._worker.run, daemon=True)
        self._thread.start()

    def stop_worker(self) -> None:
        self._worker.stop()
        self._thread.join(30)
        self._stack.close()

    def connect(self, timeout: float = 20.0) -> Client:
        return Client.kafka(self.settings.hub, self.settings.servers, timeout=timeout)

    def connect_async(self, timeout: float = 20.0) -> AsyncClient:
        return AsyncClient.kafka(self.settings.hub, self.settings.servers, timeout=timeout)

    def dead_letters(self) -> list[dict[str, bytes]]:
        reader = Consumer({"bootstrap.servers": self.settings.servers, "group.id": "test"})
        topic = self.settings.topics.dead_letter
        end = reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]
        reader.assign([TopicPartition(topic, 0, 0)])
        letters = [message for _ in range(end) if (message := reader.poll(10)) is not None]
        reader.close()
        return [{name: value or b"" for name, value in letter.headers() or []} for letter in letters]

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop_worker()


class OverServe(OverKafka):
    """Through `perdure serve`, a process of its own, in front of a hub on Kafka."""

    hasty_seconds = 2 * API_SECONDS

    def __init__(self, directory: Path, servers: str) -> None:
        super().__init__(directory, servers)
        command = [
            sys.executable,
            "-m",
            "perdure",
            "serve",
            "--brokers",
            servers,
            "--hub",
            self.settings.hub,
            "--port",
            "0",
        ]
        settings = {
            "PERDURE_TOKEN": "secret",
            "PERDURE_REQUEST_TIMEOUT": str(API_SECONDS),
            "PERDURE_LOG_LEVEL": "error",
        }
        self._process = subprocess.Popen(
            command, cwd=directory, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        self.url = self._process.stderr.readline().split()[0]

    def connect(self, timeout: float = 20.0) -> Client:
        return Client.http(self.url, "secret", timeout=timeout)

    def connect_async(self, timeout: float = 20.0) -> AsyncClient:
        return AsyncClient.http(self.url, "secret", timeout=timeout)

    def close(self) -> None:
        self._process.terminate()
        code, said = self._process.wait(30), self._process.stderr and self._process.stderr.read()
        super().close()
        assert (0, "") == (code, said)
