"""A lone broker whose disk is full ends itself; the hub waits for it, and nothing that was acknowledged is lost."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.audit import audit_records, read_log
from perdure.client import Client
from perdure.errors import PerdureError
from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from tests.broker import LocalBroker, broker_directory, ready_java
from tests.chaos.disks import SmallDisk, can_mount
from tests.e2e.workers import WorkerProcess, until
from tests.wanting import broker_wanted

pytestmark = pytest.mark.kafka
STARTS_MAX = 500
APP = """
from perdure import App, OrchestrationContext

app = App()


@app.activity
def measure(text: str) -> int:
    return len(text)


@app.orchestration
async def order(ctx: OrchestrationContext, text: str) -> int:
    return await ctx.call_activity(measure, text)
"""


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    if not can_mount():
        pytest.skip("only root can make a small file system")
    disk = SmallDisk(broker_directory() / "data", megabytes=96)
    yield disk
    disk.close()


@pytest.fixture
def broker(disk: SmallDisk) -> Iterator[LocalBroker]:
    with broker_wanted():
        broker = LocalBroker(ready_java(), disk.directory.parent)
        broker.start()
    yield broker
    broker.stop()


def test_a_broker_whose_disk_is_full_is_waited_for_and_nothing_that_was_acknowledged_is_lost(
    broker: LocalBroker, disk: SmallDisk, tmp_path: Path
) -> None:
    settings = KafkaSettings(broker.servers, f"full-{uuid4().hex[:8]}")
    create_hub(settings, 2, 1)
    (tmp_path / "app.py").write_text(APP)
    worker = WorkerProcess(tmp_path, settings.servers, settings.hub)
    worker.wait_until_ready()
    text = "x" * 30_000
    try:
        with (
            Client.kafka(settings.hub, settings.servers, timeout=60) as client,
            Client.kafka(settings.hub, settings.servers, timeout=2) as hasty,
        ):
            acknowledged = [client.start("order", text, instance_id=f"early-{number}").id for number in range(20)]
            with suppress(PerdureError):
                hasty.start("order", text, instance_id="order-0")  # it finds the hub while the broker lives
            disk.fill()
            for number in range(1, STARTS_MAX):
                if not broker.alive():
                    break
                with suppress(PerdureError):
                    hasty.start("order", text, instance_id=f"order-{number}")
                    acknowledged.append(f"order-{number}")
            until(lambda: not broker.alive())
            disk.clear()
            broker.start()

            assert [len(text)] * len(acknowledged) == [client.instance(name).result(60) for name in acknowledged]
            assert len(text) == client.start("order", text).result(60)
        worker.terminate()
        assert 0 == worker.wait()
    finally:
        worker.kill()
    assert "partition.crashed" not in worker.log.read_text()
    log = KafkaLog.open_reader(settings)
    audit = audit_records(read_log(log))
    log.close()
    assert () == audit.findings
    assert audit.counts.finished["COMPLETED"] > len(acknowledged) >= 20
