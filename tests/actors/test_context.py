"""What an execution is told about itself, and what it may set; nothing of it leaks into another one."""

from contextvars import ContextVar
from datetime import datetime, timedelta
from decimal import Decimal, getcontext
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from perdure import App, OrchestrationContext
from perdure.testing import run

SECOND = timedelta(seconds=1)
Facts = dict[str, Any]
WHO: ContextVar[str] = ContextVar("who", default="nobody")
app = App()


def facts(ctx: OrchestrationContext) -> Facts:
    return {
        "instance": ctx.instance_id, "execution": ctx.execution_id, "parent": ctx.parent_instance_id,
        "tags": dict(ctx.tags), "now": ctx.current_utc_datetime.isoformat(),
    }  # fmt: skip


@app.orchestration(name="child")
async def told_child(ctx: OrchestrationContext) -> Facts:
    return facts(ctx)


@app.orchestration
async def told(ctx: OrchestrationContext, seen: list[Facts]) -> list[Facts]:
    """Three executions, the last of which has a child."""
    seen.append(facts(ctx))
    await ctx.create_timer(SECOND)
    if len(seen) < 3:
        ctx.continue_as_new(seen)
        return []
    return [*seen, await ctx.call_sub_orchestrator(told_child, tags={"c": "3"})]


def test_an_execution_knows_its_ids_its_parent_its_tags_and_its_time() -> None:
    with run(app) as env:
        *own, child = env.run(told, [], instance_id="i", tags={"a": "1", "b": "2"})

    assert [("i", None, {"a": "1", "b": "2"})] * 3 == [(each["instance"], each["parent"], each["tags"]) for each in own]
    assert 3 == len({each["execution"] for each in own})
    assert ("i", {"c": "3"}) == (child["parent"], child["tags"])
    assert child["instance"].startswith("i:")
    moments = [datetime.fromisoformat(each["now"]) for each in own]
    assert [SECOND, SECOND] == [later - earlier for earlier, later in pairwise(moments)]
    assert all(moment.tzinfo is not None for moment in moments)


def test_uuids_are_the_same_in_every_replay_and_of_no_other_execution() -> None:
    own = App()
    made: list[list[str]] = []

    @own.orchestration
    async def code(ctx: OrchestrationContext, rounds: int) -> list[str]:
        ids = [ctx.new_uuid(), ctx.new_uuid()]
        await ctx.create_timer(SECOND)
        ids.append(ctx.new_uuid())
        made.append(ids)
        if rounds:
            ctx.continue_as_new(rounds - 1)
        return ids

    with run(own) as env:
        first, second = env.run(code, 1, instance_id="i"), env.run(code, 0, instance_id="j")

    assert 9 == len({each for ids in made for each in ids})
    assert [made[1], made[2]] == [first, second]
    assert all(str(UUID(each)) == each for each in first)


def test_is_replaying_is_true_only_while_the_code_is_brought_back() -> None:
    own, seen = App(), []

    @own.orchestration
    async def code(ctx: OrchestrationContext) -> None:
        for number in range(3):
            seen.append((number, ctx.is_replaying))
            await ctx.create_timer(SECOND)

    with run(own) as env:
        env.run(code)

    assert [
        (0, False),
        (0, True), (1, False),
        (0, True), (1, True), (2, False),
        (0, True), (1, True), (2, True),
    ] == seen  # fmt: skip


@pytest.mark.parametrize("value", [None, "working", 5, [1, {"a": None}], {"done": 0.5}])
def test_a_custom_status_is_shown_and_survives_continue_as_new(value: Any) -> None:
    own = App()

    @own.orchestration
    async def code(ctx: OrchestrationContext, rounds: int) -> None:
        if not rounds:
            ctx.set_custom_status("first")
            ctx.set_custom_status(value)
        await ctx.wait_for_external_event("go")
        if rounds < 2:
            ctx.continue_as_new(rounds + 1)

    with run(own) as env:
        handle = env.start(code, 0)
        for _ in range(3):
            assert value == handle.get().custom_status
            handle.raise_event("go")
        assert (value, 3, "COMPLETED") == (
            handle.get().custom_status,
            handle.get().generation,
            handle.get().status.name,
        )


@pytest.mark.parametrize("replay", [True, False])
def test_context_variables_of_one_instance_are_not_those_of_another(replay: bool) -> None:
    own = App()

    @own.orchestration
    async def code(ctx: OrchestrationContext, digits: int) -> list[str]:
        seen = [WHO.get()]
        WHO.set(ctx.instance_id)
        getcontext().prec = digits
        for _ in range(2):
            await ctx.wait_for_external_event("go")
            seen += [WHO.get(), str(Decimal(1) / Decimal(3))]
        return seen

    before = WHO.get(), getcontext().prec
    with run(own, replay=replay) as env:
        handles = [env.start(code, digits, instance_id=f"i{digits}") for digits in (2, 3, 4)]
        for _ in range(2):
            for handle in handles:
                handle.raise_event("go")
        results = [handle.result() for handle in handles]

    assert [["nobody", *(2 * [f"i{digits}", "0." + "3" * digits])] for digits in (2, 3, 4)] == results
    assert before == (WHO.get(), getcontext().prec)
