"""External events: any case, early or late, first in first out by name, and never lost, not even across continue-as-new."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import (
    App,
    OrchestrationCanceled,
    OrchestrationContext,
    TaskCanceledError,
    ValueRefused,
    when_all,
    when_any,
)
from perdure.errors import InstanceFinished, InstanceNotFound, OrchestrationFailed
from perdure.schemas import messages as ms
from perdure.testing import Environment, run
from tests.partitions.cluster import Cluster

SECOND = timedelta(seconds=1)


def app_of(code: Any, *others: Any) -> App:
    app = App()
    for each in (code, *others):
        app.orchestration(name=each.__name__)(each)
    return app


async def three(ctx: OrchestrationContext) -> list[Any]:
    return [await ctx.wait_for_external_event("Go") for _ in range(3)]


def test_names_match_without_regard_to_case_in_any_language() -> None:
    async def code(ctx: OrchestrationContext) -> list[Any]:
        return [await ctx.wait_for_external_event(name) for name in ("APPROVED", "Straße", "ΣΊΣΥΦΟΣ")]

    with run(app_of(code)) as env:
        handle = env.start("code")
        for name in ("approved", "STRASSE", "σίσυφος"):
            handle.raise_event(name, name)
        assert ["approved", "STRASSE", "σίσυφος"] == handle.result()


def test_events_that_come_before_anybody_waits_are_kept_in_their_order() -> None:
    async def code(ctx: OrchestrationContext) -> list[Any]:
        await ctx.create_timer(SECOND)
        return [await ctx.wait_for_external_event(name) for name in ("b", "a", "b")]

    with run(app_of(code)) as env:
        handle = env.start("code")
        for name, value in (("a", 1), ("B", 2), ("b", 3), ("a", 4)):
            handle.raise_event(name, value)
        assert [2, 1, 3] == handle.result()


def test_waits_of_one_name_are_served_in_the_order_in_which_they_began() -> None:
    async def code(ctx: OrchestrationContext) -> list[Any]:
        waits = [ctx.wait_for_external_event("go") for _ in range(3)]
        first = await when_any(waits)
        return [waits.index(first), *await when_all(waits)]

    with run(app_of(code)) as env:
        handle = env.start("code")
        for value in "xyz":
            handle.raise_event("go", value)
        assert [0, "x", "y", "z"] == handle.result()


def test_a_cancelled_wait_takes_no_event() -> None:
    async def code(ctx: OrchestrationContext) -> list[Any]:
        first, second = ctx.wait_for_external_event("go"), ctx.wait_for_external_event("go")
        out: list[Any] = [first.cancel(), first.is_cancelled]
        try:
            await first
        except TaskCanceledError as error:
            out.append(str(error))
        return [*out, await second]

    with run(app_of(code)) as env:
        handle = env.start("code")
        handle.raise_event("go", 1)
        assert [True, True, "the wait for event 'go' was cancelled", 1] == handle.result()


@pytest.mark.parametrize("give_up", [False, True])
@pytest.mark.parametrize("cancel", [False, True])
def test_a_wait_that_is_left_behind_takes_the_next_event_unless_it_is_given_up(cancel: bool, give_up: bool) -> None:
    async def code(ctx: OrchestrationContext) -> list[Any]:
        left = ctx.wait_for_external_event("go")
        with suppress(OrchestrationCanceled):
            await when_any([left, ctx.create_timer(SECOND)])
        if give_up:
            left.cancel()
        return [await ctx.wait_for_external_event("go"), left.is_complete and not left.is_cancelled]

    with run(app_of(code)) as env:
        handle = env.start("code")
        if cancel:
            handle.cancel("not now")
        else:
            env.advance(2 * SECOND)
        handle.raise_event("go", 1)
        if not give_up:
            handle.raise_event("go", 2)
        assert ([1, False] if give_up else [2, True]) == handle.result()


def test_a_wait_with_a_timeout_ends_at_its_time_and_its_event_is_for_the_next_wait() -> None:
    async def code(ctx: OrchestrationContext) -> list[Any]:
        out: list[Any] = []
        for timeout in (SECOND, datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)):
            try:
                await ctx.wait_for_external_event("go", timeout=timeout)
            except TimeoutError as error:
                out.append(f"{error} {ctx.current_utc_datetime:%S}")
        return [*out, await ctx.wait_for_external_event("go", timeout=SECOND)]

    with run(app_of(code)) as env:
        handle = env.start("code")
        env.advance(3.5 * SECOND)
        handle.raise_event("go", "late")
        assert ["no event 'go' came in time 01", "no event 'go' came in time 03", "late"] == handle.result()
        env.advance(timedelta(days=1))
        assert env.hub.next_due_ms() is None


def test_an_events_payload_is_read_by_its_type_and_one_that_does_not_fit_fails_the_wait_alone() -> None:
    async def code(ctx: OrchestrationContext) -> list[Any]:
        out: list[Any] = []
        for _ in range(2):
            try:
                out.append(str(await ctx.wait_for_external_event("at", data_type=datetime)))
            except ValueRefused as error:
                out.append(str(error))
        return out

    with run(app_of(code)) as env:
        handle = env.start("code")
        handle.raise_event("at", "soon")
        handle.raise_event("at", "2026-01-02T03:04:05Z")
        refused, read = handle.result()

    assert refused.startswith("event 'at': $: Input should be a valid datetime")
    assert "2026-01-02 03:04:05+00:00" == read


def test_an_event_between_orchestrations() -> None:
    async def asks(ctx: OrchestrationContext, other: str) -> Any:
        ctx.send_event(other, "Question", data={"from": ctx.instance_id})
        return await ctx.wait_for_external_event("answer")

    async def answers(ctx: OrchestrationContext) -> str:
        question = await ctx.wait_for_external_event("question")
        ctx.send_event(question["from"], "ANSWER", data=42)
        return "told"

    with run(app_of(asks, answers), partitions=4) as env:
        other = env.start("answers", instance_id="other")
        assert 42 == env.run("asks", "other", instance_id="asker")
        assert "told" == other.result()


def test_who_raises_an_event_on_nobody_or_on_what_has_ended_is_told() -> None:
    async def code(ctx: OrchestrationContext) -> None: ...

    with run(app_of(code)) as env:
        with pytest.raises(InstanceNotFound):
            env.instance("nobody").raise_event("go")
        ended = env.start("code")
        with pytest.raises(InstanceFinished, match="is COMPLETED"):
            ended.raise_event("go")


# Across continue-as-new.


async def collects(ctx: OrchestrationContext, state: dict[str, Any]) -> list[Any]:
    """Take one event in each execution."""
    got = await ctx.wait_for_external_event("go")
    seen = [*state["seen"], got]
    if len(seen) < state["wanted"]:
        ctx.continue_as_new({**state, "seen": seen})
        return []
    return seen


def test_events_that_nobody_took_go_along_in_their_order() -> None:
    with run(app_of(collects)) as env:
        handle = env.start("collects", {"seen": [], "wanted": 20})
        for number in range(20):
            handle.raise_event("GO" if number % 2 else "go", number)
        assert list(range(20)) == handle.result()
        assert 20 == handle.get().generation


def test_events_that_come_in_the_very_turn_that_continues_go_along() -> None:
    hub = Cluster(code=app_of(collects))
    hub.join()
    hub.settle()
    # All of them are in the inbox together, so that one turn takes the start and every event.
    hub.send("i", ms.Start("collects", b'{"seen": [], "wanted": 7}'))
    for number in range(6):
        hub.send("i", ms.RaiseEvent("go", b"%d" % number))
    hub.settle()
    assert "RUNNING" == hub.view("i")["status"]
    hub.send("i", ms.RaiseEvent("go", b"6"))
    hub.settle()

    assert list(range(7)) == hub.view("i")["result"]
    hub.check()


async def two_waits(ctx: OrchestrationContext, seen: list[Any]) -> list[Any]:
    """Continue when the first of two waits is served; what the second one got was never looked at."""
    if len(seen) >= 4:
        return seen
    first, second = ctx.wait_for_external_event("go"), ctx.wait_for_external_event("go")
    other = ctx.wait_for_external_event("other")
    won = await when_any([other, first, second])
    ctx.continue_as_new([*seen, won.get_result()])
    return []


@pytest.mark.parametrize("together", [True, False])
def test_an_event_whose_wait_was_served_but_never_looked_at_goes_along(together: bool) -> None:
    hub = Cluster(code=app_of(two_waits))
    hub.join()
    hub.settle()
    hub.send("i", ms.Start("two_waits", b"[]"))
    for number in range(4):
        hub.send("i", ms.RaiseEvent("go", b"%d" % number))
        if not together:
            hub.settle()
    hub.settle()

    assert [0, 1, 2, 3] == hub.view("i")["result"]
    hub.check()


async def leaves_a_timed_wait(ctx: OrchestrationContext, seen: list[Any]) -> list[Any]:
    ctx.wait_for_external_event("go", timeout=SECOND)
    if not seen:
        ctx.continue_as_new(["continued"])
    return seen


def test_an_event_that_comes_after_the_end_of_its_turn_ends_a_wait_and_decides_nothing() -> None:
    hub = Cluster(code=app_of(leaves_a_timed_wait))
    hub.join()
    hub.settle()
    # One turn: the code starts, leaves a wait with a timer behind and continues; then the event comes for that wait.
    hub.send("i", ms.Start("leaves_a_timed_wait", b"[]"))
    hub.send("i", ms.RaiseEvent("go", b"1"))
    hub.settle()

    assert ("COMPLETED", ["continued"]) == (hub.view("i")["status"], hub.view("i")["result"])
    hub.check()


def test_code_may_let_events_go_when_it_continues() -> None:
    async def code(ctx: OrchestrationContext, again: bool) -> Any:
        if again:
            await ctx.create_timer(SECOND)
            ctx.continue_as_new(False, save_events=False)
            return None
        return await ctx.wait_for_external_event("go", timeout=SECOND)

    with run(app_of(code)) as env:
        handle = env.start("code", True)
        handle.raise_event("go", 1)
        with pytest.raises(OrchestrationFailed, match="TimeoutError"):
            handle.result()


def test_events_of_a_suspended_instance_are_kept_in_order() -> None:
    with run(app_of(three)) as env:
        handle = env.start("three")
        handle.suspend()
        for number in range(3):
            handle.raise_event("go", number)
        env.advance(SECOND)
        assert "SUSPENDED" == handle.get().status.name
        handle.resume()
        assert [0, 1, 2] == handle.result()


# With the start.


def test_events_that_come_with_the_start_are_there_before_the_first_turn() -> None:
    async def code(ctx: OrchestrationContext) -> list[Any]:
        return [await ctx.wait_for_external_event(name) for name in ("go", "stop", "GO")]

    with run(app_of(code)) as env:
        handle = env.start("code", events=[("go", 1), ("Stop", 2), ("go", 3)])
        assert [1, 2, 3] == handle.result()
        [turn] = handle.history().decode()
        assert ["ExecutionStarted", *["EventRaised"] * 3, "ExecutionCompleted"] == [
            type(each).__name__ for each in turn.events
        ]


def test_events_of_a_start_that_lies_ahead_are_kept_for_it() -> None:
    with run(app_of(three)) as env:
        handle = env.start("three", events=[("go", 1)], start_at=env.now + SECOND)
        handle.raise_event("go", 2)
        handle.raise_event("go", 3)
        assert "PENDING" == handle.get().status.name
        assert [1, 2, 3] == handle.result()
        assert datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC) == env.now


# Whatever comes when.


async def waited(ctx: OrchestrationContext, name: str, way: str) -> list[Any]:
    """What came to one wait that is given up, raced against a timer, or ends at a time."""
    wait = ctx.wait_for_external_event(name, timeout=SECOND if way == "timed" else None)
    if way == "timed":
        with suppress(TimeoutError):
            return [await wait]
        return []
    if way == "raced":
        timer = ctx.create_timer(SECOND)
        await when_any([timer, wait])
        timer.cancel()
    return [] if wait.cancel() else [wait.get_result()]


async def echoes(ctx: OrchestrationContext, state: dict[str, Any]) -> list[Any]:
    """Take events of three names by waits of every kind, continuing now and then beside a wait that is not looked at."""
    steps, got = state["steps"], state["got"]
    for at, (name, way) in enumerate(steps):
        if way == "continued":
            ctx.wait_for_external_event(name)
            ctx.continue_as_new({"steps": steps[at + 1 :], "got": got})
            return []
        got += await waited(ctx, name, way)
    # Whatever is left is taken at the end, so that nothing may be missing.
    while True:
        waits = [ctx.wait_for_external_event(name) for name in "abc"]
        over = ctx.create_timer(5 * SECOND)
        if await when_any([*waits, over]) is over:
            return got
        over.cancel()
        got += [wait.get_result() for wait in waits if not wait.cancel()]


def drive(env: Environment, steps: list[tuple[str, str]], sent: list[tuple[str, int]]) -> list[Any]:
    handle = env.start("echoes", {"steps": [list(step) for step in steps], "got": []})
    for number, (name, wait_ms) in enumerate(sent):
        handle.raise_event(name, [name.lower(), number])
        env.advance(timedelta(milliseconds=wait_ms))
    result: list[Any] = handle.result()
    return result


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["canceled", "raced", "timed", "continued"])), max_size=8
    ),
    st.lists(st.tuples(st.sampled_from(["a", "A", "b", "B", "c"]), st.sampled_from([0, 0, 300, 1_000])), max_size=10),
)
@settings(max_examples=60)
def test_every_event_is_taken_once_and_in_the_order_of_its_name(
    steps: list[tuple[str, str]], sent: list[tuple[str, int]]
) -> None:
    with run(app_of(echoes)) as env:
        got = drive(env, steps, sent)

    for name in "abc":
        expected = [number for number, (each, _) in enumerate(sent) if each.lower() == name]
        assert expected == [number for each, number in got if each == name]
