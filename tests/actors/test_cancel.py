"""Cancel asks, and compensation runs; terminate does not ask. Both reach the children of children."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from perdure import App, OrchestrationCanceled, OrchestrationContext, TaskFailedError
from perdure.errors import InstanceCanceled, InstanceTerminated
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.events import Status
from perdure.testing import Environment, run
from tests.partitions.cluster import Cluster

SECOND = timedelta(seconds=1)
app = App()
done: list[str] = []


@app.activity
def note(text: str) -> str:
    done.append(text)
    return text


@app.orchestration
async def compensates(ctx: OrchestrationContext) -> None:
    await ctx.call_activity(note, "booked")
    try:
        await ctx.wait_for_external_event("never")
    except OrchestrationCanceled as canceled:
        await ctx.call_activity(note, f"refunded: {canceled}")
        await ctx.create_timer(SECOND)
        await ctx.call_activity(note, "told")
        raise
    finally:
        await ctx.call_activity(note, "closed")


@app.orchestration
def generator(ctx: OrchestrationContext) -> Generator[Any, Any, None]:
    try:
        yield ctx.create_timer(timedelta(days=1))
    except OrchestrationCanceled:
        yield ctx.call_activity(note, "undone")
        raise


@app.orchestration
async def family(ctx: OrchestrationContext, depth: int) -> str:
    if not depth:
        await ctx.wait_for_external_event("never")
    try:
        return await ctx.call_sub_orchestrator(family, depth - 1, instance_id=f"{ctx.instance_id}/{depth}")
    finally:
        await ctx.call_activity(note, f"left {depth}")


@app.orchestration
async def watches(ctx: OrchestrationContext) -> list[str]:
    try:
        await ctx.call_sub_orchestrator(family, 0, instance_id="watched")
    except TaskFailedError as error:
        return [error.details.type, error.details.message]
    return []


@app.orchestration
async def busy(ctx: OrchestrationContext) -> None:
    try:
        await ctx.call_activity(note, "busy")
    finally:
        done.append(f"finally, replaying: {ctx.is_replaying}")
        await ctx.call_activity(note, "never")


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


def statuses(env: Environment) -> dict[str, str]:
    return {each.instance_id: each.status.name for each in env.list()}


def test_cancel_raises_where_the_code_waits_and_compensation_runs_to_its_end() -> None:
    with run(app) as env:
        handle = env.start(compensates)
        handle.cancel("too late")
        with pytest.raises(InstanceCanceled, match="too late"):
            handle.result()
        failure = handle.get().failure

    assert ["booked", "refunded: too late", "told", "closed"] == done
    assert failure is not None
    assert ("OrchestrationCanceled", "too late") == (failure.type, failure.message)


def test_cancel_raises_in_a_generator_too() -> None:
    with run(app) as env:
        handle = env.start(generator)
        handle.cancel()
        with pytest.raises(InstanceCanceled):
            handle.result()

    assert ["undone"] == done


def test_a_second_cancel_does_not_interrupt_the_compensation_that_the_first_one_set_going() -> None:
    with run(app) as env:
        handle = env.start(compensates)
        handle.cancel("first")
        handle.cancel("second")
        with pytest.raises(InstanceCanceled, match="first"):
            handle.result()

    assert ["booked", "refunded: first", "told", "closed"] == done


def test_except_exception_does_not_swallow_a_cancel() -> None:
    own = App()

    @own.orchestration
    async def code(ctx: OrchestrationContext) -> str:
        try:
            await ctx.wait_for_external_event("never")
        except Exception:  # noqa: BLE001
            return "swallowed"
        return ""

    with run(own) as env:
        handle = env.start(code)
        handle.cancel()
        assert Status.CANCELED == handle.get().status


def test_cancel_goes_down_to_the_children_of_children_and_each_compensates() -> None:
    with run(app, partitions=4) as env:
        handle = env.start(family, 3, instance_id="top")
        handle.cancel("enough")

        assert Status.CANCELED == handle.get().status
        assert {"CANCELED"} == set(statuses(env).values())
        assert 4 == len(statuses(env))

    assert ["left 1", "left 2", "left 3"] == sorted(done)


def test_a_parent_whose_child_is_canceled_or_terminated_is_told_so() -> None:
    for end, expected in (
        ("cancel", "OrchestrationCanceled"),
        ("terminate", "OrchestrationTerminated"),
        ("purge", "OrchestrationTerminated"),
    ):
        with run(app) as env:
            parent = env.start(watches)
            child = env.instance("watched")
            child.purge(force=True) if end == "purge" else getattr(child, end)("why")
            assert expected == parent.result()[0]


def test_a_child_that_is_given_up_is_canceled() -> None:
    own = App()
    own.include(app)

    @own.orchestration
    async def gives_up(ctx: OrchestrationContext) -> str:
        child = ctx.call_sub_orchestrator(family, 2, instance_id="child")
        await ctx.create_timer(SECOND)
        child.cancel()
        return "gave up"

    with run(own) as env:
        assert "gave up" == env.run(gives_up, instance_id="top")
        ended = statuses(env)

    assert "COMPLETED" == ended.pop("top")
    assert {"CANCELED"} == set(ended.values())
    assert 3 == len(ended)


def test_cancelling_a_start_that_lies_ahead_runs_none_of_its_code() -> None:
    with run(app) as env:
        handle = env.start(compensates, start_at=env.now + SECOND)
        handle.cancel("no need")
        with pytest.raises(InstanceCanceled, match="no need"):
            handle.result()
        assert env.hub.next_due_ms() is None
    assert [] == done


def test_a_suspended_instance_is_canceled_when_it_is_resumed() -> None:
    with run(app) as env:
        handle = env.start(compensates)
        handle.suspend()
        handle.cancel("late")
        assert Status.SUSPENDED == handle.get().status
        handle.resume()
        with pytest.raises(InstanceCanceled):
            handle.result()
    assert "refunded: late" in done


def test_cancel_after_the_end_changes_nothing() -> None:
    own = App()

    @own.orchestration
    async def code(ctx: OrchestrationContext) -> int:
        return 5

    hub = Cluster(code=own)
    hub.join()
    hub.settle()
    hub.send("i", ms.Start("code"))
    hub.send("i", ms.Cancel())
    hub.settle()

    assert ("COMPLETED", 5) == (hub.view("i")["status"], hub.view("i")["result"])


# Cancel races with what the code does.


async def loops(ctx: OrchestrationContext, rounds: int) -> None:
    await ctx.wait_for_external_event("go")
    ctx.continue_as_new(rounds + 1)


async def makes_child(ctx: OrchestrationContext) -> None:
    await ctx.wait_for_external_event("go")
    await ctx.call_sub_orchestrator("waits", instance_id="child")


async def waits(ctx: OrchestrationContext) -> None:
    await ctx.wait_for_external_event("never")


def hub_of(*codes: Any) -> Cluster:
    own = App()
    for code in codes:
        own.orchestration(code)
    hub = Cluster(code=own)
    hub.join()
    hub.settle()
    return hub


def test_a_cancel_that_comes_in_the_very_turn_that_continues_as_new_is_not_lost() -> None:
    hub = hub_of(loops)
    hub.send("i", ms.Start("loops", b"0"))
    hub.settle()
    hub.send("i", ms.RaiseEvent("go"))
    hub.send("i", ms.Cancel("enough"))
    hub.settle()

    view = hub.view("i")
    assert ("CANCELED", 2, "enough") == (view["status"], view["generation"], view["failure"]["message"])
    hub.check()


def test_a_child_made_in_the_very_turn_that_is_canceled_is_canceled_too() -> None:
    hub = hub_of(makes_child, waits)
    hub.send("i", ms.Start("makes_child"))
    hub.settle()
    hub.send("i", ms.RaiseEvent("go"))
    hub.send("i", ms.Cancel("enough"))
    hub.settle()

    assert ("CANCELED", "CANCELED") == (hub.view("i")["status"], hub.view("child")["status"])
    assert "enough" == hub.view("child")["failure"]["message"]
    hub.check()


def test_a_cancel_that_comes_with_the_start_finds_the_code_where_it_first_waits() -> None:
    hub = hub_of(waits)
    hub.send("i", ms.Start("waits"))
    hub.send("i", ms.Cancel("at once"))
    hub.settle()

    assert "CANCELED" == hub.view("i")["status"]


# Terminate.


def test_terminate_does_not_ask_and_nothing_is_decided_any_more() -> None:
    with run(app) as env:
        env.fake(note, "slow", takes=10 * SECOND)
        handle = env.start(busy)
        handle.terminate("enough")

        with pytest.raises(InstanceTerminated):
            handle.result()
        assert "enough" == handle.get().result
        env.advance(60 * SECOND)
        last = [event for turn in handle.history().decode() for event in turn.events][-1]

    assert isinstance(last, ev.ExecutionTerminated)


def test_terminate_goes_down_to_the_children_unless_it_is_told_not_to() -> None:
    for recursive, expected in ((True, {"TERMINATED"}), (False, {"TERMINATED", "RUNNING"})):
        with run(app, partitions=4) as env:
            env.start(family, 3, instance_id="top").terminate("enough", recursive=recursive)

            assert expected == set(statuses(env).values())
            assert [] == done


def test_a_running_instance_that_is_purged_leaves_no_children_behind() -> None:
    with run(app, partitions=4) as env:
        env.start(family, 3, instance_id="top").purge(force=True)

        assert {"TERMINATED"} == set(statuses(env).values())
        assert "top" not in statuses(env)
