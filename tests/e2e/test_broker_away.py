"""The broker is away when a worker starts, and again in the middle: it waits, comes back by itself, and loses nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.audit import audit_records, read_log
from perdure.client import Client
from perdure.partitions.kafka import KafkaLog, KafkaSettings, create_hub
from tests.broker import Broker, LocalBroker
from tests.e2e.workers import WorkerProcess, until

pytestmark = pytest.mark.kafka
APP = """
import asyncio, time
from pathlib import Path
from perdure import ActivityContext, App, OrchestrationContext

app = App()
GATE, NOTES, STEPS = Path({gate!r}), Path({notes!r}), Path({steps!r})

@app.activity
def wait_at_the_gate(ctx: ActivityContext, name: str) -> str:
    with NOTES.open("a") as notes:
        notes.write(f"{{name}} {{ctx.attempt}}\\n")
    while not GATE.exists() and not ctx.cancelled:
        time.sleep(0.02)
    return name

@app.activity
async def step(ctx: ActivityContext, number: int) -> int:
    with STEPS.open("a") as steps:
        steps.write(f"{{ctx.instance_id}} {{ctx.task_id}} {{ctx.attempt}}\\n")
    await asyncio.sleep(0.05)
    return number + 1

@app.orchestration
async def patient(ctx: OrchestrationContext, name: str) -> str:
    return await ctx.call_activity(wait_at_the_gate, name)

@app.orchestration
async def busy(ctx: OrchestrationContext, number: int) -> int:
    for _ in range(60):
        number = await ctx.call_activity(step, number)
    return number
"""


@pytest.fixture
def settings(mortal_broker: Broker) -> KafkaSettings:
    settings = KafkaSettings(mortal_broker.servers, f"away-{uuid4().hex[:8]}")
    create_hub(settings, 2, 1)
    return settings


@pytest.fixture
def start_worker(settings: KafkaSettings, tmp_path: Path) -> Iterator[Callable[[], WorkerProcess]]:
    workers: list[WorkerProcess] = []

    def start() -> WorkerProcess:
        app = APP.format(gate=str(tmp_path / "gate"), notes=str(tmp_path / "notes"), steps=str(tmp_path / "steps"))
        (tmp_path / "app.py").write_text(app)
        workers.append(WorkerProcess(tmp_path, settings.servers, settings.hub))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


def test_a_worker_waits_for_its_broker_at_the_start_and_in_the_middle_and_loses_nothing(
    mortal_broker: Broker,
    settings: KafkaSettings,
    start_worker: Callable[[], WorkerProcess],
    tmp_path: Path,
) -> None:
    mortal_broker.kill()
    worker = start_worker()
    until(lambda: "no Kafka broker answered" in worker.log.read_text(), worker.log.read_text)
    assert (200, {"status": "waiting for the brokers"}) == worker.ask("/healthz")
    assert (503, {"ready": False, "waiting_for": "the brokers"}) == worker.ask("/readyz")
    mortal_broker.start()
    worker.wait_until_ready()

    with Client.kafka(settings.hub, settings.servers, timeout=60) as client:
        patient = [client.start("patient", f"patient-{number}") for number in range(4)]
        busy = [client.start("busy", number) for number in range(20)]
        until(lambda: (tmp_path / "notes").exists() and len((tmp_path / "notes").read_text().splitlines()) == 4)
        mortal_broker.kill()
        # It is away for longer than a session: membership is over, and the partitions with it.
        until(lambda: worker.log.read_text().count("partition.lost") >= 2, worker.log.read_text)
        assert worker.code is None
        mortal_broker.start()
        worker.wait_until_ready()
        (tmp_path / "gate").touch()

        assert [f"patient-{number}" for number in range(4)] == [handle.result(60) for handle in patient]
        assert [number + 60 for number in range(20)] == [handle.result(60) for handle in busy]
        assert 5 == client.start("busy", -55).result(60)
    # The functions ran on while the broker was away: none of them was begun again.
    assert [f"patient-{number} 1" for number in range(4)] == sorted((tmp_path / "notes").read_text().splitlines())
    worker.terminate()
    assert 0 == worker.wait()
    log = KafkaLog.open_reader(settings)
    assert () == audit_records(read_log(log)).findings
    log.close()


def test_a_broker_that_is_restarted_in_order_costs_nothing_but_time(
    mortal_broker: Broker, settings: KafkaSettings, start_worker: Callable[[], WorkerProcess], tmp_path: Path
) -> None:
    if not isinstance(mortal_broker, LocalBroker):
        pytest.skip("a broker in a container is only killed here")
    worker = start_worker()
    worker.wait_until_ready()
    with Client.kafka(settings.hub, settings.servers, timeout=60) as client:
        busy = [client.start("busy", number) for number in range(20)]
        for _ in range(2):
            mortal_broker.pause()
            mortal_broker.start()
            assert 5 == client.start("busy", -55).result(60)
        assert [number + 60 for number in range(20)] == [handle.result(60) for handle in busy]
    worker.terminate()
    assert 0 == worker.wait()
    log = KafkaLog.open_reader(settings)
    assert () == audit_records(read_log(log)).findings
    log.close()
    # No function was begun twice. A task whose record was written while its report was lost was never begun: it is, as attempt 2.
    begun = [tuple(line.split()[:2]) for line in (tmp_path / "steps").read_text().splitlines()]
    assert len(begun) == len(set(begun)) == 60 * (20 + 2)
