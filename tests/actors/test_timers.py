"""Durable timers: to the millisecond, from one of them to thousands of years; cancelled ones never fire."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from perdure import App, OrchestrationContext, TaskCanceledError, when_all, when_any
from perdure.schemas import events as ev
from perdure.testing import run

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
MS, SECOND = timedelta(milliseconds=1), timedelta(seconds=1)
app = App()


@app.orchestration
async def sleeps(ctx: OrchestrationContext, wait: timedelta) -> datetime:
    await ctx.create_timer(wait)
    return ctx.current_utc_datetime


@app.orchestration
async def wakes(ctx: OrchestrationContext, at: datetime) -> datetime:
    await ctx.create_timer(at)
    return ctx.current_utc_datetime


@pytest.mark.parametrize(
    ("wait", "passes"),
    [
        (MS, MS),
        (timedelta(microseconds=1), MS),
        (1500 * timedelta(microseconds=1), 2 * MS),
        (SECOND, SECOND),
        (timedelta(minutes=1), timedelta(minutes=1)),
        (timedelta(days=1), timedelta(days=1)),
        (timedelta(days=365), timedelta(days=365)),
        (timedelta(days=36_525 * 5), timedelta(days=36_525 * 5)),
        (timedelta(0), timedelta(0)),
        (-SECOND, timedelta(0)),
    ],
)
def test_a_timer_fires_when_its_time_has_come_and_not_before(wait: timedelta, passes: timedelta) -> None:
    with run(app) as env:
        handle = env.start(sleeps, wait)
        if passes:
            env.advance(passes - MS)
            assert "RUNNING" == handle.get().status.name
        woken = handle.result(passes + SECOND)

        assert NEW_YEAR + passes == woken == env.now


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC),
        datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 7, 1, 12),
        datetime(2999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ],
)
def test_a_timer_at_a_time_of_any_zone_fires_at_that_moment(at: datetime) -> None:
    with run(app) as env:
        woken = env.start(wakes, at).result(timedelta(days=400_000))

    assert at.replace(tzinfo=at.tzinfo or UTC) == woken


def test_timers_fire_in_the_order_of_their_times_and_all_at_once_where_they_are_the_same() -> None:
    fired: list[int] = []
    order = App()

    @order.orchestration
    async def many(ctx: OrchestrationContext) -> list[float]:
        waits = [3, 1, 2, 1, 3, 2]
        timers = {number: ctx.create_timer(seconds * SECOND) for number, seconds in enumerate(waits)}
        out = []
        while timers:
            await when_any(timers.values())
            done = [number for number, timer in timers.items() if timer.is_complete]
            fired.extend(done)
            out.append((ctx.current_utc_datetime - NEW_YEAR) / SECOND)
            for number in done:
                del timers[number]
        return out

    with run(order, replay=False) as env:
        assert [1, 1, 2, 2, 3, 3] == sorted(env.run(many))
    assert [1, 3, 2, 5, 0, 4] == fired


def test_a_cancelled_timer_never_fires_and_its_task_says_so() -> None:
    cancels = App()

    @cancels.orchestration
    async def code(ctx: OrchestrationContext) -> list[Any]:
        timer, other = ctx.create_timer(SECOND), ctx.create_timer(2 * SECOND)
        out = [timer.cancel(), timer.cancel(), timer.is_cancelled, timer.is_complete, timer.is_failed]
        try:
            await timer
        except TaskCanceledError as error:
            out.append(str(error))
        await other
        return [*out, other.cancel(), other.is_cancelled]

    with run(cancels) as env:
        handle = env.start(code)
        assert [True, False, True, True, True, "the timer was cancelled", False, False] == handle.result()
        assert 2 * SECOND == env.now - NEW_YEAR
        kinds = [type(event) for turn in handle.history().decode() for event in turn.events]

    assert (1, 1) == (kinds.count(ev.TimerCanceled), kinds.count(ev.TimerFired))


def test_a_timer_that_nobody_waits_for_ends_with_its_instance() -> None:
    leaves = App()

    @leaves.orchestration
    async def code(ctx: OrchestrationContext) -> str:
        ctx.create_timer(timedelta(days=1))
        return "done"

    with run(leaves) as env:
        assert "done" == env.run(code)
        assert env.hub.next_due_ms() is None


def test_time_stands_still_in_a_turn_and_a_thousand_timers_take_no_time_of_the_test() -> None:
    many = App()

    @many.orchestration
    async def code(ctx: OrchestrationContext) -> float:
        before = ctx.current_utc_datetime
        timers = [ctx.create_timer(timedelta(days=number)) for number in range(1, 1001)]
        assert before == ctx.current_utc_datetime
        await when_all(timers)
        return (ctx.current_utc_datetime - before) / timedelta(days=1)

    with run(many, replay=False) as env:
        assert 1000 == env.run(code)
