"""The ways into a hub: each with a worker that can be stopped and started again, and clients as a user would make them."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from perdure.actors.app import App
from perdure.client import AsyncClient, Client
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.kafka import KafkaLog, KafkaMembership, KafkaSettings, create_hub
from perdure.partitions.rocksdb import RocksStores
from perdure.serve import ApiServer, create_api
from perdure.serve.server import bind
from perdure.worker import Worker, WorkerSettings
from tests.client.hub import PARTITIONS, RunningHub, app


class Way(Protocol):
    """A hub, and how a client comes to it."""

    def connect(self, timeout: float = 20.0) -> Client: ...

    def connect_async(self, timeout: float = 20.0) -> AsyncClient: ...

    def stop_worker(self) -> None: ...

    def restart_worker(self, code: App | None = None) -> None: ...

    def close(self) -> None: ...


class InProcess:
    """Over the hub's own log, in its process."""

    def __init__(self, directory: Path) -> None:
        self.hub = RunningHub(directory)
        self.stop_worker: Callable[[], None] = self.hub.stop_worker
        self.restart_worker: Callable[..., None] = self.hub.restart_worker

    def connect(self, timeout: float = 20.0) -> Client:
        return Client.over(self.hub.log.share(), timeout=timeout)

    def connect_async(self, timeout: float = 20.0) -> AsyncClient:
        return AsyncClient.over(self.hub.log.share(), timeout=timeout)

    def close(self) -> None:
        self.hub.close()


class OverHttp(InProcess):
    """Through `perdure serve`'s API, with a token."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        api = create_api(AsyncClient.over(self.hub.log.share(), timeout=2.0), "secret")
        self.server = ApiServer(api, bind("127.0.0.1", 0))
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

    def __init__(self, directory: Path, servers: str) -> None:
        self._directory = directory
        self.settings = KafkaSettings(servers, f"way-{uuid4().hex[:8]}", {"session.timeout.ms": 2000})
        create_hub(self.settings, PARTITIONS, 1)
        self._code = app
        self.restart_worker()

    def restart_worker(self, code: App | None = None) -> None:
        self._code = code or self._code
        self._stack = ExitStack()
        log = KafkaLog.open(self.settings)
        self._stack.callback(log.close)
        stores = RocksStores(self._directory / "stores")
        self._stack.callback(stores.close)
        membership = KafkaMembership(self.settings, log.wake)
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

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop_worker()
