"""An app runs in a test: the real engine, virtual time, faked activities, and clear words when nothing can happen any more."""

import asyncio
import threading
from collections.abc import AsyncIterator, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import (
    ActivityContext,
    App,
    NonRetriableError,
    OrchestrationCanceled,
    OrchestrationContext,
    RetryPolicy,
    when_all,
)
from perdure.client import IfExists
from perdure.errors import (
    InstanceAlreadyExists,
    InstanceCanceled,
    InstanceNotFound,
    InvalidRequest,
    OrchestrationFailed,
    WaitTimeout,
)
from perdure.schemas.events import Status
from perdure.testing import Stuck, run

app = App()
DAY = timedelta(days=1)


@app.activity
def greet(name: str) -> str:
    return f"hello {name}"


@app.activity
async def greet_slowly(name: str) -> str:
    await asyncio.sleep(0.001)
    return f"hello, {name}"


@app.activity(retry_policy=RetryPolicy(first_retry_interval=timedelta(hours=1), max_number_of_attempts=3))
def fetch(ctx: ActivityContext, url: str) -> str:
    raise OSError(f"{url}: attempt {ctx.attempt}")


@app.orchestration
async def welcome(ctx: OrchestrationContext, names: list[str]) -> list[str]:
    return [await ctx.call_activity(greet, name) for name in names]


@app.orchestration
async def welcome_all(ctx: OrchestrationContext, names: list[str]) -> list[str]:
    return await when_all([ctx.call_activity(greet_slowly, name) for name in names])


@app.orchestration
async def mornings(ctx: OrchestrationContext, days: int) -> list[str]:
    seen = []
    for _ in range(days):
        await ctx.create_timer(DAY)
        seen.append(ctx.current_utc_datetime.date().isoformat())
    return seen


@app.orchestration
async def download(ctx: OrchestrationContext, url: str) -> str:
    return await ctx.call_activity(fetch, url)


@app.orchestration
async def approval(ctx: OrchestrationContext) -> str:
    try:
        return str(await ctx.wait_for_external_event("Approved"))
    except OrchestrationCanceled:
        await ctx.call_activity(greet, "nobody")
        raise


@app.orchestration
async def parent(ctx: OrchestrationContext, child_id: str = "child") -> Any:
    return await ctx.call_sub_orchestrator(approval, instance_id=child_id)


@app.orchestration
def old_style(ctx: OrchestrationContext, name: str) -> Generator[Any, Any, str]:
    return (yield ctx.call_activity(greet, name))


@app.orchestration
async def dice(ctx: OrchestrationContext) -> Any:
    await ctx.call_activity(greet, str(datetime.now(UTC)))
    await ctx.call_activity(greet, str(datetime.now(UTC)))


def test_an_orchestration_runs_to_its_result() -> None:
    with run(app) as env:
        assert ["hello Ada", "hello Grace"] == env.run(welcome, ["Ada", "Grace"])
        assert "hello Ada" == env.run(old_style, "Ada")
        assert ["hello, Ada", "hello, Grace"] == env.run(welcome_all, ["Ada", "Grace"])


def test_time_skips_to_the_next_timer() -> None:
    with run(app, now=datetime(2024, 2, 27, tzinfo=UTC)) as env:
        assert ["2024-02-28", "2024-02-29", "2024-03-01"] == env.run(mornings, 3)
        assert datetime(2024, 3, 1, tzinfo=UTC) == env.now


def test_retries_take_virtual_time_and_a_failure_is_as_a_client_sees_it() -> None:
    with run(app) as env:
        began = env.now
        with pytest.raises(OrchestrationFailed, match="attempt 3"):
            env.run(download, "http://x")
        assert env.now - began >= timedelta(hours=2)


def test_an_activity_is_faked_by_value_function_or_failure() -> None:
    with run(app) as env:
        fake = env.fake(greet, "hi")
        assert ["hi", "hi"] == env.run(welcome, ["Ada", "Grace"])
        assert ["Ada", "Grace"] == fake.calls

        env.fake("greet", lambda name: name.upper())
        assert ["ADA"] == env.run(welcome, ["Ada"])

        def refuse(name: str) -> str:
            raise NonRetriableError(f"no {name}")

        flaky = env.fake(fetch, refuse)
        with pytest.raises(OrchestrationFailed, match="no http://y"):
            env.run(download, "http://y")
        assert ["http://y"] == flaky.calls


def test_a_faked_activity_may_take_time_and_run_into_its_limit() -> None:
    slow = App()
    slow.include(app)

    @slow.orchestration
    async def hurry(ctx: OrchestrationContext, name: str) -> str:
        return await ctx.call_activity(greet, name, start_to_close=timedelta(minutes=1))

    with run(slow) as env:
        began = env.now
        env.fake(greet, "hi", takes=timedelta(seconds=59))
        assert "hi" == env.run(hurry, "Ada")
        assert timedelta(seconds=59) == env.now - began
        env.fake(greet, "hi", takes=timedelta(seconds=61))
        with pytest.raises(OrchestrationFailed, match="within its limit"):
            env.run(hurry, "Ada")


def test_events_are_raised_and_advancing_lets_things_happen() -> None:
    with run(app) as env:
        handle = env.start(approval, instance_id="order-7")
        assert Status.RUNNING == handle.get().status
        handle.raise_event("approved", "yes")
        assert "yes" == handle.result()

        mornings_three = env.start(mornings, 3)
        env.advance(2 * DAY + DAY / 2)
        assert Status.RUNNING == mornings_three.get().status
        env.advance(DAY / 2)
        assert Status.COMPLETED == mornings_three.get().status


def test_cancel_suspend_resume_terminate_purge_do_what_they_do_on_a_hub() -> None:
    with run(app) as env:
        canceled = env.start(approval)
        greeted = env.fake(greet, "compensated")
        canceled.cancel("too late")
        with pytest.raises(InstanceCanceled):
            canceled.result()
        assert ["nobody"] == greeted.calls

        suspended = env.start(approval)
        suspended.suspend()
        suspended.raise_event("Approved", 1)
        assert Status.SUSPENDED == suspended.get().status
        suspended.resume()
        assert "1" == suspended.result()

        ended = env.start(approval)
        ended.terminate("enough")
        assert Status.TERMINATED == ended.get().status
        ended.purge()
        with pytest.raises(InstanceNotFound):
            ended.get()


@pytest.mark.parametrize("error", [OSError("no route"), OSError])
def test_an_activity_may_be_faked_by_an_exception(error: Any) -> None:
    with run(app) as env:
        faked = env.fake("greet", error)
        with pytest.raises(OrchestrationFailed, match="activity 'greet' failed: OSError") as caught:
            env.run(welcome, ["Ada"])

    failure = caught.value.failure
    assert failure is not None
    assert failure.cause is not None
    assert ("OSError", ["Ada"]) == (failure.cause.type, faked.calls)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
def test_whatever_an_activity_raises_is_its_failure_as_on_a_worker(error: BaseException) -> None:
    raising = App()

    @raising.activity
    def plain() -> None:
        raise error

    @raising.activity
    async def later() -> None:
        await asyncio.sleep(0)
        raise error

    @raising.orchestration
    async def calls(ctx: OrchestrationContext, name: str) -> None:
        await ctx.call_activity(name)

    with run(raising) as env:
        for name in ("plain", "later"):
            with pytest.raises(OrchestrationFailed, match=type(error).__name__):
                env.run(calls, name)


def test_nobody_starts_an_instance_of_a_blank_id_and_one_that_a_log_holds_is_still_there_to_ask() -> None:
    with run(app) as env:
        with pytest.raises(InvalidRequest, match="must not be blank: '  '"):
            env.start(approval, instance_id="  ")
        unseen = env.start(parent, "  ")
        assert Status.RUNNING == env.instance("  ").get().status
        env.instance("  ").raise_event("Approved", 1)

        assert "1" == unseen.result()


def test_a_reason_is_text() -> None:
    with run(app) as env:
        running = env.start(approval)
        for ask in (running.cancel, running.terminate, running.suspend, running.resume):
            with pytest.raises(InvalidRequest, match="a reason is text, not"):
                ask({"why": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert Status.RUNNING == running.get().status


def test_who_waits_for_what_never_comes_is_named() -> None:
    with run(app) as env, pytest.raises(Stuck) as caught:
        env.run(parent)

    assert "nothing is due" in str(caught.value)
    assert "child (approval) is RUNNING and waits for the event 'Approved'" in str(caught.value)


def test_an_unknown_name_is_held_and_named() -> None:
    with run(app) as env, pytest.raises(Stuck, match="no orchestration 'nowhere'"):
        env.run("nowhere")


def test_code_that_is_not_deterministic_shows_since_every_turn_is_replayed() -> None:
    with run(app) as env, pytest.raises(Stuck, match=r"is held: .*history has .*the code decided"):
        env.run(dice)


def test_patience_ends_in_virtual_time() -> None:
    with run(app) as env:
        handle = env.start(mornings, 40)
        with pytest.raises(WaitTimeout, match="has not ended"):
            handle.result(timeout=timedelta(days=10))
        assert 40 == len(handle.result())


def test_ids_are_taken_as_on_a_hub() -> None:
    with run(app) as env:
        env.run(welcome, [], instance_id="one")
        with pytest.raises(InstanceAlreadyExists):
            env.start(welcome, [], instance_id="one")
        again = env.start(welcome, ["Ada"], instance_id="one", if_exists=IfExists.REPLACE)
        assert ["hello Ada"] == again.result()
        assert ["one"] == [instance.instance_id for instance in env.list(status="COMPLETED")]


async def run_on_a_loop() -> list[str]:
    with run(app) as env:
        return env.run(welcome_all, ["Ada"])


def test_a_test_that_is_async_itself_may_use_it() -> None:
    assert ["hello, Ada"] == asyncio.run(run_on_a_loop())


def test_what_an_activity_left_open_keeps_no_environment_open() -> None:
    leaving, kept = App(), list[Any]()

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.Event().wait()

    @leaving.activity
    async def first() -> int:
        kept.extend((endless(), asyncio.create_task(asyncio.Event().wait())))
        number: int = await anext(kept[0])
        return number

    @leaving.orchestration
    async def begin(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(first)

    def use() -> None:
        with run(leaving) as env:
            assert 1 == env.run(begin)

    using = threading.Thread(target=use, daemon=True)
    using.start()
    using.join(20)

    assert not using.is_alive()
    assert kept[1].cancelled()


def test_the_fixture_makes_environments(perdure_env: Any) -> None:
    assert ["hello Ada"] == perdure_env(app).run(welcome, ["Ada"])


def test_a_list_is_newest_first_over_all_partitions() -> None:
    with run(app) as env:
        for number in range(7):
            env.advance(timedelta(seconds=1))
            env.start(approval, instance_id=f"order-{number}")

        assert [f"order-{number}" for number in (6, 5, 4)] == [each.instance_id for each in env.list(limit=3)]
