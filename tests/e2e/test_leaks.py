"""A worker whose connections are reset again and again, and whose epochs end again and again, holds as much as before (I11)."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from perdure.client import Client
from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from perdure.partitions.partitioner import partition_of
from tests.brokers import ProxiedBroker, proxied_broker
from tests.e2e.workers import WorkerProcess, until
from tests.wanting import broker_wanted

RESETS = 14
WARM = 5
APP = """
from perdure import App, OrchestrationContext

app = App()


@app.activity
def double(number: int) -> int:
    return 2 * number


@app.orchestration
async def quick(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(double, number)
"""


@pytest.fixture
def broker() -> Iterator[ProxiedBroker]:
    with broker_wanted():
        broker = proxied_broker()
    yield broker
    broker.stop()


class Held:
    """What a process holds."""

    def __init__(self, pid: int) -> None:
        process = psutil.Process(pid)
        self.files = process.num_fds()
        self.threads = process.num_threads()

    def __repr__(self) -> str:
        return f"{self.files} files, {self.threads} threads"


@pytest.mark.kafka
def test_what_a_worker_holds_does_not_grow_with_connections_that_are_reset_and_epochs_that_end(
    broker: ProxiedBroker, tmp_path: Path
) -> None:
    settings = KafkaSettings(broker.servers, f"leaks-{uuid4().hex[:8]}")
    create_hub(settings, 2, 1)
    (tmp_path / "app.py").write_text(APP)
    worker = WorkerProcess(tmp_path, broker.through, settings.hub)
    worker.wait_until_ready()
    stranger = KafkaLog.open(settings)
    held: list[Held] = []
    try:
        with Client.kafka(settings.hub, settings.servers, timeout=60) as client:
            for number in range(RESETS):
                broker.proxy.cut()
                name = f"quick-{number}"
                stranger.open_history(partition_of(name, 2)).append(name, b"a stray record")
                assert 2 * number == client.start("quick", number, instance_id=name).result(60)
                held.append(Held(worker.pid))
        until(lambda: epochs_lost(worker) >= RESETS // 2, worker.log.read_text)
        assert broker.proxy.counts["cut"] > RESETS
        warm, last = held[:WARM], held[-WARM:]
        assert max(each.threads for each in last) <= max(each.threads for each in warm) + 4, held
        assert max(each.files for each in last) <= max(each.files for each in warm) + 10, held
        worker.terminate()
        assert 0 == worker.wait()
    finally:
        worker.kill()
        stranger.close()


def epochs_lost(worker: WorkerProcess) -> float:
    lines = [line for line in worker.metrics() if line.startswith("perdure_epochs_lost_total{")]
    return sum(float(line.split()[-1]) for line in lines)
