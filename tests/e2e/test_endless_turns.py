"""Turns that block or never end, in a real worker on a real broker: interrupted, held, released by other code; the others go on."""

from collections.abc import Callable

import pytest

from perdure.client import Client
from tests.e2e.workers import WorkerProcess, until

pytestmark = pytest.mark.kafka
BAD = """
import time
from perdure import App, Limits, OrchestrationContext

app = App(limits=Limits(turn_seconds_max=0.5))

@app.activity
def double(number: int) -> int:
    return 2 * number

def spin() -> None:
    while True:
        pass

def block() -> None:
    time.sleep(600)

TRAPS = {"spin": spin, "block": block}

@app.orchestration
async def trap(ctx: OrchestrationContext, name: str) -> int:
    number = await ctx.call_activity(double, 21)
    TRAPS[name]()
    return number

@app.orchestration
async def healthy(ctx: OrchestrationContext, number: int) -> int:
    for _ in range(3):
        number = await ctx.call_activity(double, number)
    return number
"""
GOOD = BAD.replace("    TRAPS[name]()\n", "")


def test_a_turn_that_blocks_or_never_ends_is_held_and_other_code_goes_on_with_it(
    client: Client, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker(BAD)
    traps = {name: client.start("trap", name, instance_id=name) for name in ("spin", "block")}
    others = [client.start("healthy", number) for number in range(20)]
    assert [8 * number for number in range(20)] == [handle.result(60) for handle in others]
    for name in traps:
        until(lambda name=name: traps[name].get().held is not None)

    held = {instance.instance_id: instance.held for instance in client.list(held=True)}
    assert set(traps) == set(held)
    for why in held.values():
        assert why is not None
        assert "took longer than 0.5 s and was interrupted" in why.reason

    start_worker(GOOD)
    worker.terminate()
    assert 0 == worker.wait()
    assert [42, 42] == [handle.result(60) for handle in traps.values()]
