"""Mistakes that a type checker must find: each line that ends in `# mistake` has one, and no other has (test_types.py)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from perdure import ActivityContext, App, Client, OrchestrationContext, RetryPolicy, when_all, when_any
from perdure.schemas.events import TaskCompleted
from perdure.testing import run


@dataclass
class Order:
    amount: int


app = App()


@app.activity
def charge(order: Order) -> int:
    return order.amount


@app.activity
def count() -> int:
    return 1


@app.orchestration
async def sell(ctx: OrchestrationContext, order: Order) -> str:
    await ctx.call_activity(charge, 5)  # mistake
    await ctx.call_activity(charge, input="x")  # mistake
    await ctx.call_activity(charge)  # mistake
    await ctx.call_activity(count, 5)  # mistake
    await ctx.call_activity(charge, order, retries=3)  # mistake
    await ctx.call_activity(charge, order, start_to_close=5)  # mistake
    await ctx.call_activity(charge, order, retry_policy=3)  # mistake
    await ctx.call_activity(sell, order)  # mistake
    await ctx.call_sub_orchestrator(sell, 5)  # mistake
    await ctx.call_sub_orchestrator(charge, order)  # mistake
    await ctx.call_sub_orchestrator(sell)  # mistake
    total: str = await ctx.call_activity(charge, order)  # mistake
    other: int = await ctx.call_sub_orchestrator(sell, order)  # mistake
    await ctx.create_timer(5)  # mistake
    await ctx.wait_for_external_event(5)  # mistake
    event: str = await ctx.wait_for_external_event("go", data_type=int)  # mistake
    await when_all([ctx.call_activity(charge, order), 5])  # mistake
    await when_any(ctx.create_timer(timedelta(1)))  # mistake
    one, two, three = await when_all((ctx.call_activity(count), ctx.call_activity(count)))  # mistake
    ctx.set_status("x")  # mistake
    ctx.instance_id = "x"  # mistake
    return total + event + str(other) + str(one) + str(two) + str(three)


@app.orchestration  # mistake
async def two_inputs(ctx: OrchestrationContext, one: int, two: int) -> int:
    return one + two


@app.orchestration  # mistake
def not_async(ctx: OrchestrationContext, one: int) -> int:
    return one


@app.orchestration  # mistake
async def stream(ctx: OrchestrationContext, one: int) -> AsyncIterator[int]:
    yield one


@app.activity  # mistake
def three_parameters(ctx: ActivityContext, one: int, two: int) -> int:
    return one + two


RetryPolicy(max_number_of_attempts=3)  # mistake
RetryPolicy(first_retry_interval=5, max_number_of_attempts=3)  # mistake
RetryPolicy(timedelta(1), 3)  # mistake


def use(client: Client) -> None:
    client.start(sell, 5)  # mistake
    client.start(sell)  # mistake
    client.start(sell, Order(1), id="i")  # mistake
    result: int = client.start(sell, Order(1)).result()  # mistake
    assert result
    with run(app) as env:
        env.run(sell, 5)  # mistake


def change(event: TaskCompleted) -> None:
    event.result = b"other"  # mistake
