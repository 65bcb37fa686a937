"""A standby takes over from a killed worker at once, long before the group has noticed: real workers on a real broker."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure.audit import audit_records, read_log
from perdure.client import Client
from perdure.partitions.kafka import KafkaLog, KafkaSettings
from perdure.schemas.codec import decode_claim, decode_envelope
from perdure.schemas.records import RecordKind
from tests.e2e.conftest import PARTITIONS
from tests.e2e.workers import SESSION_VARIABLE, WorkerProcess, until

pytestmark = pytest.mark.kafka
SESSION_MS = 45_000
APP = """
import asyncio
from perdure import App, OrchestrationContext

app = App()

@app.activity
async def step(number: int) -> int:
    await asyncio.sleep(0.05)
    return number + 1

@app.orchestration
async def count(ctx: OrchestrationContext, steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = await ctx.call_activity(step, number)
    return number
"""


@pytest.fixture
def patient_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that waits much longer for a silent member than a take-over by a standby may last."""
    monkeypatch.setenv(SESSION_VARIABLE, str(SESSION_MS))


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[KafkaLog]:
    log = KafkaLog.open_reader(settings)
    yield log
    log.close()


def claims(log: KafkaLog) -> dict[int, list[str]]:
    """The owners of each partition, in order."""
    found: dict[int, list[str]] = {}
    for partition in range(PARTITIONS):
        span = log.span_history(partition)
        for record in log.read_history(partition, span.start, span.end):
            envelope = decode_envelope(record.value or b"")
            if envelope.kind == RecordKind.CLAIM:
                found.setdefault(partition, []).append(decode_claim(envelope.body, envelope.format).owner)
    return found


def readiness(worker: WorkerProcess) -> dict[str, Any]:
    answer: dict[str, Any] = worker.ask("/readyz")[1]
    return answer


def stands_by(worker: WorkerProcess) -> bool:
    """It has a warm store of all that others own."""
    found = readiness(worker)
    return len(found["partitions"]) + len(found["standing_by"]) == PARTITIONS and bool(found["standing_by"])


@pytest.mark.usefixtures("patient_group")
def test_a_standby_takes_over_from_a_killed_worker_before_the_group_notices(
    client: Client, start_worker: Callable[..., WorkerProcess], log: KafkaLog
) -> None:
    workers = [start_worker(APP, "--standby", "1"), start_worker(APP, "--standby", "1")]
    until(lambda: all(map(stands_by, workers)), lambda: "\n".join(worker.log.read_text() for worker in workers))
    handles = [client.start("count", 20, instance_id=f"count-{number}") for number in range(20)]
    victim, heir = workers
    before = claims(log)
    victim.kill()

    # Were it for the group, nothing would happen for longer than this test waits.
    assert [20] * 20 == [handle.result(SESSION_MS / 1000 - 10) for handle in handles]
    assert "partition.standing_in" in heir.log.read_text()
    after = claims(log)
    lost = [partition for partition, owners in after.items() if owners != before[partition]]
    assert lost
    assert all(1 == len(after[partition]) - len(before[partition]) for partition in lost)
    report = audit_records(read_log(log))
    assert (0, ()) == (report.exit_code, report.findings)


@pytest.mark.usefixtures("patient_group")
def test_a_standby_leaves_a_worker_that_stops_in_order_to_the_group(
    client: Client, start_worker: Callable[..., WorkerProcess], log: KafkaLog
) -> None:
    first = start_worker(APP, "--standby", "1")
    second = start_worker(APP, "--standby", "1")
    until(lambda: stands_by(first) and stands_by(second))
    handles = [client.start("count", 10) for _ in range(10)]
    first.terminate()
    assert 0 == first.wait()

    assert [10] * 10 == [handle.result(30) for handle in handles]
    assert "partition.standing_in" not in second.log.read_text()
