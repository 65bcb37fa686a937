"""The end of an asyncio loop on which the author's code ran: asyncio's own way (`asyncio.Runner.close`) waits for it without a limit."""

import asyncio
from collections.abc import Collection
from typing import Any


def end_loop(loop: asyncio.AbstractEventLoop, seconds_max: float) -> bool:
    """Cancel what is left on a loop that stands still, then close generators that were not run to their end. False if some did not
    come to an end. The loop stays open."""
    until = loop.time() + seconds_max
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    _wait(loop, left, until)
    closing = loop.create_task(loop.shutdown_asyncgens())
    _wait(loop, [closing], until)
    in_time = all(task.done() for task in (*left, closing))
    closing.cancel()  # what waits for what never comes ends so
    _wait(loop, [closing], loop.time())
    return in_time


def _wait(loop: asyncio.AbstractEventLoop, tasks: "Collection[asyncio.Task[Any]]", until: float) -> None:
    if tasks:
        # Not `wait_for`, which waits for what it cancels.
        loop.run_until_complete(asyncio.wait(tasks, timeout=max(until - loop.time(), 0.05)))


def is_collected(error: BaseException, task: "asyncio.Task[Any]") -> bool:
    """True if `error`, which `task` met, says that Python closes the task's coroutine, and not that something in it raised that."""
    return isinstance(error, GeneratorExit) and asyncio.current_task(task.get_loop()) is not task
