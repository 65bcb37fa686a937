"""What an activity is told about its attempt: ids, attempt, idempotency key, deadline, cancellation and a logger."""

import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import ActivityContext, App, OrchestrationContext, RetryPolicy
from perdure.schemas import messages as ms
from perdure.testing import run
from tests.worker.engine import Engine

SECOND = timedelta(seconds=1)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
RETRY = RetryPolicy(first_retry_interval=SECOND, max_number_of_attempts=4)


def app_of(seen: list[ActivityContext], fails: int = 0, **options: Any) -> App:
    app = App()

    @app.activity
    def act(ctx: ActivityContext, value: int) -> int:
        seen.append(ctx)
        if len(seen) <= fails:
            raise OSError("not now")
        return value

    @app.orchestration
    async def calls(ctx: OrchestrationContext, rounds: int = 1) -> str:
        await ctx.call_activity(act, 1, **options)
        if rounds > 1:
            ctx.continue_as_new(rounds - 1)
        return ctx.execution_id

    @app.orchestration
    async def twice(ctx: OrchestrationContext) -> None:
        for number in range(2):
            await ctx.call_activity(act, number, **options)

    return app


def test_an_attempt_knows_its_instance_execution_task_and_name() -> None:
    seen: list[ActivityContext] = []
    with run(app_of(seen, tags={"kind": "test"})) as env:
        execution = env.run("calls", instance_id="i")

    [context] = seen
    assert ("i", "i", execution, 1, 1, "act") == (
        context.instance_id, context.orchestration_id, context.execution_id, context.task_id, context.attempt, context.name,
    )  # fmt: skip
    assert {"kind": "test"} == context.tags


def test_the_idempotency_key_is_the_same_on_every_attempt_and_of_no_other_task() -> None:
    seen: list[ActivityContext] = []
    with run(app_of(seen, fails=3, retry_policy=RETRY)) as env:
        env.run("twice", instance_id="i")

    assert [1, 2, 3, 4, 1] == [context.attempt for context in seen]
    keys = [context.idempotency_key for context in seen]
    assert 1 == len(set(keys[:4]))
    assert keys[3] != keys[4]
    assert keys[0] == f"i/{seen[0].execution_id}/{seen[0].task_id}"


def test_each_execution_has_keys_of_its_own() -> None:
    seen: list[ActivityContext] = []
    with run(app_of(seen)) as env:
        env.run("calls", 3, instance_id="i")

    assert 3 == len({context.idempotency_key for context in seen})
    assert {1} == {context.task_id for context in seen}


@pytest.mark.parametrize(
    ("options", "deadline"),
    [
        ({}, None),
        ({"start_to_close": 5 * SECOND}, NEW_YEAR + 5 * SECOND),
        ({"schedule_to_close": 7 * SECOND}, NEW_YEAR + 7 * SECOND),
        ({"start_to_close": 5 * SECOND, "schedule_to_close": 3 * SECOND}, NEW_YEAR + 3 * SECOND),
    ],
)
def test_the_deadline_is_the_earlier_of_both_limits(options: dict[str, Any], deadline: datetime | None) -> None:
    seen: list[ActivityContext] = []
    with run(app_of(seen, **options)) as env:
        env.run("calls")

    assert deadline == seen[0].deadline


def test_the_deadline_of_a_later_attempt_is_that_of_its_own_start_to_close() -> None:
    seen: list[ActivityContext] = []
    limits = {"start_to_close": 5 * SECOND, "schedule_to_close": 60 * SECOND}
    with run(app_of(seen, fails=2, retry_policy=RETRY, **limits)) as env:
        env.run("calls")

    assert [NEW_YEAR + number * SECOND + 5 * SECOND for number in range(3)] == [context.deadline for context in seen]


def test_its_logger_carries_the_ids(caplog: pytest.LogCaptureFixture) -> None:
    context = ActivityContext("i", "1-1", 3, 2, "act")
    with caplog.at_level(logging.INFO, "perdure.activity.act"):
        context.logger.info("charged %s", 5, extra={"amount": 5})

    [record] = caplog.records
    assert "charged 5" == record.getMessage()
    assert ("i", "1-1", 3, 2, 5) == (
        record.instance, record.execution, record.task, record.attempt, record.amount,  # type: ignore[attr-defined]
    )  # fmt: skip


@pytest.mark.parametrize("way", ["terminate", "cancel", "given up", "time"])
def test_a_running_activity_sees_that_nobody_wants_its_result_any_more(way: str, tmp_path: Path) -> None:
    """On a real worker: the function runs in a thread, and looks at `cancelled` now and then."""
    app, begun, saw = App(), threading.Event(), threading.Event()

    @app.activity(start_to_close=0.2 * SECOND if way == "time" else None)
    def act(ctx: ActivityContext) -> None:
        assert not ctx.cancelled
        begun.set()
        while not ctx.cancelled:
            threading.Event().wait(0.005)
        saw.set()

    @app.orchestration
    async def calls(ctx: OrchestrationContext) -> str:
        task = ctx.call_activity(act)
        if way == "given up":
            await ctx.wait_for_external_event("go")
            task.cancel()
            await ctx.wait_for_external_event("go")
        await task
        return "not reached"

    engine = Engine(tmp_path, app).start()
    try:
        engine.begin("i", "calls")
        engine.until(begun.is_set)
        if way == "terminate":
            engine.ask("i", ms.Terminate())
        elif way == "cancel":
            engine.ask("i", ms.Cancel())
        elif way == "given up":
            engine.ask("i", ms.RaiseEvent("go"))
        engine.until(saw.is_set)
    finally:
        engine.close()
