"""Retry policies and time-outs of activities and sub-orchestrations, to the millisecond in virtual time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from perdure import (
    ActivityContext,
    App,
    NonRetriableError,
    OrchestrationContext,
    RetryPolicy,
    TaskFailedError,
    when_any,
)
from perdure.actors.executor import InstanceHeld, RecordedTurn
from perdure.errors import OrchestrationFailed
from perdure.schemas import events as ev
from perdure.testing import Environment, run

SECOND, MS = timedelta(seconds=1), timedelta(milliseconds=1)


class SoldOut(Exception):
    pass


@dataclass
class Shop:
    """An activity `act` and a sub-orchestration `child` that fail so many times, and when each attempt was made."""

    fails: int = 100
    error: Callable[[], Exception] = lambda: OSError("not now")
    attempts: list[timedelta] = field(default_factory=list)
    app: App = field(default_factory=App)

    def __post_init__(self) -> None:
        app = self.app

        @app.activity
        def act(ctx: ActivityContext, value: int) -> int:
            self.note()
            return value

        @app.orchestration
        async def child(ctx: OrchestrationContext, value: int) -> int:
            if not ctx.is_replaying:
                self.note()
            return value

        @app.orchestration
        async def calls(ctx: OrchestrationContext) -> int:
            return await ctx.call_activity(act, 7, **self.options)

        @app.orchestration
        async def calls_child(ctx: OrchestrationContext) -> int:
            return await ctx.call_sub_orchestrator(child, 7, **self.options)

    def note(self) -> None:
        self.attempts.append(self.env.now - self.began)
        if len(self.attempts) <= self.fails:
            raise self.error()

    @contextmanager
    def open(self, **options: Any) -> Iterator[Environment]:
        self.options = options
        with run(self.app) as self.env:
            self.began: datetime = self.env.now
            yield self.env

    def seconds(self) -> list[float]:
        return [each / SECOND for each in self.attempts]


def policy(first: timedelta = SECOND, attempts: int = 10, **options: Any) -> RetryPolicy:
    return RetryPolicy(first_retry_interval=first, max_number_of_attempts=attempts, **options)


CASES: dict[str, tuple[RetryPolicy, list[float]]] = {
    "constant": (policy(attempts=4), [0, 1, 2, 3]),
    "no backoff is constant": (policy(attempts=3, backoff_coefficient=None), [0, 1, 2]),
    "doubled": (policy(attempts=5, backoff_coefficient=2.0), [0, 1, 3, 7, 15]),
    "fraction": (policy(MS * 100, 4, backoff_coefficient=1.5), [0, 0.1, 0.25, 0.475]),
    "capped": (policy(attempts=6, backoff_coefficient=3.0, max_retry_interval=5 * SECOND), [0, 1, 4, 9, 14, 19]),
    "within a time": (policy(attempts=99, backoff_coefficient=2.0, retry_timeout=10 * SECOND), [0, 1, 3, 7]),
    "to the very end of it": (policy(attempts=99, retry_timeout=3 * SECOND), [0, 1, 2, 3]),
    "at once": (policy(timedelta(0), 3), [0, 0, 0]),
    "once": (policy(attempts=1), [0]),
    "a millisecond": (policy(MS, 3), [0, 0.001, 0.002]),
    "less than a millisecond waits for one": (policy(timedelta(microseconds=1), 2), [0, 0.001]),
    "years": (policy(timedelta(days=730), 3, backoff_coefficient=2.0), [0, 730 * 86_400, 3 * 730 * 86_400]),
}


@pytest.mark.parametrize("orchestration", ["calls", "calls_child"])
@pytest.mark.parametrize("case", CASES)
def test_each_attempt_is_made_when_the_policy_says(case: str, orchestration: str) -> None:
    retry_policy, expected = CASES[case]
    shop = Shop()

    with shop.open(retry_policy=retry_policy) as env, pytest.raises(OrchestrationFailed, match="OSError: not now"):
        env.run(orchestration)

    assert expected == shop.seconds()


@pytest.mark.parametrize("orchestration", ["calls", "calls_child"])
def test_an_attempt_that_succeeds_is_the_last_and_the_code_sees_its_result_only(orchestration: str) -> None:
    shop = Shop(fails=2)

    with shop.open(retry_policy=policy()) as env:
        assert 7 == env.run(orchestration)

    assert [0, 1, 2] == shop.seconds()


@pytest.mark.parametrize("orchestration", ["calls", "calls_child"])
@pytest.mark.parametrize(
    ("error", "named"),
    [
        (lambda: SoldOut("gone"), [SoldOut]),
        (lambda: SoldOut("gone"), ["SoldOut"]),
        (lambda: SoldOut("gone"), [f"{__name__}.SoldOut"]),
        (lambda: ValueError("bad"), [KeyError, ValueError]),
        (lambda: NonRetriableError("never"), []),
        (lambda: type("OurOwn", (NonRetriableError,), {})("never"), []),
    ],
)
def test_an_error_that_is_not_to_be_tried_again_is_not(
    error: Callable[[], Exception], named: list[Any], orchestration: str
) -> None:
    shop = Shop(error=error)

    with shop.open(retry_policy=policy(non_retriable_errors=named)) as env, pytest.raises(OrchestrationFailed):
        env.run(orchestration)

    assert [0] == shop.seconds()


@pytest.mark.parametrize("named", [[ValueError], ["Sold"], ["other.SoldOut"], ["builtins.OSError"]])
def test_an_error_of_another_name_is_tried_again(named: list[Any]) -> None:
    shop = Shop(error=lambda: SoldOut("gone"))

    with (
        shop.open(retry_policy=policy(attempts=2, non_retriable_errors=named)) as env,
        pytest.raises(OrchestrationFailed),
    ):
        env.run("calls")

    assert [0, 1] == shop.seconds()


def test_an_activitys_own_policy_holds_unless_the_call_has_one() -> None:
    app, attempts = App(), []

    @app.activity(retry_policy=policy(attempts=3))
    def act() -> None:
        attempts.append(1)
        raise OSError("not now")

    @app.orchestration
    async def calls(ctx: OrchestrationContext, own: bool) -> None:
        await ctx.call_activity(act, retry_policy=policy(attempts=5) if own else None)

    with run(app) as env:
        for own, expected in ((False, 3), (True, 5)):
            attempts.clear()
            with pytest.raises(OrchestrationFailed):
                env.run(calls, own)
            assert expected == len(attempts)


def test_the_policy_that_was_recorded_holds_when_the_code_changes() -> None:
    async def calls(ctx: OrchestrationContext) -> None:
        await ctx.call_activity("act", retry_policy=policies[-1], start_to_close=policies[-1].first_retry_interval)

    app, policies = App(), [policy(attempts=3)]
    app.orchestration(calls)
    started = ev.ExecutionStarted("1-1", "calls")
    [scheduled] = app.executor("i", started).decide((started,), 0).events
    policies.append(policy(2 * SECOND, 99))

    app.executor("i", started).replay([RecordedTurn(0, decided=True, events=(started, scheduled))])

    with pytest.raises(InstanceHeld, match="with retry RetryOptions"):  # an audit compares every field
        app.executor("i", started, strict=True).replay([RecordedTurn(0, decided=True, events=(started, scheduled))])


# Time-outs.


def slow(takes: timedelta, **options: Any) -> tuple[App, Callable[[Environment], list[Any]]]:
    """An app whose activity takes so long, and what to do before it runs: fake it, and note its calls."""
    app = App()

    @app.activity
    def act(value: int) -> int:
        return value

    @app.orchestration
    async def calls(ctx: OrchestrationContext) -> Any:
        try:
            return await ctx.call_activity(act, 1, **options)
        except TaskFailedError as error:
            return [
                error.details.type,
                (ctx.current_utc_datetime - datetime(2026, 1, 1, tzinfo=ctx.current_utc_datetime.tzinfo)) / SECOND,
            ]

    return app, lambda env: env.fake(act, 5, takes=takes).calls


@pytest.mark.parametrize(
    ("takes", "options", "result", "calls"),
    [
        (SECOND, {"start_to_close": SECOND + MS}, 5, 1),
        (SECOND, {"start_to_close": 0.9 * SECOND}, ["ActivityTimedOut", 0.9], 1),
        (SECOND, {"schedule_to_close": SECOND + MS}, 5, 1),
        (SECOND, {"schedule_to_close": 0.9 * SECOND}, ["ActivityTimedOut", 0.9], 1),
        # One attempt that is out of time is tried again; all of them together are not.
        (SECOND, {"start_to_close": 0.5 * SECOND, "retry_policy": policy(attempts=3)}, ["ActivityTimedOut", 3.5], 3),
        (SECOND, {"schedule_to_close": 0.5 * SECOND, "retry_policy": policy(attempts=3)}, ["ActivityTimedOut", 0.5], 1),
        (SECOND, {"start_to_close": 0.5 * SECOND, "schedule_to_close": 2 * SECOND, "retry_policy": policy(attempts=9)},
         ["ActivityTimedOut", 2.0], 2),
        # No attempt begins at or after the end of all.
        (SECOND, {"start_to_close": 0.5 * SECOND, "schedule_to_close": 1.5 * SECOND, "retry_policy": policy(attempts=9)},
         ["ActivityTimedOut", 0.5], 1),
        (SECOND, {"start_to_close": 0.5 * SECOND, "retry_policy": policy(attempts=3, non_retriable_errors=["ActivityTimedOut"])},
         ["ActivityTimedOut", 0.5], 1),
    ],
)  # fmt: skip
def test_start_to_close_limits_one_attempt_and_schedule_to_close_all_of_them(
    takes: timedelta, options: dict[str, Any], result: Any, calls: int
) -> None:
    app, fake = slow(takes, **options)

    with run(app) as env:
        made = fake(env)
        assert result == env.run("calls")
        assert calls == len(made)


def test_an_activitys_own_limits_hold_unless_the_call_has_some() -> None:
    app = App()

    @app.activity(start_to_close=SECOND)
    def act() -> int:
        return 1

    @app.orchestration
    async def calls(ctx: OrchestrationContext, limit: int) -> int:
        return await ctx.call_activity(act, start_to_close=timedelta(seconds=limit) if limit else None)

    with run(app) as env:
        env.fake(act, 1, takes=2 * SECOND)
        with pytest.raises(OrchestrationFailed, match="within its limit"):
            env.run(calls, 0)
        assert 1 == env.run(calls, 3)


def test_giving_a_task_up_ends_its_retries_and_its_time_limits() -> None:
    shop = Shop()
    app = shop.app

    @app.orchestration
    async def gives_up(ctx: OrchestrationContext) -> list[bool]:
        tasks = [
            ctx.call_activity("act", 1, retry_policy=policy(), schedule_to_close=timedelta(hours=1)),
            ctx.call_sub_orchestrator("child", 1, retry_policy=policy(), instance_id="child"),
        ]
        await ctx.create_timer(2.5 * SECOND)
        return [task.cancel() for task in tasks]

    with shop.open() as env:
        handle = env.start("gives_up")
        assert [True, True] == handle.result()
        env.advance(timedelta(days=1))
        assert sorted([0.0, 1.0, 2.0] * 2) == sorted(shop.seconds())
        assert env.hub.next_due_ms() is None
        canceled = [
            event for turn in handle.history().decode() for event in turn.events if isinstance(event, ev.TaskCanceled)
        ]

    assert 2 == len(canceled)


def test_a_task_beside_a_timer_is_a_timeout_of_ones_own() -> None:
    app, fake = slow(10 * SECOND)

    @app.orchestration
    async def hurries(ctx: OrchestrationContext) -> list[Any]:
        task, timer = ctx.call_activity("act", 1), ctx.create_timer(SECOND)
        winner = await when_any([task, timer])
        return [winner is timer, task.cancel(), task.is_cancelled, task.is_complete, timer.cancel()]

    with run(app) as env:
        began = env.now
        fake(env)
        assert [True, True, True, True, False] == env.run(hurries)
        assert SECOND == env.now - began


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"first_retry_interval": -SECOND}, "first_retry_interval must be >= 0"),
        ({"max_number_of_attempts": 0}, "max_number_of_attempts must be >= 1"),
        ({"backoff_coefficient": 0.5}, "backoff_coefficient must be >= 1"),
        ({"backoff_coefficient": float("nan")}, "backoff_coefficient must be >= 1"),
        ({"backoff_coefficient": float("inf")}, "backoff_coefficient must be >= 1"),
        ({"max_retry_interval": -SECOND}, "max_retry_interval must be >= 0"),
        ({"retry_timeout": -SECOND}, "retry_timeout must be >= 0"),
        ({"non_retriable_errors": "ValueError"}, "a sequence of types or names, not one name"),
        ({"non_retriable_errors": [int]}, "an exception type or its name"),
        ({"non_retriable_errors": [5]}, "a non-retriable error is a string, not 5"),
        ({"max_number_of_attempts": 2.5}, "max_number_of_attempts is a whole number, not 2.5"),
        ({"first_retry_interval": 5}, "first_retry_interval is a timedelta, not 5"),
        ({"retry_timeout": 5}, "retry_timeout is a timedelta, not 5"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_when_it_is_made(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        RetryPolicy(**{"first_retry_interval": SECOND, "max_number_of_attempts": 3, **wrong})
