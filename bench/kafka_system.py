"""The engine on Kafka: a hub of its own with default settings, one `perdure worker` process, a client in this process."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from perdure.partitions.kafka import KafkaLog, KafkaSettings

from .bare_system import BrokerUnderTest
from .log_driver import LogDriver
from .measure import BenchmarkFailed, Cpu, cpu_seconds_of
from .process import APP, STATE, perdure
from .suite import Engine, Engines, Footprint, footprint_of

STOP_SECONDS = 60


class KafkaEngine:
    """`stop` ends the worker in order, as a deploy would."""

    log = "kafka"
    durable = "acknowledged by the one broker, in its page cache"

    def __init__(self, broker: BrokerUnderTest, directory: Path, partitions: int) -> None:
        self.hub = hub = f"bench-{uuid.uuid4().hex[:8]}"
        self._broker = broker
        self._environment = {"PERDURE_BROKERS": broker.servers, "PERDURE_HUB": hub, "PERDURE_DIR": str(directory)}
        perdure(self._environment, "hub", "create", "--partitions", str(partitions))
        self._log = KafkaLog.open_client(KafkaSettings(broker.servers, hub))
        self._output = (directory / "worker.log").open("wb")
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "perdure", "worker", APP],
            env={**os.environ, **self._environment},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.driver = LogDriver(self._log)

    @property
    def pid(self) -> int:
        return self._worker.pid

    def cpu(self) -> Cpu:
        own = psutil.Process().cpu_times()
        return Cpu(cpu_seconds_of(self._worker.pid), own.user + own.system, cpu_seconds_of(*self._broker.pids))

    def stop(self) -> None:
        self._worker.send_signal(signal.SIGTERM)
        if code := self._worker.wait(STOP_SECONDS):
            raise BenchmarkFailed(f"the worker ended with {code}, see {self._output.name}")

    def audit(self) -> Footprint:
        perdure(self._environment, "audit", "--app", APP)
        return footprint_of(self._log)

    def close(self) -> None:
        if self._worker.poll() is None:
            self._worker.kill()
            self._worker.wait()
        self.driver.close()
        self._output.close()


def kafka_engines(broker: BrokerUnderTest) -> Engines:
    @contextmanager
    def engine(partitions: int) -> Iterator[Engine]:
        STATE.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="kafka-", dir=STATE))
        running = KafkaEngine(broker, directory, partitions)
        try:
            yield running
        finally:
            running.close()
        shutil.rmtree(directory)

    return engine
