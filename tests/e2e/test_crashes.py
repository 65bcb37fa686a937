"""Activities that take their process with them, stops in order, and what becomes of the rest: real workers on a real broker."""

from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.client import Client
from perdure.errors import OrchestrationFailed
from perdure.schemas.events import Status
from tests.e2e.workers import WorkerProcess, until

pytestmark = pytest.mark.kafka
HEADER = """
import asyncio, os, time
from pathlib import Path
from perdure import ActivityContext, App, OrchestrationContext, when_all

app = App()
FILE = Path({file!r})

def note(ctx, text):
    with FILE.open("a") as file:
        file.write(f"{{text}} {{ctx.attempt}}\\n")
"""
POISON = """
@app.activity
def die(ctx: ActivityContext) -> None:
    note(ctx, "die")
    os._exit(9)

@app.activity
async def live(ctx: ActivityContext, number: int) -> int:
    note(ctx, f"live-{number}")
    await asyncio.sleep(0.2)
    return number

@app.orchestration
async def poison(ctx: OrchestrationContext) -> None:
    await ctx.call_activity(die)

@app.orchestration
async def healthy(ctx: OrchestrationContext, number: int) -> int:
    for _ in range(5):
        await ctx.call_activity(live, number)
    return number
"""
SLOW = """
@app.activity
def slow(ctx: ActivityContext, seconds: float) -> str:
    note(ctx, "began")
    end = time.monotonic() + (seconds if ctx.attempt == 1 else 0)
    while time.monotonic() < end and not ctx.cancelled:
        time.sleep(0.02)
    note(ctx, "ended")
    return f"attempt {ctx.attempt}"

@app.orchestration
async def wait(ctx: OrchestrationContext, seconds: float) -> str:
    return await ctx.call_activity(slow, seconds)
"""


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_an_activity_that_kills_its_process_fails_after_three_dispatches_and_no_other_with_it(
    client: Client, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    worker = start_worker(HEADER.format(file=str(file)) + POISON, "--processes", "2")
    healthy = [client.start("healthy", number) for number in range(20)]
    poison = client.start("poison")

    with pytest.raises(OrchestrationFailed, match="ActivityCrashed"):
        poison.result(60)
    assert list(range(20)) == [handle.result(60) for handle in healthy]
    assert ["die 1", "die 2", "die 3"] == [line for line in lines(file) if line.startswith("die")]
    worker.terminate()
    assert 0 == worker.wait()


def test_a_stop_lets_activities_end(client: Client, start_worker: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    file = tmp_path / "notes"
    worker = start_worker(HEADER.format(file=str(file)) + SLOW)
    handle = client.start("wait", 2.0)
    until(lambda: lines(file) == ["began 1"])
    worker.terminate()

    assert 0 == worker.wait()
    assert ["began 1", "ended 1"] == lines(file)
    start_worker(HEADER.format(file=str(file)) + SLOW)
    assert "attempt 1" == handle.result(30)


def test_what_does_not_end_within_the_drain_time_runs_again_elsewhere(
    client: Client, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    worker = start_worker(HEADER.format(file=str(file)) + SLOW, "--drain-timeout", "0.5")
    handle = client.start("wait", 600.0)
    until(lambda: lines(file) == ["began 1"])
    start_worker(HEADER.format(file=str(file)) + SLOW)
    worker.terminate()

    assert 0 == worker.wait()
    assert "attempt 2" == handle.result(30)
    assert Status.COMPLETED == handle.get().status
