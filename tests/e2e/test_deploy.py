"""New code takes the place of old code in one group, under load: no instance fails, and each goes on as it began."""

from collections import Counter
from collections.abc import Callable

import pytest

from perdure.client import Client
from tests.e2e.workers import WorkerProcess

pytestmark = pytest.mark.kafka
OLD = """
import asyncio
from datetime import timedelta
from perdure import App, OrchestrationContext

app = App()

@app.activity
async def pay(amount: int) -> str:
    await asyncio.sleep(0.1)
    return f"paid {amount}"

@app.activity
async def ship(name: str) -> str:
    await asyncio.sleep(0.1)
    return f"shipped {name}"

@app.orchestration
async def order(ctx: OrchestrationContext, name: str) -> list[str]:
    done = [await ctx.call_activity(pay, 5)]
    await ctx.create_timer(timedelta(seconds=1))
    PATCH
    done.append(await ctx.call_activity(ship, name))
    return done
"""
NEW = OLD.replace(
    "    PATCH\n",
    """    if ctx.patched("inform"):
        done.append(await ctx.call_activity(inform, name))
""",
).replace(
    "@app.orchestration",
    """@app.activity
async def inform(name: str) -> str:
    return f"informed {name}"

@app.orchestration""",
)


def test_workers_are_replaced_one_by_one_under_load_and_no_instance_fails(
    client: Client, start_worker: Callable[..., WorkerProcess]
) -> None:
    old = [start_worker(OLD.replace("    PATCH\n", "")) for _ in range(2)]
    handles = [client.start("order", f"a{number}") for number in range(60)]

    new = start_worker(NEW)
    old[0].terminate()
    handles += [client.start("order", f"b{number}") for number in range(60)]
    assert 0 == old[0].wait()
    start_worker(NEW)
    old[1].terminate()
    handles += [client.start("order", f"c{number}") for number in range(60)]
    assert 0 == old[1].wait()
    handles += [client.start("order", f"d{number}") for number in range(20)]
    results = [handle.result(60) for handle in handles]

    assert new.code is None
    ways = Counter(tuple(done.split()[0] for done in result) for result in results)
    assert {("paid", "shipped"), ("paid", "informed", "shipped")} == set(ways)
    assert 200 == sum(ways.values())
    assert [("paid", "informed", "shipped")] * 20 == [tuple(d.split()[0] for d in result) for result in results[-20:]]
    assert 0 == len(client.list(held=True))
