"""A worker that is paused for longer than its session comes back as a zombie: what it writes is void, and every instance ends once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.audit import audit_records, read_log
from perdure.client import Client
from perdure.partitions.kafka import KafkaLog, KafkaSettings
from tests.e2e.conftest import PARTITIONS
from tests.e2e.workers import WorkerProcess, until

pytestmark = pytest.mark.kafka
APP = """
import asyncio
from pathlib import Path
from perdure import ActivityContext, App, OrchestrationContext

app = App()
NOTES = Path({notes!r})

@app.activity
async def step(ctx: ActivityContext, number: int) -> int:
    with NOTES.open("a") as notes:
        notes.write(f"{{ctx.idempotency_key}} {{ctx.attempt}}\\n")
    await asyncio.sleep(0.05)
    return number + 1

@app.orchestration
async def busy(ctx: OrchestrationContext, number: int) -> int:
    for _ in range(40):
        number = await ctx.call_activity(step, number)
    return number
"""


def owned(worker: WorkerProcess) -> int:
    phases = worker.ask("/readyz")[1]["partitions"]
    return list(phases.values()).count("owning")


def test_a_paused_worker_is_followed_and_when_it_comes_back_it_changes_nothing(
    client: Client, settings: KafkaSettings, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    zombie, other = (start_worker(APP.format(notes=str(notes))) for _ in range(2))
    until(lambda: owned(zombie) == owned(other) == PARTITIONS // 2)
    handles = [client.start("busy", number) for number in range(60)]
    until(lambda: notes.exists() and len(notes.read_text().splitlines()) > 300)
    zombie.pause()
    until(lambda: owned(other) == PARTITIONS)
    zombie.go_on()
    results = [handle.result(60) for handle in handles]
    until(lambda: "partition.lost" in zombie.log.read_text() or "partition.standby" in zombie.log.read_text())

    assert [number + 40 for number in range(60)] == results
    assert zombie.code is None
    # The group gives it a share again, and it works on as if nothing had been.
    until(lambda: owned(zombie) == owned(other) == PARTITIONS // 2)
    assert [5] * 8 == [client.start("busy", -35).result(60) for _ in range(8)]
    for worker in (zombie, other):
        worker.terminate()
        assert 0 == worker.wait()
    log = KafkaLog.open_reader(settings)
    audit = audit_records(read_log(log))
    log.close()
    assert () == audit.findings
    assert {"COMPLETED": 68} == audit.counts.finished
    # What ran twice ran as another attempt, and that is recorded.
    lines = Counter(notes.read_text().splitlines())
    assert {1} == set(lines.values())
    assert sum(int(line.split()[-1]) > 1 for line in lines) <= audit.counts.activities_redispatched
