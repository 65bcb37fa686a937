"""The guard that stands in for asyncio's loop while an orchestration's code runs: whatever asks the loop for something is told
what to write instead.

Rules of this file: the loop that was there before is always put back; what the guard caught is remembered, so that code which
swallows the exception is held all the same.
"""

# Only where asyncio keeps its running loop: nothing here runs one.
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable
from typing import Any, NoReturn, cast

from .errors import ForeignAwait

get_loop: Callable[[], object] = _get_running_loop
set_loop = cast("Callable[[object], None]", _set_running_loop)

_TASKS = "gather, create_task and TaskGroup run code that no history records: use when_all over ctx.call_activity, or call a sub-orchestration"
_INSTEAD = {
    "call_later": "instead of asyncio.sleep use ctx.create_timer",
    "call_at": "instead of asyncio.timeout use when_any with ctx.create_timer",
    "create_future": "instead of asyncio.sleep use ctx.create_timer; for a result from outside use an activity or ctx.wait_for_external_event",
    "time": "instead of the loop's time use ctx.current_utc_datetime",
    "create_task": _TASKS,
    "run_in_executor": "instead of to_thread and run_in_executor call an activity",
    "get_debug": "instead of an asyncio.Future use ctx.wait_for_external_event, or call an activity",
    "__hash__": "instead of asyncio.timeout and asyncio.wait_for use when_any with ctx.create_timer; instead of asyncio.current_task nothing is needed",
}
_OTHERWISE = "sockets, pipes, processes and threads belong in an activity: await ctx.call_activity(...)"
NEVER_COMES = (
    "an orchestration awaits only what its ctx makes (ctx.call_activity, ctx.call_sub_orchestrator, ctx.create_timer, "
    "ctx.wait_for_external_event) and when_all and when_any of it"
)


class LoopGuard:
    """The running loop, as far as asyncio can tell. `caught` is what was asked of it first."""

    __slots__ = ("caught",)

    def __init__(self) -> None:
        self.caught: ForeignAwait | None = None

    def refuse(self, asked: str) -> NoReturn:
        caught = ForeignAwait(
            f"the orchestration asked asyncio's loop for {asked!r}: {_INSTEAD.get(asked, _OTHERWISE)}"
        )
        if self.caught is None:
            self.caught = caught
        raise caught

    def __getattr__(self, name: str) -> NoReturn:
        self.refuse(name)

    def __hash__(self) -> int:
        return self.refuse("__hash__")

    def create_task(self, coroutine: Any, **_options: Any) -> NoReturn:
        coroutine.close()  # else Python warns that it was never awaited
        self.refuse("create_task")


def describe_foreign(awaited: object) -> str:
    """What was awaited that is not a task of this execution, and what to write instead."""
    if awaited is None:
        return f"the orchestration gave way with asyncio.sleep(0) or a bare yield, which nothing resumes; {NEVER_COMES}"
    if isinstance(awaited, list | tuple):
        return f"the orchestration yielded a {type(awaited).__name__}: yield when_all([...]) or when_any([...])"
    return f"the orchestration awaited {awaited!r:.120}: {NEVER_COMES}"


def raised_by_asyncio(error: BaseException) -> bool:
    """True if an exception comes out of asyncio itself, which no orchestration has a use for."""
    frames = error.__traceback__
    if frames is None:
        return False
    while frames.tb_next is not None:
        frames = frames.tb_next
    return str(frames.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == "asyncio"
