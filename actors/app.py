"""App: where orchestrations, activities and exception types are registered by name."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, TypeVar, cast

from perdure.schemas.events import ExecutionStarted

from .activity import Activity
from .coroutine import CoroutineExecutor
from .decorators import ActivityDecorator, OrchestrationDecorator
from .definitions import ActivityOptions, name_of
from .execution import ExecutionSettings, Identity
from .executor import InstanceHeld
from .failures import type_name
from .limits import DEFAULT_LIMITS, Limits
from .orchestration import Orchestration
from .retries import RetryPolicy, encode_retry_policy, encode_time_limit

E = TypeVar("E", bound=Exception)


F = TypeVar("F", bound=Callable[..., Any])


def _shown_as(name: str) -> Callable[[F], F]:
    """Python's words for a wrong argument name the function: let it be the one that the author knows."""

    def rename(function: F) -> F:
        function.__qualname__ = name
        return function

    return rename


class App:
    """The definitions that a worker runs. Give the decorated functions to `ctx.call_activity`, `ctx.call_sub_orchestrator` and
    clients; every worker of a hub has all of the hub's orchestrations. `limits` hold for the instances of its workers."""

    def __init__(self, name: str = "app", *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.name = name
        self.limits = limits
        self._orchestrations: dict[str, Orchestration[Any, Any]] = {}
        self._activities: dict[str, Activity[Any, Any]] = {}
        self._exceptions: dict[str, type[Exception]] = {}

    @property
    def orchestrations(self) -> Mapping[str, Orchestration[Any, Any]]:
        return MappingProxyType(self._orchestrations)

    @property
    def activities(self) -> Mapping[str, Activity[Any, Any]]:
        return MappingProxyType(self._activities)

    @property
    def exceptions(self) -> Mapping[str, type[Exception]]:
        """Exception types that are rebuilt from failures, by the name that a failure carries."""
        return MappingProxyType(self._exceptions)

    @property
    def orchestration(self) -> OrchestrationDecorator:
        """Register an orchestration: `@app.orchestration`, or `@app.orchestration(name=...)`."""
        return cast("OrchestrationDecorator", self._register_orchestration)

    @property
    def activity(self) -> ActivityDecorator:
        """Register an activity: `@app.activity`, or with a name and defaults `@app.activity(retry_policy=...)`."""
        return cast("ActivityDecorator", self._register_activity)

    def exception(self, kind: type[E]) -> type[E]:
        """Register an exception type: where a task fails with it, it is the `__cause__` of the TaskFailedError."""
        known = self._exceptions.setdefault(type_name(kind), kind)
        if known is not kind:
            raise ValueError(f"another exception type is registered as {type_name(kind)!r}")
        return kind

    def include(self, other: "App") -> None:
        """Register everything of another app here too."""
        for orchestration in other.orchestrations.values():
            _add(self._orchestrations, orchestration)
        for activity in other.activities.values():
            _add(self._activities, activity)
        for kind in other.exceptions.values():
            self.exception(kind)

    def executor(self, instance_id: str, started: ExecutionStarted, *, strict: bool = False) -> CoroutineExecutor:
        """New code for an execution. Raises InstanceHeld if no orchestration has the name."""
        definition = self._orchestrations.get(started.name)
        if definition is None:
            known = ", ".join(sorted(self._orchestrations)) or "none"
            raise InstanceHeld(
                f"this worker has no orchestration {started.name!r}; it has: {known:.500}", kind="unknown-name"
            )
        parent = started.parent.instance_id if started.parent is not None else None
        identity = Identity(
            instance_id, started.execution_id, started.name, parent, started.generation, started.tags, started.flags
        )
        return CoroutineExecutor(definition, identity, ExecutionSettings(self.limits, self._exceptions, strict))

    @_shown_as("App.orchestration")
    def _register_orchestration(
        self, function: Callable[..., Any] | None = None, /, *, name: str | None = None
    ) -> object:
        def register(function: Callable[..., Any]) -> Orchestration[Any, Any]:
            return _add(self._orchestrations, Orchestration(name_of(function, name), function))

        return register if function is None else register(function)

    @_shown_as("App.activity")
    def _register_activity(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        retry_policy: RetryPolicy | None = None,
        start_to_close: timedelta | None = None,
        schedule_to_close: timedelta | None = None,
    ) -> object:
        options = ActivityOptions(
            encode_retry_policy(retry_policy),
            encode_time_limit("start_to_close", start_to_close),
            encode_time_limit("schedule_to_close", schedule_to_close),
        )

        def register(function: Callable[..., Any]) -> Activity[Any, Any]:
            return _add(self._activities, Activity(name_of(function, name), function, options))

        return register if function is None else register(function)


D = TypeVar("D", bound="Orchestration[Any, Any] | Activity[Any, Any]")


def _add(registered: dict[str, D], definition: D) -> D:
    known = registered.setdefault(definition.name, definition)
    if known is not definition:
        raise ValueError(f"two functions are registered as {definition.label}; give one another name with name=...")
    return definition
