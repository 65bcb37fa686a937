"""What an author does by mistake: awaiting what is not ours holds the instance and names what to write instead; code that is let go
records nothing, whatever it does on its way out."""

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from perdure import App, OrchestrationCanceled, OrchestrationContext, Task
from perdure.actors.coroutine import CoroutineExecutor
from perdure.actors.guard import get_loop
from perdure.schemas import events as ev
from perdure.testing import Environment, Stuck, run
from tests.actors.lives import NAME

Code = Callable[[OrchestrationContext], Any]
SECOND = timedelta(seconds=1)
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning"
)


async def step() -> int:
    return 1


def echo_of(ctx: OrchestrationContext) -> Task[Any]:
    return ctx.call_activity("echo", 1)


def app_of(code: Callable[..., Any]) -> App:
    app = App()

    @app.activity
    def echo(value: Any) -> Any:
        return value

    app.orchestration(name="code")(code)
    return app


def why_held(code: Callable[..., Any]) -> str:
    with run(app_of(code)) as env:
        handle = env.start("code")
        held = handle.get().held
        assert held is not None, f"it is {handle.get().status.name}, with {handle.get().result!r}"
        assert "foreign-await" == held.kind
    return held.reason


# Awaiting what is not ours.


async def sleep(ctx: OrchestrationContext) -> None:
    await asyncio.sleep(1)


async def sleep_zero(ctx: OrchestrationContext) -> None:
    await asyncio.sleep(0)


async def gather(ctx: OrchestrationContext) -> None:
    await asyncio.gather(step(), step())


async def gather_tasks(ctx: OrchestrationContext) -> None:
    await asyncio.gather(echo_of(ctx), echo_of(ctx))


async def wait(ctx: OrchestrationContext) -> None:
    await asyncio.wait([echo_of(ctx)])  # type: ignore[type-var]


async def as_completed(ctx: OrchestrationContext) -> None:
    for each in asyncio.as_completed([step()]):
        await each


async def shield(ctx: OrchestrationContext) -> None:
    await asyncio.shield(step())


async def create_task(ctx: OrchestrationContext) -> None:
    await asyncio.create_task(step())


async def create_task_of_ours(ctx: OrchestrationContext) -> None:
    await asyncio.create_task(echo_of(ctx))  # type: ignore[arg-type]


async def ensure_future(ctx: OrchestrationContext) -> None:
    await asyncio.ensure_future(step())


async def task_group(ctx: OrchestrationContext) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(step())


async def wait_for(ctx: OrchestrationContext) -> None:
    await asyncio.wait_for(step(), 1)


async def wait_for_task(ctx: OrchestrationContext) -> None:
    await asyncio.wait_for(echo_of(ctx), 1)


async def timeout(ctx: OrchestrationContext) -> None:
    async with asyncio.timeout(1):
        await echo_of(ctx)


async def to_thread(ctx: OrchestrationContext) -> None:
    await asyncio.to_thread(print)


async def executor(ctx: OrchestrationContext) -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def future(ctx: OrchestrationContext) -> None:
    await asyncio.Future()


async def loop_future(ctx: OrchestrationContext) -> None:
    await asyncio.get_running_loop().create_future()


async def wrapped_future(ctx: OrchestrationContext) -> None:
    await asyncio.wrap_future(concurrent.futures.Future())


async def event(ctx: OrchestrationContext) -> None:
    await asyncio.Event().wait()


async def queue(ctx: OrchestrationContext) -> None:
    await asyncio.Queue().get()


async def lock(ctx: OrchestrationContext) -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def loop_time(ctx: OrchestrationContext) -> None:
    asyncio.get_running_loop().time()


async def run_inside(ctx: OrchestrationContext) -> None:
    asyncio.run(step())


async def loop_inside(ctx: OrchestrationContext) -> None:
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(step())
    finally:
        loop.close()


async def connection(ctx: OrchestrationContext) -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def subprocess(ctx: OrchestrationContext) -> None:
    await asyncio.create_subprocess_exec("true")


async def anyio_sleep(ctx: OrchestrationContext) -> None:
    await anyio.sleep(1)


async def anyio_group(ctx: OrchestrationContext) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(step)


async def anyio_timeout(ctx: OrchestrationContext) -> None:
    with anyio.fail_after(1):
        await echo_of(ctx)


async def anyio_thread(ctx: OrchestrationContext) -> None:
    await anyio.to_thread.run_sync(print)


async def http(ctx: OrchestrationContext) -> None:
    async with httpx.AsyncClient() as client:
        await client.get("http://127.0.0.1:1/")


class Foreign:
    def __await__(self) -> Generator[str, None, None]:
        yield "hello"


async def foreign(ctx: OrchestrationContext) -> None:
    await Foreign()


def yields_list(ctx: OrchestrationContext) -> Generator[Any, Any, None]:
    yield [echo_of(ctx), echo_of(ctx)]


def yields_nothing(ctx: OrchestrationContext) -> Generator[Any, Any, None]:
    yield


def yields_coroutine(ctx: OrchestrationContext) -> Generator[Any, Any, None]:
    yield step()


TIMER, TOGETHER = "use ctx.create_timer", "use when_all and when_any"
IN_TIME, OUTSIDE = "use when_any with ctx.create_timer", "use ctx.wait_for_external_event"
THREAD, OURS = "call an activity", "an orchestration awaits only what its ctx makes"
TRAPS: list[tuple[Code, str, str]] = [
    (sleep, "asyncio's sleep", TIMER),
    (sleep_zero, "asyncio.sleep(0) or a bare yield", OURS),
    (gather, "asyncio's gather", TOGETHER),
    (gather_tasks, "asyncio's gather", TOGETHER),
    (wait, "asyncio's wait", TOGETHER),
    (as_completed, "asyncio's as_completed", TOGETHER),
    (shield, "asyncio's shield", TOGETHER),
    (create_task, "asyncio's create_task", TOGETHER),
    (create_task_of_ours, "asyncio's create_task", TOGETHER),
    (ensure_future, "asyncio's ensure_future", TOGETHER),
    (task_group, "asyncio's TaskGroup", TOGETHER),
    (wait_for, "asyncio's wait_for", IN_TIME),
    (wait_for_task, "asyncio's wait_for", IN_TIME),
    (timeout, "asyncio's timeout", IN_TIME),
    (to_thread, "asyncio's to_thread", THREAD),
    (executor, "asyncio's run_in_executor", THREAD),
    (future, "asyncio's Future", OUTSIDE),
    (loop_future, "asyncio's create_future", OUTSIDE),
    (wrapped_future, "asyncio's wrap_future", THREAD),
    (event, "asyncio's Event.wait", OUTSIDE),
    (queue, "asyncio's Queue.get", OUTSIDE),
    (lock, "asyncio's Lock.acquire", "needs no lock"),
    (loop_time, "asyncio's time", "use ctx.current_utc_datetime"),
    (run_inside, "asyncio's run, which raised", "await the coroutine itself"),
    (loop_inside, "run_until_complete, which raised", "await the coroutine itself"),
    (connection, "asyncio's open_connection", "belong in an activity"),
    (subprocess, "asyncio's create_subprocess_exec", "belong in an activity"),
    (anyio_sleep, "anyio's sleep", TIMER),
    (anyio_group, "anyio's create_task_group", TOGETHER),
    (anyio_timeout, "anyio's fail_after", IN_TIME),
    (anyio_thread, "anyio's run_sync", THREAD),
    (http, "the orchestration called", "belong in an activity"),
    (foreign, "awaited 'hello'", OURS),
    (yields_list, "yielded a list", "yield when_all([...])"),
    (yields_nothing, "a bare yield", OURS),
    (yields_coroutine, "awaited <coroutine object step", OURS),
]


@pytest.mark.parametrize(("code", "what", "instead"), TRAPS, ids=[code.__name__ for code, _, _ in TRAPS])
def test_awaiting_what_is_not_ours_holds_the_instance_and_names_what_to_write_instead(
    code: Code, what: str, instead: str
) -> None:
    reason = why_held(code)

    assert what in reason
    assert instead in reason


@pytest.mark.parametrize("code", [sleep, gather, timeout, create_task, future])
def test_a_foreign_await_that_the_code_swallows_holds_all_the_same(code: Code) -> None:
    async def swallow(ctx: OrchestrationContext) -> str:
        with contextlib.suppress(BaseException):
            await code(ctx)
        return "nothing happened"

    async def replace(ctx: OrchestrationContext) -> str:
        try:
            await code(ctx)
        except BaseException:  # noqa: BLE001
            raise ValueError("something else") from None

    assert "asyncio's" in why_held(swallow)
    assert "asyncio's" in why_held(replace)


def test_a_plain_function_that_swallows_it_is_held_too() -> None:
    def plain(ctx: OrchestrationContext) -> str:
        with contextlib.suppress(BaseException):
            asyncio.get_running_loop().call_soon(print)
        return "nothing happened"

    assert "asyncio's call_soon" in why_held(plain)


class OddAwaitable:
    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def __repr__(self) -> str:
        return "odd \ud800" + "x" * 10_000


class NoRepr(OddAwaitable):
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class OddResult:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


def test_whatever_an_authors_object_does_when_it_is_looked_at_no_partition_is_harmed() -> None:
    async def awaits(ctx: OrchestrationContext) -> None:
        await OddAwaitable()

    async def awaits_no_text(ctx: OrchestrationContext) -> None:
        await NoRepr()

    def returns(ctx: OrchestrationContext) -> Any:
        return OddResult()

    def returns_awaitable(ctx: OrchestrationContext) -> Any:
        return NoRepr()

    async def cancels_itself(ctx: OrchestrationContext) -> None:
        raise OrchestrationCanceled("odd \ud800")

    app = app_of(awaits)
    for code in (awaits_no_text, returns, returns_awaitable, cancels_itself):
        app.orchestration(code)
    with run(app, partitions=1) as env:
        held = env.start("code").held
        assert held is not None
        assert "the orchestration awaited odd \\ud800xxx" in held.reason
        ends = [
            env.start(name).get().status.name
            for name in ("awaits_no_text", "returns", "returns_awaitable", "cancels_itself")
        ]

    assert ["FAILED", "FAILED", "FAILED", "CANCELED"] == ends


def test_a_task_of_another_execution_is_foreign() -> None:
    kept: list[Any] = []
    app = App()

    @app.orchestration
    async def keeps(ctx: OrchestrationContext) -> None:
        kept.append(ctx.wait_for_external_event("go"))
        await kept[-1]

    @app.orchestration
    async def borrows(ctx: OrchestrationContext) -> None:
        await kept[-1]

    with run(app) as env:
        env.start(keeps)
        held = env.start(borrows).held

    assert held is not None
    assert "<task: the wait for event 'go'>, a task of another execution" in held.reason


def test_a_held_instance_records_no_decision_of_the_turn_that_held_it() -> None:
    async def code(ctx: OrchestrationContext) -> None:
        echo_of(ctx)
        await asyncio.sleep(1)

    with run(app_of(code)) as env:
        turns = env.start("code").history().decode()

    assert [(ev.ExecutionStarted,)] == [tuple(type(event) for event in turn.events) for turn in turns]


def test_the_loop_that_was_there_is_back_after_every_turn() -> None:
    before = get_loop()
    for code, _, _ in TRAPS:
        why_held(code)

    assert before is get_loop()


async def holds_on_a_loop() -> str:
    with run(app_of(sleep)) as env:
        env.start("code")
    await asyncio.sleep(0)
    return "still running"


def test_a_loop_that_runs_around_the_engine_goes_on() -> None:
    assert "still running" == asyncio.run(holds_on_a_loop())


def test_a_result_that_was_not_awaited_fails_with_what_to_write() -> None:
    def forgets(ctx: OrchestrationContext) -> Any:
        return echo_of(ctx)

    with run(app_of(forgets)) as env:
        failure = env.start("code").get().failure

    assert failure is not None
    assert "returned <task: activity 'echo'>, which it did not await: return await ..." in failure.message


# Code that is let go.


def execution(code: Callable[..., Any]) -> CoroutineExecutor:
    """An execution of `code` that has taken its first turn."""
    executor = app_of(code).executor(NAME, ev.ExecutionStarted("1-1", "code"))
    executor.decide((ev.ExecutionStarted("1-1", "code"),), 0)
    return executor


@contextlib.asynccontextmanager
async def compensating(ctx: OrchestrationContext, seen: list[str]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        seen.append("left")
        ctx.set_custom_status("left")
        await ctx.call_activity("echo", "left")


async def in_finally(ctx: OrchestrationContext, seen: list[str]) -> None:
    try:
        await ctx.create_timer(SECOND)
    finally:
        seen.append("left")
        ctx.set_custom_status("left")
        ctx.send_event("other", "go")
        await ctx.call_activity("echo", "left")
        seen.append("never")


async def in_async_with(ctx: OrchestrationContext, seen: list[str]) -> None:
    async with compensating(ctx, seen):
        await ctx.create_timer(SECOND)


async def in_except(ctx: OrchestrationContext, seen: list[str]) -> str:
    try:
        await ctx.create_timer(SECOND)
    except BaseException:  # noqa: BLE001
        seen.append("left")
        await ctx.call_sub_orchestrator("code")
    return "nothing"


async def never_ending(ctx: OrchestrationContext, seen: list[str]) -> None:
    while True:
        try:
            await ctx.create_timer(SECOND)
        except BaseException:  # noqa: BLE001
            seen.append("left")


async def in_async_generator(ctx: OrchestrationContext, seen: list[str]) -> None:
    async def steps() -> AsyncIterator[int]:
        try:
            while True:
                await ctx.create_timer(SECOND)
                yield 1
        finally:
            seen.append("left")
            ctx.set_custom_status("left")

    async for _ in steps():
        pass


def in_generator(ctx: OrchestrationContext, seen: list[str]) -> Generator[Any, Any, None]:
    while True:
        try:
            yield ctx.create_timer(SECOND)
        except GeneratorExit:
            seen.append("left")
            ctx.continue_as_new(None)
            yield ctx.call_activity("echo", "left")


async def cancels(ctx: OrchestrationContext, seen: list[str]) -> None:
    timer, wait = ctx.create_timer(SECOND), ctx.wait_for_external_event("go", timeout=SECOND)
    try:
        await timer
    finally:
        seen.append("left")
        timer.cancel()
        wait.cancel()
        ctx.patched("p")
        ctx.new_uuid()


LEAVING = [in_finally, in_async_with, in_except, never_ending, in_async_generator, in_generator, cancels]


@pytest.mark.parametrize("code", LEAVING)
def test_code_that_is_let_go_records_nothing_whatever_it_does_on_its_way_out(
    code: Callable[[OrchestrationContext, list[str]], Any],
) -> None:
    seen: list[str] = []
    executor = execution(lambda ctx: code(ctx, seen))
    decided = list(executor.execution.decisions)
    loop = get_loop()

    executor.close()

    assert seen
    assert "never" not in seen
    assert (decided, loop) == (executor.execution.decisions, get_loop())
    executor.close()


@pytest.mark.parametrize("code", LEAVING)
def test_an_instance_whose_code_was_let_go_after_every_turn_decides_as_if_it_had_stayed(
    code: Callable[[OrchestrationContext, list[str]], Any],
) -> None:
    def turns(env: Environment) -> list[Any]:
        handle = env.start("code")
        env.advance(3 * SECOND)
        return [(turn.time_ms, turn.decided, turn.events) for turn in handle.history().decode()]

    histories = []
    for replay in (True, False):
        with run(app_of(lambda ctx: code(ctx, [])), replay=replay) as env:
            histories.append(turns(env))

    assert histories[0] == histories[1]


def test_the_context_is_refused_outside_its_code() -> None:
    kept: list[OrchestrationContext] = []

    async def leaks(ctx: OrchestrationContext) -> None:
        kept.append(ctx)
        await ctx.create_timer(SECOND)

    execution(leaks)

    with pytest.raises(RuntimeError, match="the context was used outside its orchestration"):
        kept[0].call_activity("echo", 1)


# The logger.


@contextlib.contextmanager
def records_of(name: str) -> Iterator[list[logging.LogRecord]]:
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def test_a_replay_safe_logger_says_everything_once_and_nothing_on_the_way_out() -> None:
    async def code(ctx: OrchestrationContext) -> None:
        own = ctx.create_replay_safe_logger(logging.getLogger("own"))
        for number in range(3):
            ctx.logger.info("round %s", number, extra={"number": number})
            own.info("own %s", number)
            try:
                await ctx.create_timer(SECOND)
            except GeneratorExit:
                ctx.logger.info("let go")
                raise

    with records_of("perdure.orchestration.code") as ours, records_of("own") as own, run(app_of(code)) as env:
        handle = env.start("code")
        handle.result()
        execution_id = handle.get().execution_id

    assert ["round 0", "round 1", "round 2"] == [record.getMessage() for record in ours]
    assert ["own 0", "own 1", "own 2"] == [record.getMessage() for record in own]
    assert (handle.id, 2, execution_id) == (
        ours[2].instance, ours[2].number, ours[2].execution,  # type: ignore[attr-defined]
    )  # fmt: skip


def test_any_logger_may_be_used_and_no_task_of_asyncio_is_there() -> None:
    """From Python 3.12 on each log record asks asyncio for its current task."""

    async def code(ctx: OrchestrationContext) -> bool:
        logging.getLogger("own").warning("anything")
        return asyncio.current_task() is None

    with records_of("own") as own, run(app_of(code), replay=False) as env:
        assert env.run("code")
    assert ["anything"] == [record.getMessage() for record in own]


# Replay of every turn.


def test_replaying_every_turn_shows_code_that_is_not_deterministic() -> None:
    flips: list[int] = []

    async def code(ctx: OrchestrationContext) -> None:
        flips.append(1)
        await ctx.call_activity("echo" if len(flips) % 2 else "other", 1)
        await ctx.create_timer(SECOND)

    with (
        run(app_of(code)) as env,
        pytest.raises(Stuck, match=r"decision 1: history has .*'echo', the code decided .*'other'"),
    ):
        env.run("code")
    flips.clear()
    with run(app_of(code), replay=False) as env:
        assert env.run("code") is None


def test_swallowing_cancel_is_the_codes_own_business() -> None:
    async def code(ctx: OrchestrationContext) -> str:
        try:
            await ctx.create_timer(SECOND)
        except OrchestrationCanceled:
            return "I stay"
        return "not reached"

    with run(app_of(code)) as env:
        handle = env.start("code")
        handle.cancel()
        assert "I stay" == handle.result()
