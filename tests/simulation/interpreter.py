"""The app that is simulated: one orchestration that runs any job, and a generator. Their activities are in `outside`.

Rules of this file: it is written as a user would write it; what it returns depends on the job alone, or on a race that it reports.
"""

from collections.abc import Callable, Coroutine, Generator, Mapping
from datetime import timedelta
from typing import Any

from perdure.actors.activity import Activity
from perdure.actors.app import App
from perdure.actors.context import OrchestrationContext
from perdure.actors.coroutine import CoroutineExecutor
from perdure.actors.errors import OrchestrationCanceled, TaskCanceledError, TaskFailedError
from perdure.actors.retries import RetryPolicy
from perdure.actors.tasks import CancellableTask, Task, when_all, when_any
from perdure.schemas.events import ExecutionStarted

from .lethal import LETHAL
from .plans import Job, Step

MILLISECOND = timedelta(milliseconds=1)
RETRY_INTERVAL_MS = 40
PATCH = "the second build"


class PlannedFailure(Exception):
    """How a job ends that is to fail."""


def failure(kind: str) -> dict[str, str]:
    """A failure as a value."""
    return {"!": kind.rpartition(".")[2]}


def policy(attempts: int, backoff: float = 1.0) -> RetryPolicy | None:
    if attempts <= 1:
        return None
    interval = RETRY_INTERVAL_MS * MILLISECOND
    return RetryPolicy(
        first_retry_interval=interval,
        max_number_of_attempts=attempts,
        backoff_coefficient=backoff,
        max_retry_interval=2_000 * MILLISECOND,
    )


async def value_of(task: Task[Any]) -> Any:
    """What a task comes to, failures included."""
    try:
        return await task
    except TaskFailedError as error:
        return failure(error.failure.type)
    except TaskCanceledError:
        return failure("canceled")
    except TimeoutError:
        return failure("timeout")


def begin(ctx: OrchestrationContext, step: Step) -> CancellableTask[Any]:
    """The task of a step that is one."""
    return _BEGIN[step[0]](ctx, *step[1:])


def _call(ctx: OrchestrationContext, token: int) -> CancellableTask[Any]:
    return ctx.call_activity(("plain", "waiting")[token % 2], token)


def _flaky(ctx: OrchestrationContext, token: int, fails: int, attempts: int, backoff: float) -> CancellableTask[Any]:
    return ctx.call_activity("flaky", [token, fails], retry_policy=policy(attempts, backoff))


def _fatal(ctx: OrchestrationContext, token: int) -> CancellableTask[Any]:
    return ctx.call_activity("fatal", token, retry_policy=policy(5))


def _slow(ctx: OrchestrationContext, token: int, takes: int, limit: int, attempts: int) -> CancellableTask[Any]:
    limits = {"retry_policy": policy(attempts), "start_to_close": limit * MILLISECOND}
    return ctx.call_activity("slow", [token, takes], **limits)


def _deadline(ctx: OrchestrationContext, token: int, takes: int, limit: int) -> CancellableTask[Any]:
    return ctx.call_activity("slow", [token, takes], retry_policy=policy(3), schedule_to_close=limit * MILLISECOND)


def _deadly(ctx: OrchestrationContext, token: int, deaths: int) -> CancellableTask[Any]:
    return ctx.call_activity("deadly", [token, deaths])


def _sleep(ctx: OrchestrationContext, ms: int) -> CancellableTask[Any]:
    return ctx.create_timer(ms * MILLISECOND)


def _child(ctx: OrchestrationContext, job: Job, name: str, attempts: int) -> CancellableTask[Any]:
    return ctx.call_sub_orchestrator("program", job, instance_id=name or None, retry_policy=policy(attempts))


def _taken(ctx: OrchestrationContext, name: str) -> CancellableTask[Any]:
    return ctx.call_sub_orchestrator("program", None, instance_id=name)


def _count(ctx: OrchestrationContext, token: int, times: int) -> CancellableTask[Any]:
    return ctx.call_sub_orchestrator("count", [token, times])


def _wait(ctx: OrchestrationContext, name: str) -> CancellableTask[Any]:
    return ctx.wait_for_external_event(name)


def _expect(ctx: OrchestrationContext, name: str, ms: int, _sent: bool) -> CancellableTask[Any]:
    return ctx.wait_for_external_event(name, timeout=ms * MILLISECOND)


_BEGIN: dict[str, Callable[..., CancellableTask[Any]]] = {
    "call": _call,
    "flaky": _flaky,
    "fatal": _fatal,
    "slow": _slow,
    "deadline": _deadline,
    "deadly": _deadly,
    "sleep": _sleep,
    "child": _child,
    "taken": _taken,
    "count": _count,
    "wait": _wait,
    "expect": _expect,
}


async def take(ctx: OrchestrationContext, step: Step, build: int) -> Any:
    """Run one step to its end."""
    run = _TAKE.get(step[0])
    return await value_of(begin(ctx, step)) if run is None else await run(ctx, build, *step[1:])


async def _take_sleep(ctx: OrchestrationContext, _build: int, ms: int) -> str:
    before = ctx.current_utc_datetime
    await ctx.create_timer(ms * MILLISECOND)
    return "slept" if ctx.current_utc_datetime >= before + ms * MILLISECOND else "woke early"


async def _take_drop(ctx: OrchestrationContext, _build: int, dropped: Step, ms: int) -> Any:
    task = begin(ctx, dropped)
    if ms:
        await ctx.create_timer(ms * MILLISECOND)
    task.cancel()
    return await value_of(task)


async def _take_send(ctx: OrchestrationContext, _build: int, instance_id: str, name: str, token: int) -> str:
    ctx.send_event(instance_id, name, data=token)
    return "sent"


async def _take_status(ctx: OrchestrationContext, _build: int, text: str) -> str:
    ctx.set_custom_status(text)
    return "shown"


async def _take_lethal(ctx: OrchestrationContext, _build: int, deaths: int) -> str:
    LETHAL.strike(ctx.instance_id, deaths)
    return "survived"


async def _take_patch(ctx: OrchestrationContext, build: int, token: int) -> list[Any]:
    if build > 1 and ctx.patched(PATCH):
        return ["new", await value_of(ctx.call_activity("waiting", token))]
    return ["old", await value_of(ctx.call_activity("plain", token))]


async def _take_uuid(ctx: OrchestrationContext, _build: int) -> Any:
    made = ctx.new_uuid()
    came = await value_of(ctx.call_activity("plain", made))
    return "same" if came == made else came


async def _take_all(ctx: OrchestrationContext, _build: int, steps: list[Step]) -> Any:
    tasks = [begin(ctx, step) for step in steps]
    try:
        together = await when_all(tasks)
    except (TaskFailedError, TimeoutError):
        together = None
    values = [await value_of(task) for task in tasks]
    return values if together is None or together == values else ["when_all said", together, values]


async def _take_any(ctx: OrchestrationContext, _build: int, steps: list[Step], rest: str) -> Any:
    tasks = [begin(ctx, step) for step in steps]
    first = await when_any(tasks)
    winner = tasks.index(first)
    values = {str(winner): await value_of(first)}
    for number, task in enumerate(tasks):
        if number != winner:
            if rest == "cancel":
                task.cancel()
            values[str(number)] = await value_of(task)
    return [winner, values]


_TAKE: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    "sleep": _take_sleep,
    "drop": _take_drop,
    "send": _take_send,
    "status": _take_status,
    "lethal": _take_lethal,
    "patch": _take_patch,
    "uuid": _take_uuid,
    "all": _take_all,
    "any": _take_any,
}


def make_app(build: int) -> App:
    """The app in its first or second build."""
    app = App(f"build {build}")

    @app.orchestration
    async def program(ctx: OrchestrationContext, job: Job) -> Any:
        """Run one round of a job."""
        values: list[Any] = []
        try:
            for step in job["rounds"][job["at"]]:
                values.append(await take(ctx, step, build))  # noqa: PERF401 - each is awaited
        except OrchestrationCanceled:
            if not job["guard"]:
                raise
            return {"compensated": await value_of(ctx.call_activity("plain", len(values)))}
        done = [*job["done"], values]
        if job["at"] + 1 < len(job["rounds"]):
            ctx.continue_as_new({**job, "at": job["at"] + 1, "done": done})
            return None
        if job["end"][0] == "raise":
            raise PlannedFailure(job["end"][1])
        if job["end"][0] == "first":
            # Fails in the first executions of its instance, so that whoever called it has to try again.
            await ctx.call_activity("nth", [ctx.instance_id, job["end"][1]])
        return done

    @app.orchestration
    def count(ctx: OrchestrationContext, given: list[int]) -> Generator[Any, Any, int]:
        """The sum of some calls, as a generator."""
        token, times = given
        total = 0
        for number in range(times):
            total += yield ctx.call_activity("plain", token + number)
        return total

    return app


class StrictCode:
    """An app's code (`partitions.holdings.Code`) that is held for any difference to its history, inputs included."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.activities: Mapping[str, Activity[Any, Any]] = {}

    def executor(self, instance_id: str, started: ExecutionStarted, *, strict: bool = True) -> CoroutineExecutor:
        return self.app.executor(instance_id, started, strict=True)


CODE = {build: StrictCode(make_app(build)) for build in (1, 2)}
