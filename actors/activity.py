"""Activities: the functions with side effects, and what they are told about the attempt that they make."""

import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from perdure.schemas.events import NO_TAGS

from .definitions import ActivityOptions, Definition, I_contra, O_co, read_signature
from .loggers import IdLogger

_NO_OPTIONS = ActivityOptions()
_NOWHERE: Mapping[str, int] = MappingProxyType({})


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class ActivityContext:
    """One attempt of one activity. `deadline` is when its time is over, if it has a limit; `place` is where in the hub it was asked
    for, for its log lines."""

    instance_id: str
    execution_id: str
    task_id: int
    attempt: int = 1
    name: str = ""
    deadline: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    cancellation: Callable[[], bool] = _never
    place: Mapping[str, int] = field(default_factory=lambda: _NOWHERE, repr=False)

    @property
    def orchestration_id(self) -> str:
        """The instance's id, as Durable Task calls it."""
        return self.instance_id

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt, and of no other task: give it to the other side, so that it does nothing twice."""
        return f"{self.instance_id}/{self.execution_id}/{self.task_id}"

    @property
    def cancelled(self) -> bool:
        """True once nobody wants the result any more: time is over, the task was cancelled, or the instance ended."""
        return self.cancellation()

    @property
    def logger(self) -> IdLogger:
        """A logger whose records carry the ids of this attempt, and partition and turn that it was asked for in."""
        ids = {
            "instance": self.instance_id,
            "execution": self.execution_id,
            "task": self.task_id,
            "attempt": self.attempt,
        }
        return IdLogger(logging.getLogger(f"perdure.activity.{self.name}"), {**self.place, **ids})


class Activity(Definition[I_contra, O_co]):
    """A registered activity: pass it to `ctx.call_activity`, or call it as the function it is."""

    kind = "activity"

    def __init__(self, name: str, function: Callable[..., Any], options: ActivityOptions = _NO_OPTIONS) -> None:
        super().__init__(name, function, read_signature(function, f"activity {name!r}", _is_context))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"activity {name!r} is a generator; an activity returns its result")
        self.options = options
        self.is_async = inspect.iscoroutinefunction(function)

    def prepare(self, context: ActivityContext, data: bytes) -> Callable[[], bytes] | Coroutine[Any, Any, bytes]:
        """One attempt, ready to run: a call, or for an async function a coroutine; either comes to the result's JSON."""
        return self._run_async(context, data) if self.is_async else lambda: self.run(context, data)

    def run(self, context: ActivityContext, data: bytes) -> bytes:
        """Run a plain function on `data` and return its result's JSON. Raises what the function raises, and ValueRefused."""
        return self.result_codec.encode(self.function(*self.arguments(context, data)))

    async def _run_async(self, context: ActivityContext, data: bytes) -> bytes:
        return self.result_codec.encode(await self.function(*self.arguments(context, data)))


def _is_context(parameter: inspect.Parameter, annotation: Any) -> bool:
    if annotation is ActivityContext or annotation == "ActivityContext":
        return True
    return parameter.name in {"ctx", "context"} and annotation is inspect.Parameter.empty
