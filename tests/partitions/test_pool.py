"""The activities that a process runs itself: async ones on the engine's thread, plain ones in threads."""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import structlog

from perdure.partitions import plain_lane, pool
from perdure.partitions.activities import ActivityResult, ActivityTask
from perdure.partitions.pool import LocalActivity, LocalPool, PoolSettings
from perdure.partitions.ports import Clock
from perdure.partitions.run import Run

TASK = ActivityTask(0, "order", "1-1", 1, 1, "plain", b"1")
PLENTY = 10.0


class Wall:
    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class StandingClock:
    """It goes on when a test says so."""

    seconds = 0.0

    def wall_ms(self) -> int:
        return int(1000 * self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Engine:
    """A pool and the wait of an engine without a log."""

    def __init__(self, clock: Clock | None = None, **settings: int) -> None:
        self.activities: dict[str, LocalActivity] = {}
        self.woken = threading.Event()
        self.wakes = 0
        self.pool = LocalPool(self.activities.get, clock or Wall(), self._wake, PoolSettings(**settings))

    def _wake(self) -> None:
        self.wakes += 1
        self.woken.set()

    def plain(self, function: Callable[[Run], bytes], name: str = "plain") -> None:
        self.activities[name] = LocalActivity(is_async=False, invoke=function)

    def coroutine(self, function: Callable[[Run], Awaitable[bytes]], name: str = "async") -> None:
        self.activities[name] = LocalActivity(is_async=True, invoke=function)

    def dispatch(self, *tasks: ActivityTask) -> None:
        self.pool.dispatch(tasks)

    def turn(self) -> None:
        """What the engine does in one round without work of its own."""
        self.woken.clear()
        if not self.pool.step():
            self.woken.wait(self.pool.wait_seconds(PLENTY))

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PLENTY
        while not done():
            assert time.monotonic() < deadline, "it did not happen"
            self.turn()

    def results(self, count: int, partition: int = 0) -> list[ActivityResult]:
        out: list[ActivityResult] = []

        def enough() -> bool:
            out.extend(self.pool.take_results(partition))
            return len(out) >= count

        self.until(enough)
        return out


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.pool.close(0)


def many(count: int, name: str) -> list[ActivityTask]:
    return [replace(TASK, task_id=number, name=name) for number in range(1, count + 1)]


def failure_types(results: list[ActivityResult]) -> list[str]:
    return [result.failure.type if result.failure else "" for result in results]


async def ready(run: Run) -> bytes:
    return b'"%d"' % run.task.task_id


async def forever(run: Run) -> bytes:
    await asyncio.Event().wait()
    return b"null"


@pytest.mark.parametrize("name", ["plain", "async"])
def test_results_come_back_with_their_task(engine: Engine, name: str) -> None:
    engine.plain(lambda run: b'"%d"' % run.task.task_id)
    engine.coroutine(ready)
    tasks = many(200, name)
    engine.dispatch(*tasks)

    assert frozenset(task.key for task in tasks) == engine.pool.running(0)
    results = sorted(engine.results(200), key=lambda result: result.task.task_id)
    assert [ActivityResult(task, b'"%d"' % task.task_id) for task in tasks] == results
    assert frozenset() == engine.pool.running(0)
    assert 200 == engine.pool.counts().completed


def test_results_that_were_not_taken_count_as_running(engine: Engine) -> None:
    engine.coroutine(ready)
    engine.dispatch(replace(TASK, name="async"))
    engine.pool.step()

    assert {TASK.key} == engine.pool.running(0)
    assert 1 == len(engine.pool.take_results(0))
    assert frozenset() == engine.pool.running(0)


def test_each_partition_takes_its_own_results(engine: Engine) -> None:
    engine.coroutine(ready)
    engine.dispatch(replace(TASK, name="async"), replace(TASK, name="async", partition=1))

    assert [1] == [result.task.partition for result in engine.results(1, partition=1)]
    assert [0] == [result.task.partition for result in engine.results(1, partition=0)]


def test_async_results_keep_the_order_in_which_they_ended(engine: Engine) -> None:
    ended = {number: asyncio.Event() for number in range(1, 7)}
    ended[6].set()

    async def after_the_next(run: Run) -> bytes:
        await ended[run.task.task_id + 1].wait()
        ended[run.task.task_id].set()
        return b"null"

    engine.coroutine(after_the_next)
    engine.dispatch(*many(5, "async"))

    engine.until(lambda: engine.pool.counts().completed == 5)

    assert [5, 4, 3, 2, 1] == [result.task.task_id for result in engine.pool.take_results(0)]


def test_an_unknown_name_runs_nothing_and_fails_nothing(engine: Engine) -> None:
    engine.dispatch(replace(TASK, name="nowhere"))

    assert [ActivityResult(replace(TASK, name="nowhere"), unknown=True)] == engine.results(1)


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
@pytest.mark.parametrize("name", ["plain", "async"])
def test_whatever_an_activity_raises_is_its_failure(engine: Engine, name: str, error: BaseException) -> None:
    def fail(run: Run) -> bytes:
        raise error

    async def fail_later(run: Run) -> bytes:
        await asyncio.sleep(0)
        raise error

    engine.plain(fail)
    engine.coroutine(fail_later)
    engine.coroutine(ready, "after")
    engine.dispatch(replace(TASK, name=name))
    (failed,) = engine.results(1)
    engine.dispatch(replace(TASK, name="after"))

    assert failed.failure is not None
    assert type(error).__name__ == failed.failure.type.rpartition(".")[2]
    assert [""] == failure_types(engine.results(1))
    assert 1 == engine.pool.counts().failed


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("name", ["plain", "async"])
def test_an_exception_that_cannot_be_shown_is_a_failure_too(engine: Engine, name: str) -> None:
    def fail(run: Run) -> bytes:
        raise Unspeakable

    async def fail_async(run: Run) -> bytes:
        raise Unspeakable

    engine.plain(fail)
    engine.coroutine(fail_async)
    engine.dispatch(replace(TASK, name=name))

    [result] = engine.results(1)
    assert result.failure is not None
    assert "(its message could not be made: RuntimeError)" == result.failure.message


def test_an_async_activity_runs_in_one_task_from_first_line_to_last(engine: Engine) -> None:
    async def tasks(run: Run) -> bytes:
        before = asyncio.current_task()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.001))
        await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.001), 5)
        return b"true" if before is not None and asyncio.current_task() is before else b"false"

    engine.coroutine(tasks)
    engine.dispatch(*many(3, "async"))

    assert [b"true"] * 3 == [result.result for result in engine.results(3)]


def test_waiting_activities_run_side_by_side(engine: Engine) -> None:
    together = 0
    most = 0

    async def wait(run: Run) -> bytes:
        nonlocal together, most
        together += 1
        most = max(most, together)
        while most < 100:
            await asyncio.sleep(0)
        together -= 1
        return b"null"

    engine.coroutine(wait)
    engine.dispatch(*many(100, "async"))
    engine.results(100)

    assert 100 == most


def test_blocking_functions_run_side_by_side(engine: Engine) -> None:
    everyone = threading.Barrier(20)

    def meet(run: Run) -> bytes:
        everyone.wait(PLENTY)
        return b"null"

    engine.plain(meet)
    engine.dispatch(*many(20, "plain"))

    assert [""] * 20 == failure_types(engine.results(20))


def test_short_functions_share_a_thread_and_a_wake_up(engine: Engine) -> None:
    threads: set[int] = set()

    def who(run: Run) -> bytes:
        threads.add(threading.get_ident())
        return b"null"

    engine.plain(who)
    engine.dispatch(*many(60, "plain"))
    engine.results(60)

    assert len(threads) < 10
    assert engine.wakes < 10


def test_what_one_activity_sets_in_its_context_the_next_one_does_not_see(engine: Engine) -> None:
    variable = contextvars.ContextVar("variable", default=b"1")

    def see(run: Run) -> bytes:
        seen = variable.get()
        variable.set(b"2")
        return seen

    async def see_async(run: Run) -> bytes:
        return see(run)

    engine.plain(see)
    engine.coroutine(see_async)
    engine.dispatch(*many(5, "plain"), *(replace(task, partition=1) for task in many(5, "async")))

    assert [b"1"] * 5 == [result.result for result in engine.results(5, 0)]
    assert [b"1"] * 5 == [result.result for result in engine.results(5, 1)]


def test_a_bell_that_rang_too_late_for_one_wait_does_not_end_the_next_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_lane, "_ESCALATE_SECONDS", PLENTY)
    gate = threading.Event()
    engine.plain(lambda run: b"null" if gate.wait(PLENTY) else b"false")
    engine.pool._plain._bell.put(None)
    engine.dispatch(*many(1, "plain"))
    engine.pool.step()
    threading.Timer(0.05, gate.set).start()

    assert engine.pool.linger()
    engine.pool.step()
    assert [b"null"] == [result.result for result in engine.pool.take_results(0)]


def test_limits_queue_what_is_too_much_and_say_so() -> None:
    engine = Engine(async_max=2, plain_max=1, queued_max=4)
    began, gate = threading.Event(), threading.Event()

    def pass_gate(run: Run) -> bytes:
        began.set()
        return b"null" if gate.wait(PLENTY) else b"false"

    engine.coroutine(forever)
    engine.plain(pass_gate)
    engine.dispatch(*many(4, "async"))
    engine.pool.step()
    counts = engine.pool.counts()

    assert (2, 2, False) == (counts.async_running, counts.queued, engine.pool.saturated)
    engine.dispatch(*(replace(task, partition=1) for task in many(3, "plain")))
    engine.pool.step()
    assert began.wait(PLENTY)
    assert 1 == engine.pool.counts().plain_running
    assert (4, True) == (engine.pool.counts().queued, engine.pool.saturated)
    gate.set()
    assert 3 == len(engine.results(3, partition=1))
    assert not engine.pool.saturated
    engine.pool.cancel(0, "order", "1-1")
    engine.until(lambda: engine.pool.counts().async_running == 0)
    engine.pool.close(0)


def test_an_async_activity_that_is_out_of_time_is_cancelled(engine: Engine) -> None:
    cleaned_up: list[int] = []

    async def wait(run: Run) -> bytes:
        try:
            return await forever(run)
        finally:
            cleaned_up.append(run.task.task_id)

    engine.coroutine(wait)
    engine.coroutine(ready, "ready")
    engine.dispatch(replace(TASK, name="async", start_to_close_ms=5))
    (result,) = engine.results(1)
    engine.until(lambda: cleaned_up == [1])
    engine.dispatch(replace(TASK, name="ready"))

    assert result.failure is not None
    assert ("ActivityTimedOut", True) == (result.failure.type, result.failure.retriable)
    assert "start-to-close limit of 5 ms" in result.failure.message
    assert [""] == failure_types(engine.results(1))
    counts = engine.pool.counts()
    assert (1, 0, 0) == (counts.timed_out, counts.abandoned, counts.async_running)


def test_a_function_that_is_out_of_time_keeps_its_slot_and_its_late_result_is_dropped() -> None:
    engine = Engine(plain_max=1)
    gate = threading.Event()
    engine.plain(lambda run: b"null" if gate.wait(PLENTY) else b"false")
    engine.dispatch(replace(TASK, start_to_close_ms=5), replace(TASK, task_id=2))
    (result,) = engine.results(1)
    counts = engine.pool.counts()

    assert (["ActivityTimedOut"], 1) == (failure_types([result]), result.task.task_id)
    assert (1, 1, 1) == (counts.abandoned, counts.plain_running, counts.queued)
    gate.set()
    assert [2] == [result.task.task_id for result in engine.results(1)]
    counts = engine.pool.counts()
    assert (0, 0, 1, 1) == (counts.abandoned, counts.plain_running, counts.completed, counts.timed_out)
    engine.pool.close(0)


def test_a_limit_counts_from_when_the_activity_begins() -> None:
    clock = StandingClock()
    engine = Engine(clock, async_max=1)
    gates = [asyncio.Event() for _ in range(4)]

    async def wait(run: Run) -> bytes:
        await gates[run.task.task_id].wait()
        return b"null"

    engine.coroutine(wait)
    engine.dispatch(
        *(replace(task, start_to_close_ms=60_000 if task.task_id < 3 else 30_000) for task in many(3, "async"))
    )
    for gate in gates[1:]:
        engine.pool.step()
        clock.seconds += 20
        gate.set()
        assert [""] == failure_types(engine.results(1))
    engine.pool.close(0)


def test_a_deadline_ends_what_never_began(engine: Engine) -> None:
    engine.coroutine(ready)
    engine.dispatch(replace(TASK, name="async", deadline_ms=Wall().wall_ms() - 1))
    (result,) = engine.results(1)

    assert result.failure is not None
    assert ("ActivityTimedOut", False) == (result.failure.type, result.failure.retriable)


def test_a_cancelled_activity_gives_no_result(engine: Engine) -> None:
    began = threading.Event()
    told: list[bool] = []

    def wait(run: Run) -> bytes:
        began.set()
        while run.wanted:
            time.sleep(0.001)
        told.append(True)
        return b"null"

    engine.plain(wait)
    engine.coroutine(forever)
    engine.dispatch(TASK, replace(TASK, name="async", task_id=2), replace(TASK, name="async", instance_id="other"))
    engine.pool.step()
    assert began.wait(PLENTY)
    engine.pool.cancel(0, "order", "1-1", 2)

    assert {TASK.key, ("other", "1-1", 1, 1)} == engine.pool.running(0)
    engine.pool.cancel(0, "order", "1-1")
    assert {("other", "1-1", 1, 1)} == engine.pool.running(0)
    engine.pool.cancel_partition(0)
    engine.until(lambda: engine.pool.counts().abandoned == 0)
    counts = engine.pool.counts()
    assert (0, 0, 3) == (counts.async_running, counts.plain_running, counts.cancelled)
    assert [True] == told
    assert [] == list(engine.pool.take_results(0))


def test_an_activity_cancelled_before_it_began_never_runs(engine: Engine) -> None:
    ran: list[int] = []

    async def note(run: Run) -> bytes:
        ran.append(run.task.task_id)
        return b"null"

    engine.coroutine(note)
    engine.dispatch(*many(3, "async"))
    engine.pool.cancel(0, "order", "1-1", 2)

    assert [1, 3] == [result.task.task_id for result in engine.results(2)]
    assert [1, 3] == ran


def test_a_draining_pool_finishes_what_runs_and_begins_nothing() -> None:
    engine = Engine(async_max=1)
    gate = asyncio.Event()

    async def wait(run: Run) -> bytes:
        await gate.wait()
        return b"null"

    engine.coroutine(wait)
    engine.dispatch(*many(3, "async"))
    engine.pool.step()
    engine.pool.drain()
    engine.dispatch(replace(TASK, task_id=4, name="async"))

    assert {TASK.key} == engine.pool.running(0)
    gate.set()
    assert [1] == [result.task.task_id for result in engine.results(1)]
    assert frozenset() == engine.pool.running(0)
    engine.pool.close(0)


def test_closing_waits_for_what_runs_and_then_cancels_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # A second passes with every look at the clock, and with every other one the activities go on.
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=count().__next__, sleep=time.sleep))
    engine = Engine()
    ended: list[str] = []

    async def wait(run: Run) -> bytes:
        try:
            for _ in range(5 if run.task.task_id == 1 else 100_000):
                await asyncio.sleep(0)
            ended.append("in time")
        except asyncio.CancelledError:
            ended.append("cancelled")
        return b"null"

    engine.coroutine(wait)
    engine.dispatch(*many(2, "async"))
    engine.turn()
    engine.pool.close(20)

    assert ["in time", "cancelled"] == ended


def test_a_generator_that_never_comes_to_its_end_keeps_no_pool_open() -> None:
    engine = Engine()
    kept: list[AsyncIterator[bytes]] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"1"
        finally:
            await asyncio.Event().wait()

    async def first_of(run: Run) -> bytes:
        kept.append(endless())
        return await anext(kept[0])

    engine.coroutine(first_of)
    engine.dispatch(replace(TASK, name="async"))
    assert [b"1"] == [result.result for result in engine.results(1)]
    closing = threading.Thread(target=engine.pool.close, args=(0,), daemon=True)
    with structlog.testing.capture_logs() as logs:
        closing.start()
        closing.join(PLENTY)

    assert not closing.is_alive()
    assert ["activities.left_behind"] == [entry["event"] for entry in logs]


def test_the_engine_is_woken_when_the_loop_has_something_to_read(engine: Engine) -> None:
    gate = threading.Event()

    class Waited(threading.Event):
        """There is something to read once the engine waits for it."""

        def wait(self, timeout: float | None = None) -> bool:
            if timeout:
                gate.set()
            assert super().wait(timeout) or not timeout, "nobody woke the engine"
            return True

    async def read(run: Run) -> bytes:
        return await asyncio.to_thread(lambda: b'"read"' if gate.wait(PLENTY) else b'"late"')

    engine.woken = Waited()
    engine.coroutine(read)
    engine.dispatch(replace(TASK, name="async"))

    assert [b'"read"'] == [result.result for result in engine.results(1)]
    assert engine.wakes >= 1


def test_the_engine_waits_long_when_nothing_can_happen() -> None:
    engine = Engine(StandingClock())
    engine.coroutine(forever)

    assert PLENTY == engine.pool.wait_seconds(PLENTY)
    engine.dispatch(replace(TASK, name="async", start_to_close_ms=5_000))
    engine.pool.step()
    engine.pool.step()
    assert 5 == engine.pool.wait_seconds(PLENTY)
    engine.pool.close(0)


def test_an_attempt_that_fails_is_told_with_its_place_and_its_stack_only_at_debug(engine: Engine) -> None:
    def fail(run: Run) -> bytes:
        if run.task.task_id == 1:
            raise ValueError("no such order")
        return b"2"

    engine.plain(fail)
    with structlog.testing.capture_logs() as lines:
        engine.dispatch(replace(TASK, attempt=3, turn=7), replace(TASK, task_id=2))
        engine.results(2)

    place = {
        "partition": 0, "instance": "order", "turn": 7, "activity": "plain", "task": 1, "attempt": 3, "type": "ValueError",
        "message": "no such order",
    }  # fmt: skip
    told, stack = lines
    assert {"event": "activity.failed", "log_level": "warning", **place} == told
    assert ("activity.stack", "debug") == (stack["event"], stack["log_level"])
    assert "in fail" in stack["stack"]


def test_an_attempt_that_is_out_of_time_is_told_and_one_that_nobody_wants_is_not(engine: Engine) -> None:
    gate = threading.Event()
    engine.plain(lambda _run: b"1" if gate.wait(PLENTY) else b"0")
    with structlog.testing.capture_logs() as lines:
        engine.dispatch(replace(TASK, start_to_close_ms=1), replace(TASK, instance_id="gone"))
        engine.pool.cancel(0, "gone", "1-1")
        engine.results(1)
        gate.set()

    assert [("activity.failed", "order", "ActivityTimedOut")] == [
        (line["event"], line["instance"], line["type"]) for line in lines
    ]
