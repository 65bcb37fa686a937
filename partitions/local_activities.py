"""The activities of an app, as the pool runs them: looked up by name, called with decoded input and a context of the attempt."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

from perdure.actors.activity import Activity, ActivityContext

from .pool import FindActivity, LocalActivity
from .ports import Clock
from .run import Run

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Activities(Protocol):
    """Where activities are registered: `actors.app.App`."""

    @property
    def activities(self) -> Mapping[str, Activity[Any, Any]]: ...


def find_local(activities: Activities, clock: Clock) -> FindActivity:
    """Look an activity up once; one that is not there is looked for again each time, since it may be registered later."""
    found: dict[str, LocalActivity] = {}

    def find(name: str) -> LocalActivity | None:
        local = found.get(name)
        if local is None and (activity := activities.activities.get(name)) is not None:
            local = found[name] = _local(activity, clock)
        return local

    return find


def _local(activity: Activity[Any, Any], clock: Clock) -> LocalActivity:
    takes_context = activity.signature.takes_context

    def context(run: Run) -> ActivityContext | None:
        return context_of(run, clock) if takes_context else None

    def call(run: Run) -> bytes:
        prepared = activity.prepare(cast("ActivityContext", context(run)), run.task.input)
        return cast("Callable[[], bytes]", prepared)()

    def begin(run: Run) -> Awaitable[bytes]:
        return cast("Awaitable[bytes]", activity.prepare(cast("ActivityContext", context(run)), run.task.input))

    return LocalActivity(activity.is_async, begin if activity.is_async else call)


def context_of(run: Run, clock: Clock) -> ActivityContext:
    """What the function is told about the attempt that it makes."""
    task = run.task
    deadline = None
    if run.timed:
        now = clock.monotonic()
        deadline = _EPOCH + timedelta(milliseconds=clock.wall_ms(), seconds=run.expires(now) - now)
    return ActivityContext(
        task.instance_id,
        task.execution_id,
        task.task_id,
        task.attempt,
        task.name,
        deadline,
        task.tags,
        run.is_unwanted,
        {"partition": task.partition, "turn": task.turn},
    )
