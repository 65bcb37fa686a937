"""What becomes of a hub whose lone broker has lost the end of its logs in a power failure (R14)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.audit import audit_records, read_log
from perdure.client import Client
from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from tests.broker import Broker, LocalBroker
from tests.e2e.workers import WorkerProcess

pytestmark = pytest.mark.kafka
PARTITIONS = 2
LOST = 6
APP = """
from perdure import App, OrchestrationContext

app = App()


@app.activity
def double(number: int) -> int:
    return 2 * number


@app.orchestration
async def order(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(double, number)
"""


@pytest.fixture
def broker(mortal_broker: Broker) -> LocalBroker:
    if not isinstance(mortal_broker, LocalBroker):
        pytest.skip("the files of a broker in a container are out of reach")
    return mortal_broker


@pytest.fixture
def settings(broker: LocalBroker) -> KafkaSettings:
    settings = KafkaSettings(broker.servers, f"disks-{uuid4().hex[:8]}")
    create_hub(settings, PARTITIONS, 1)
    return settings


@pytest.fixture
def start_worker(settings: KafkaSettings, tmp_path: Path) -> Iterator[Callable[[], WorkerProcess]]:
    """The same process slot each time: its stores outlive it."""
    (tmp_path / "app.py").write_text(APP)
    workers: list[WorkerProcess] = []

    def start() -> WorkerProcess:
        workers.append(WorkerProcess(tmp_path, settings.servers, settings.hub, "--dir", str(tmp_path / "state")))
        workers[-1].wait_until_ready()
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


def cut_back(partition: Path, records: int) -> int:
    """Take the last records from a log, as a page cache that never came to the disk; return how many are left. Each is a batch of its own."""
    (segment,) = partition.glob("*.log")
    data = segment.read_bytes()
    ends, position = [], 0
    while position < len(data):
        position += 12 + int.from_bytes(data[position + 8 : position + 12])
        ends.append(position)
    os.truncate(segment, ends[-records - 1])
    for each in (*partition.glob("*.index"), *partition.glob("*.timeindex"), *partition.glob("*.snapshot")):
        each.unlink()
    return len(ends) - records


def test_a_log_whose_end_a_power_failure_took_goes_on_from_what_is_left(
    broker: LocalBroker, settings: KafkaSettings, start_worker: Callable[[], WorkerProcess]
) -> None:
    """The stores know more than the log, which is the truth: they are discarded, and what the inbox still has is decided anew."""
    worker = start_worker()
    with Client.kafka(settings.hub, settings.servers, timeout=60) as client:
        assert [2] * 10 == [client.start("order", 1, instance_id=f"a-{number}").result(60) for number in range(10)]
        worker.terminate()
        assert 0 == worker.wait()
        broker.kill()
        for partition in range(PARTITIONS):
            assert cut_back(broker.data / f"{settings.topics.history}-{partition}", LOST) > 0
        # Nor did the place come to the disk up to which the inbox was trimmed.
        (broker.data / "log-start-offset-checkpoint").unlink(missing_ok=True)
        broker.start()
        again = start_worker()

        # The starts are still on the inbox, so that every instance comes to its end again.
        assert [2] * 10 == [client.instance(f"a-{number}").result(60) for number in range(10)]
        assert [4] * 10 == [client.start("order", 2).result(60) for _ in range(10)]
        again.terminate()
        assert 0 == again.wait()
    log = KafkaLog.open_reader(settings)
    audit = audit_records(read_log(log))
    log.close()
    assert () == audit.findings
    assert {"COMPLETED": 20} == audit.counts.finished
    assert PARTITIONS == again.log.read_text().count("history.records_gone")
    assert "partition.crashed" not in again.log.read_text()
