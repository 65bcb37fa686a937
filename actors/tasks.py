"""Tasks: what an orchestration awaits. A leaf stands for one durable thing to come; `when_all` and `when_any` put tasks together.

Rules of this file: a task is completed once, by its execution or by its children; who watches it is told at once, in the order
in which they began to watch.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from .errors import TaskCanceledError
from .values import Codec

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
TaskT = TypeVar("TaskT", bound="Task[Any]")


class Owner(Protocol):
    """The execution that a task belongs to."""

    def cancel(self, task: "CancellableTask[Any]") -> None: ...
    def take(self, task: "ExternalTask[Any]") -> None: ...


class Task(Generic[T_co]):
    """Something to come. Await it, or in a generator yield it."""

    __slots__ = ("_complete", "_error", "_result", "_watchers", "owner")

    def __init__(self, owner: Owner | None) -> None:
        self.owner = owner
        self._complete = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._watchers: list[Watcher] | None = None

    def __await__(self) -> Generator["Task[Any]", Any, T_co]:
        if not self._complete:
            yield self
        return self.get_result()

    @property
    def is_complete(self) -> bool:
        """True once there is a result, or a failure, or it was cancelled."""
        return self._complete

    @property
    def is_failed(self) -> bool:
        """True if awaiting it raises."""
        return self._error is not None

    @property
    def done(self) -> bool:
        """`is_complete`, for the engine: reading it takes nothing."""
        return self._complete

    @property
    def result(self) -> T_co:
        """What `get_result` returns."""
        return self.get_result()

    def get_result(self) -> T_co:
        """The result, or raise what the task failed with. Raises ValueError while it is not complete."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        if not self._complete:
            raise ValueError("the task is not complete: await it, or look at is_complete")
        result: T_co = self._result
        return result

    def get_exception(self) -> BaseException:
        """What the task failed with. Raises ValueError if it did not fail."""
        if self._error is None:
            raise ValueError("the task has not failed")
        return self._error

    def succeed(self, result: Any) -> None:
        """Complete it, for the engine."""
        self._result = result
        self._complete = True
        if self._watchers is not None:
            self._tell()

    def fail(self, error: BaseException) -> None:
        """Complete it with what awaiting it shall raise, for the engine."""
        self._error = error
        self._complete = True
        if self._watchers is not None:
            self._tell()

    def see(self) -> None:
        """The code learns that it is complete: what events it brought are taken."""

    def watch(self, watcher: "Watcher") -> None:
        """Have `watcher` told when it completes, for the engine."""
        if self._watchers is None:
            self._watchers = [watcher]
        else:
            self._watchers.append(watcher)

    def _tell(self) -> None:
        watchers, self._watchers = self._watchers or (), None
        for watcher in watchers:
            watcher.on_complete(self)


class Watcher(Protocol):
    """Who is told that a task is complete."""

    def on_complete(self, task: Task[Any], /) -> None: ...


class CancellableTask(Task[T_co]):
    """An activity, a sub-orchestration, a timer or a wait: what may be given up."""

    __slots__ = ("_cancelled", "codec", "task_id", "what")

    def __init__(self, owner: Owner, task_id: int, codec: Codec, what: str) -> None:
        self.owner = owner
        self._complete = False
        self._result = None
        self._error = None
        self._watchers = None
        self._cancelled = False
        self.task_id = task_id
        self.codec = codec
        self.what = what

    def __repr__(self) -> str:
        return f"<task: {self.what}>"

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> bool:
        """Give it up; awaiting it raises TaskCanceledError from here on. False if it was complete before."""
        if self._complete:
            return False
        assert self.owner is not None
        self.owner.cancel(self)
        self._cancelled = True
        self.fail(TaskCanceledError(f"{self.what} was cancelled"))
        return True


class TimerTask(CancellableTask[None]):
    """A durable timer; its result is None."""

    __slots__ = ("fire_at_ms",)

    def __init__(self, owner: Owner, task_id: int, codec: Codec, fire_at_ms: int) -> None:
        super().__init__(owner, task_id, codec, "the timer")
        self.fire_at_ms = fire_at_ms


class ExternalTask(CancellableTask[T_co]):
    """A wait for an external event. The event is taken once the code has seen that it came; until then continue-as-new keeps it."""

    __slots__ = ("arrival", "name", "timer")

    def __init__(self, owner: Owner, codec: Codec, name: str) -> None:
        super().__init__(owner, 0, codec, f"the wait for event {name!r}")
        self.name = name
        self.arrival = -1
        self.timer: TimerTask | None = None

    @property
    def is_complete(self) -> bool:
        if self._complete:
            self.see()
        return self._complete

    def get_result(self) -> T_co:
        self.see()
        return super().get_result()

    def see(self) -> None:
        if self.arrival >= 0:
            assert self.owner is not None
            self.owner.take(self)
            self.arrival = -1

    def on_complete(self, _timer: Task[Any], /) -> None:
        """Its time is over."""
        if not self._complete and self.timer is not None and not self.timer.is_cancelled:
            assert self.owner is not None
            self.owner.cancel(self)
            self.fail(TimeoutError(f"no event {self.name!r} came in time"))


class CompositeTask(Task[T_co]):
    """A task made of tasks."""

    __slots__ = ("_tasks",)

    def __init__(self, tasks: Sequence[Task[Any]]) -> None:
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(
                    f"{task!r:.80} is not a task. Put together what ctx.call_activity, ctx.create_timer and the like return; "
                    "for several steps side by side call a sub-orchestration"
                )
        super().__init__(tasks[0].owner if tasks else None)
        self._tasks = tasks

    @property
    def is_complete(self) -> bool:
        if self._complete:
            self.see()
        return self._complete

    def get_tasks(self) -> list[Task[Any]]:
        return list(self._tasks)


class WhenAllTask(CompositeTask[T_co]):
    """Complete when all of its tasks are."""

    __slots__ = ("_failed", "_left")

    def __init__(self, tasks: Sequence[Task[Any]]) -> None:
        super().__init__(tasks)
        self._failed: BaseException | None = None
        pending = [task for task in tasks if not task.done]
        self._left = len(pending)
        for task in tasks:
            if task.done:
                self._note(task)
            else:
                task.watch(self)
        if not pending:
            self._end()

    @property
    def pending_tasks(self) -> int:
        """How many of its tasks are not complete."""
        return self._left

    def get_completed_tasks(self) -> int:
        return len(self._tasks) - self._left

    def on_complete(self, task: Task[Any], /) -> None:
        self._left -= 1
        self._note(task)
        if self._left == 0:
            self._end()

    def _note(self, task: Task[Any]) -> None:
        if self._failed is None and task.is_failed:
            self._failed = task.get_exception()

    def _end(self) -> None:
        # The result is made when it is asked for: until then the code has not seen its waits' events.
        if self._failed is not None:
            self.fail(self._failed)
        else:
            self.succeed(None)

    def get_result(self) -> T_co:
        if self._complete and self._error is None:
            results = [task.get_result() for task in self._tasks]
            return cast("T_co", tuple(results) if isinstance(self._tasks, tuple) else results)
        return super().get_result()

    def see(self) -> None:
        for task in self._tasks:
            task.see()


class WhenAnyTask(CompositeTask[TaskT]):
    """Complete when the first of its tasks is, with that task."""

    __slots__ = ()

    def __init__(self, tasks: Sequence[TaskT]) -> None:
        super().__init__(tasks)
        first = next((task for task in tasks if task.done), None)
        if first is not None:
            self.succeed(first)
            return
        for task in tasks:
            task.watch(self)

    def on_complete(self, task: Task[Any], /) -> None:
        if not self._complete:
            self.succeed(task)

    def get_result(self) -> TaskT:
        self.see()
        return super().get_result()

    def see(self) -> None:
        if self._result is not None:
            self._result.see()


@overload
def when_all(tasks: tuple[Task[T1]]) -> WhenAllTask[tuple[T1]]: ...  # type: ignore[overload-overlap]
@overload
def when_all(tasks: tuple[Task[T1], Task[T2]]) -> WhenAllTask[tuple[T1, T2]]: ...  # type: ignore[overload-overlap]
@overload
def when_all(tasks: tuple[Task[T1], Task[T2], Task[T3]]) -> WhenAllTask[tuple[T1, T2, T3]]: ...  # type: ignore[overload-overlap]
@overload
def when_all(tasks: tuple[Task[T1], Task[T2], Task[T3], Task[T4]]) -> WhenAllTask[tuple[T1, T2, T3, T4]]: ...  # type: ignore[overload-overlap]
@overload
def when_all(tasks: Iterable[Task[T]]) -> WhenAllTask[list[T]]: ...
def when_all(tasks: Iterable[Task[Any]]) -> WhenAllTask[Any]:
    """Wait until every task is complete; the results are in the order of the tasks, a list (or for a tuple a tuple).

    If any failed, the first failure is raised, and only when all are complete.
    """
    return WhenAllTask(tasks if isinstance(tasks, tuple) else list(tasks))


def when_any(tasks: Iterable[TaskT]) -> WhenAnyTask[TaskT]:
    """Wait until one task is complete, well or badly, and return that task. The others go on: cancel what is not needed."""
    given = list(tasks)
    if not given:
        raise ValueError("when_any of no tasks would wait for ever")
    return WhenAnyTask(given)
