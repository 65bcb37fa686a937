"""What a type checker makes of the public face: nothing here runs; tests/client/test_types.py has it checked."""

from dataclasses import dataclass
from typing import Any, assert_type

from perdure import App, AsyncClient, Client, Handle, OrchestrationContext

app = App()


@dataclass
class Order:
    items: int


@dataclass
class Receipt:
    total: float


@app.activity
def charge(order: Order) -> Receipt:
    return Receipt(order.items * 5.0)


@app.activity
async def notify(text: str) -> None:
    print(text)


@app.orchestration
async def fulfil(ctx: OrchestrationContext, order: Order) -> Receipt:
    receipt = await ctx.call_activity(charge, order)
    assert_type(receipt, Receipt)
    assert_type(await ctx.call_activity(notify, "sent"), None)
    assert_type(await ctx.call_sub_orchestrator(fulfil, input=order), Receipt)
    assert_type(await ctx.call_activity("by-name", 1), Any)
    assert_type(await ctx.wait_for_external_event("go", data_type=int), int)
    await ctx.call_activity(charge, "no order")  # type: ignore[misc]
    await ctx.call_activity(notify, 5)  # type: ignore[misc]
    return receipt


@app.orchestration
async def tidy(ctx: OrchestrationContext) -> int:
    return 1


def use(client: Client) -> None:
    handle = client.start(fulfil, Order(3), instance_id="order-1", tags={"team": "a"}, if_exists="return")
    assert_type(handle, Handle[Receipt])
    assert_type(handle.result(timeout=30), Receipt)
    assert_type(client.start(tidy).result(), int)
    assert_type(client.start("by-name", {"any": "thing"}).result(), Any)
    assert_type(client.instance("order-1", fulfil).result(), Receipt)
    client.start(fulfil, "no order")  # type: ignore[misc]
    client.start(fulfil)  # type: ignore[arg-type]
    client.start(tidy, 5)  # type: ignore[misc]
    client.start(tidy, id="order-1")  # type: ignore[call-overload]
    client.list(state="RUNNING")  # type: ignore[call-arg]


async def use_async(client: AsyncClient) -> None:
    handle = await client.start(fulfil, Order(3))
    assert_type(await handle.result(), Receipt)
    assert_type((await client.start("by-name", 1)).started is None, bool)
