"""The guard that stands in for asyncio's loop while an orchestration's code runs: whatever asks the loop for something is told
what to write instead.

Rules of this file: the loop that was there before is always put back; what the guard caught is remembered, so that code which
swallows the exception is held all the same.
"""

import sys

# Only where asyncio keeps its running loop: nothing here runs one.
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable
from inspect import iscoroutine
from types import FrameType
from typing import Any, NoReturn, cast

from .errors import ForeignAwait
from .tasks import Task

get_loop: Callable[[], object] = _get_running_loop
set_loop = cast("Callable[[object], None]", _set_running_loop)

_TIMER = "use ctx.create_timer"
_IN_TIME = "use when_any with ctx.create_timer, or the `timeout` of ctx.wait_for_external_event"
_TOGETHER = "use when_all and when_any over ctx.call_activity and the like, or call a sub-orchestration for several steps side by side"
_THREAD = "call an activity: await ctx.call_activity(...)"
_OUTSIDE = "use ctx.wait_for_external_event, or call an activity"
# By the first part of the name of the asyncio function that was called.
_INSTEAD = {
    "sleep": _TIMER,
    "timeout": _IN_TIME,
    "timeout_at": _IN_TIME,
    "wait_for": _IN_TIME,
    "gather": _TOGETHER,
    "wait": _TOGETHER,
    "as_completed": _TOGETHER,
    "shield": _TOGETHER,
    "create_task": _TOGETHER,
    "ensure_future": _TOGETHER,
    "TaskGroup": _TOGETHER,
    "to_thread": _THREAD,
    "run_in_executor": _THREAD,
    "time": "use ctx.current_utc_datetime",
    "call_later": _TIMER,
    "call_at": _TIMER,
    "Future": _OUTSIDE,
    "create_future": _OUTSIDE,
    "Event": _OUTSIDE,
    "Condition": _OUTSIDE,
    "Queue": _OUTSIDE,
    "Barrier": _OUTSIDE,
    "wrap_future": _THREAD,
    "Lock": "an orchestration runs one step at a time and needs no lock",
    "Semaphore": "await fewer tasks at a time, or limit the activity",
    # What of anyio has another name.
    "create_task_group": _TOGETHER,
    "CancelScope": _IN_TIME,
    "move_on_after": _IN_TIME,
    "move_on_at": _IN_TIME,
    "fail_after": _IN_TIME,
    "fail_at": _IN_TIME,
    "run_sync": _THREAD,
    "current_time": "use ctx.current_utc_datetime",
    "run": "await the coroutine itself",
    "Runner": "await the coroutine itself",
    "BaseEventLoop": "await the coroutine itself",
}
# Libraries of a loop. Those beside asyncio do not ask the guard, but for the current task, and give up where there is none.
_LOOPS = frozenset({"asyncio", "anyio", "sniffio", "trio"})
_OTHERWISE = "sockets, pipes, processes and threads belong in an activity: await ctx.call_activity(...)"
NEVER_COMES = (
    "an orchestration awaits only what its ctx makes (ctx.call_activity, ctx.call_sub_orchestrator, ctx.create_timer, "
    "ctx.wait_for_external_event) and when_all and when_any of it"
)


class LoopGuard:
    """The running loop, as far as asyncio can tell. `caught` is what was asked of it first.

    It has no task: that is for everybody to know, since logging asks for it with every record from Python 3.12 on.
    """

    __slots__ = ("caught",)

    def __init__(self) -> None:
        self.caught: ForeignAwait | None = None

    def refuse(self, asked: str) -> NoReturn:
        # A bare Future is written in C and has no frame; `get_debug` is what it asks first.
        called = _called_of_asyncio() or ("Future" if asked == "get_debug" else asked)
        advice = _INSTEAD.get(called.partition(".")[0], _OTHERWISE)
        caught = ForeignAwait(f"the orchestration called asyncio's {called}: {advice}")
        if self.caught is None:
            self.caught = caught
        raise caught

    def __getattr__(self, name: str) -> NoReturn:
        self.refuse(name)

    def create_task(self, coroutine: Any, **_options: Any) -> NoReturn:
        if iscoroutine(coroutine):  # a task of ours is none
            coroutine.close()  # else Python warns that it was never awaited
        self.refuse("create_task")


def _called_of_asyncio() -> str:
    """The function of asyncio that the author's code called, which then asked the loop."""
    called = ""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (_is_asyncio(frame) or frame.f_globals.get("__name__") == __name__):
        if _is_asyncio(frame):
            called = frame.f_code.co_qualname
        frame = frame.f_back
    return called.removesuffix(".__aenter__").removesuffix(".__init__")


def _is_asyncio(frame: FrameType) -> bool:
    return _package(frame) == "asyncio"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def describe_foreign(awaited: object) -> str:
    """What was awaited that is not a task of this execution, and what to write instead."""
    if awaited is None:
        return f"the orchestration gave way with asyncio.sleep(0) or a bare yield, which nothing resumes; {NEVER_COMES}"
    if isinstance(awaited, Task):
        return f"the orchestration awaited {awaited!r:.120}, a task of another execution: {NEVER_COMES}"
    if isinstance(awaited, list | tuple):
        return f"the orchestration yielded a {type(awaited).__name__}: yield when_all([...]) or when_any([...])"
    return f"the orchestration awaited {awaited!r:.120}: {NEVER_COMES}"


def describe_raised(error: BaseException) -> str:
    """What a loop's library raised of itself, and what to write instead."""
    frames = error.__traceback__
    library = called = ""
    while frames is not None:
        package = _package(frames.tb_frame)
        if not called and package in _LOOPS:
            library, called = package, frames.tb_frame.f_code.co_qualname
        frames = frames.tb_next
    advice = _INSTEAD.get(called.partition(".")[0], NEVER_COMES if library == "asyncio" else _OTHERWISE)
    return f"the orchestration called {library}'s {called}, which raised {error!r}: {advice}"


def raised_by_loop(error: BaseException) -> bool:
    """True if an exception comes out of a loop's library itself, which no orchestration has a use for."""
    frames = error.__traceback__
    if frames is None:
        return False
    while frames.tb_next is not None:
        frames = frames.tb_next
    return _package(frames.tb_frame) in _LOOPS
