"""Code as users write it, and the types that it has: read by mypy and pyright (test_types.py), and run by no test."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from perdure import (
    Activity,
    ActivityContext,
    App,
    AsyncClient,
    CancellableTask,
    Client,
    ExternalTask,
    Orchestration,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TimerTask,
    when_all,
    when_any,
)
from perdure.testing import run


@dataclass
class Order:
    id: UUID
    amount: int


@dataclass
class Receipt:
    order: Order
    paid: bool


app = App()


@app.activity
def charge(order: Order) -> Receipt:
    return Receipt(order, paid=True)


@app.activity
async def ship(ctx: ActivityContext, receipt: Receipt) -> str:
    return ctx.idempotency_key


@app.activity(name="tick", retry_policy=RetryPolicy(first_retry_interval=timedelta(1), max_number_of_attempts=2))
def count() -> int:
    return 1


@app.activity
async def look(ctx: ActivityContext) -> list[int]:
    return [ctx.attempt]


@app.orchestration
async def sell(ctx: OrchestrationContext, order: Order) -> str:
    assert_type(ctx.call_activity(charge, order), CancellableTask[Receipt])
    receipt = await ctx.call_activity(charge, order)
    assert_type(receipt, Receipt)
    assert_type(await ctx.call_activity(charge, input=order), Receipt)
    assert_type(await ctx.call_activity(count), int)
    assert_type(await ctx.call_activity(look), list[int])
    assert_type(await ctx.call_activity("charge", order), Any)
    assert_type(await ctx.call_activity("charge", order, return_type=Receipt), Receipt)
    return await ctx.call_activity(ship, receipt, start_to_close=timedelta(seconds=5), tags={"a": "b"})


@app.orchestration
def steps(ctx: OrchestrationContext, name: str) -> Generator[Task[Any], Any, int]:
    yield ctx.create_timer(timedelta(seconds=1))
    return 5


@app.orchestration(name="other")
async def plain(ctx: OrchestrationContext) -> None:
    assert_type(sell, Orchestration[Order, str])
    assert_type(charge, Activity[Order, Receipt])
    assert_type(ship, Activity[Receipt, str])
    assert_type(await ctx.call_sub_orchestrator(sell, Order(UUID(int=1), 1)), str)
    assert_type(await ctx.call_sub_orchestrator(steps, input="x", instance_id="child"), int)
    assert_type(await ctx.call_sub_orchestrator(plain), None)
    assert_type(await ctx.call_sub_orchestrator("sell", 1, return_type=int), int)
    assert_type(ctx.create_timer(datetime.now(UTC)), TimerTask)
    assert_type(ctx.wait_for_external_event("go"), ExternalTask[Any])
    assert_type(await ctx.wait_for_external_event("go", data_type=Order, timeout=timedelta(1)), Order)
    assert_type(ctx.current_utc_datetime, datetime)
    assert_type(ctx.new_uuid(), str)
    assert_type(ctx.parent_instance_id, str | None)
    assert_type(ctx.patched("p"), bool)


@app.orchestration
async def together(ctx: OrchestrationContext, orders: list[Order]) -> list[Receipt]:
    order = orders[0]
    both = await when_all((ctx.call_activity(charge, order), ctx.call_activity(count)))
    assert_type(both, tuple[Receipt, int])
    event, timer = ctx.wait_for_external_event("go", data_type=int), ctx.create_timer(timedelta(1))
    won = await when_any([event, timer])
    if won is timer:
        assert_type(event.cancel(), bool)
    calls = [ctx.call_activity(charge, each) for each in orders]
    first = await when_any(calls)
    assert_type(first, CancellableTask[Receipt])
    assert_type(first.get_result(), Receipt)
    assert_type(await when_all(calls), list[Receipt])
    ctx.continue_as_new([])
    return await when_all(calls)


def use(client: Client) -> None:
    handle = client.start(sell, Order(UUID(int=1), 1), instance_id="i", events=[("go", 1)])
    assert_type(handle.result(), str)
    assert_type(client.start(plain).result(timeout=1), None)
    assert_type(client.start("sell", 5).result(), Any)
    assert_type(client.instance("i", steps).result(), int)


async def use_async(client: AsyncClient) -> None:
    handle = await client.start(steps, "x")
    assert_type(await handle.result(), int)


def test_it() -> None:
    with run(app) as env:
        assert_type(env.run(sell, Order(UUID(int=1), 1)), str)
        assert_type(env.start(steps, "x").result(), int)


def called_as_plain_functions() -> None:
    charge(Order(UUID(int=1), 1))
