"""The engine on the embedded log: hub, worker and client in this process, as `perdure dev` has them; the client is one thread."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from perdure.partitions.embedded.log import EmbeddedLog
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.membership import SoleMembership
from perdure.partitions.rocksdb import RocksStores
from perdure.worker import Worker, WorkerSettings

from .jobs import app
from .log_driver import LogDriver
from .measure import BenchmarkFailed, Cpu
from .process import APP, STATE, perdure
from .suite import Engine, Footprint, footprint_of


class EmbeddedEngine:
    """A worker on a thread of its own. The CPU time of this process is the engine's, but for that of the thread that asks."""

    log = "embedded"
    durable = "synced to disk"

    def __init__(self, directory: Path, partitions: int) -> None:
        self._directory = directory
        self._log = EmbeddedLog.open(directory, partition_count=partitions)
        self._stores = RocksStores(directory / "stores")
        membership = SoleMembership(self._log.identity.partition_count)
        settings = WorkerSettings(OwnerSettings(owner="bench"))
        self._worker = Worker(app, self._log, membership, self._stores, settings)
        self._thread = threading.Thread(target=self._worker.run, name="engine", daemon=True)
        self._thread.start()
        self.driver = LogDriver(self._log.share())

    def cpu(self) -> Cpu:
        own, client = psutil.Process().cpu_times(), time.thread_time()
        return Cpu(own.user + own.system - client, client, 0.0)

    def stop(self) -> None:
        self._worker.stop()
        self._thread.join(60)
        if self._thread.is_alive():
            raise BenchmarkFailed("the worker did not stop within 60 s")
        self.driver.close()
        self._stores.close()
        self._log.close()

    def audit(self) -> Footprint:
        perdure({}, "audit", "--dir", str(self._directory), "--app", APP)
        return footprint_of(EmbeddedLog.open_reader(self._directory))


@contextmanager
def embedded_engines(partitions: int) -> Iterator[Engine]:
    STATE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="embedded-", dir=STATE))
    yield EmbeddedEngine(directory, partitions)
    shutil.rmtree(directory)
