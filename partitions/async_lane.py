"""Async activities on an asyncio loop of the engine's thread, which iterates it between turns.

Rules of this file: an activity runs in one asyncio task from its first line to its last, so that everything that asks for the
current task works (timeouts, task groups, anyio). The task is a driver that goes on to the next activity: one that never
suspends costs no task, no callback and no turn of the loop.
"""

import asyncio
import selectors
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from time import monotonic
from typing import Any, cast

import structlog

from perdure.actors.failures import failure_of
from perdure.schemas.events import NULL, Failure

from .loop_end import end_loop, is_collected
from .loop_watch import LoopWatch
from .place import PLACE
from .ports import Clock
from .run import FOREVER, Run

_log = structlog.get_logger("perdure.activities")
Ended = Callable[[Run, bytes, Failure | None], None]
_POLL_SECONDS = 0.01
# Bounds how long the engine stays away from its partitions for activities that never suspend.
STARTS_PER_STEP_MAX = 500


class AsyncLane:
    """Runs at most `running_max` async activities at a time; `ended` is called for each, on the engine's thread, in `step`."""

    def __init__(self, ended: Ended, wake: Callable[[], None], clock: Clock, running_max: int) -> None:
        self._ended = ended
        self._clock = clock
        self._running_max = running_max
        self._starts_left = 0
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._watch = LoopWatch(self._selector, wake)
        self._ready: deque[Run] = deque()
        self._drivers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._broken: BaseException | None = None

    @property
    def queued(self) -> int:
        return len(self._ready)

    @property
    def running(self) -> int:
        """Activities that have begun and not ended."""
        return len(self._drivers) - len(self._idle)

    def add(self, run: Run) -> None:
        self._ready.append(run)

    def forget_queued(self) -> list[Run]:
        """Take back what has not begun."""
        queued = list(self._ready)
        self._ready.clear()
        return queued

    def step(self) -> bool:
        """Begin what may begin and go on with what can; True if any activity began."""
        if not self._ready and not self.running:
            return False
        self._starts_left = STARTS_PER_STEP_MAX
        drivers = 1
        while True:
            woken = self._wake_drivers(drivers)
            self._iterate()
            # A driver that comes back takes all there is; if some is left, those drivers wait, and more are needed.
            if not self._ready or not woken or self._starts_left <= 0:
                break
            drivers *= 2
        return self._starts_left < STARTS_PER_STEP_MAX

    def wait_seconds(self) -> float:
        """How long the engine may wait; it is woken if the loop has something before. Call it right before waiting."""
        if self._ready and self.running < self._running_max:
            return 0.0
        if not self.running:
            return FOREVER
        self._watch.arm()
        # The loop's own lists are private, but the same since Python 3.4; without them the loop is polled.
        if getattr(self._loop, "_ready", True):
            return 0.0 if hasattr(self._loop, "_ready") else _POLL_SECONDS
        timers = cast("list[asyncio.TimerHandle]", getattr(self._loop, "_scheduled", ()))
        return max(0.0, timers[0].when() - self._loop.time()) if timers else FOREVER

    def close(self, grace_seconds: float) -> None:
        """Cancel all that runs, give it `grace_seconds` to clean up and what it left open as much, and end the loop."""
        self._ready.clear()
        for driver in self._drivers:
            driver.cancel()
        until = monotonic() + grace_seconds
        while self._drivers and monotonic() < until:
            self._iterate()
        self._watch.close()
        if not end_loop(self._loop, grace_seconds):
            _log.warning("activities.left_behind", seconds_max=grace_seconds)
        self._loop.close()

    def _iterate(self) -> None:
        """One iteration of the loop, which waits for nothing."""
        self._loop.call_soon(self._loop.stop)
        PLACE.loop_since = monotonic()
        try:
            self._loop.run_forever()
        finally:
            PLACE.loop_since = 0.0
        if self._broken is not None:
            raise self._broken

    def _wake_drivers(self, number: int) -> bool:
        number = min(number, len(self._ready))
        woken = 0
        while woken < number and self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                woken += 1
        while woken < number and len(self._drivers) < self._running_max:
            driver = self._loop.create_task(self._drive())
            self._drivers.add(driver)
            driver.add_done_callback(self._retire)
            woken += 1
        return woken > 0

    def _retire(self, driver: "asyncio.Task[None]") -> None:
        self._drivers.discard(driver)
        if not driver.cancelled() and (error := driver.exception()) is not None:
            self._broken = error  # ours, not an activity's: the engine must not go on as if nothing had happened

    async def _drive(self) -> None:
        """Run one activity after the other, until one leaves traces in this task."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        clean = copy_context()
        while True:
            while self._ready and self._starts_left > 0:
                run = self._ready.popleft()
                if not run.wanted:
                    continue
                self._starts_left -= 1
                await self._run(run, task)
                # A cancelled task stays so; a context variable that was set would be seen by the next activity.
                if not run.wanted or task.cancelling() or not _same_context(clean, copy_context()):
                    return
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle

    async def _run(self, run: Run, task: "asyncio.Task[None]") -> None:
        run.started = self._clock.monotonic()
        run.cancel_async = task.cancel
        result, failure = NULL, None
        try:
            result = await cast("Awaitable[bytes]", run.invoke(run))
        except BaseException as error:
            if is_collected(error, task):
                raise
            failure = failure_of(error)
        run.cancel_async = None
        self._ended(run, result, failure)


def _same_context(clean: Any, now: Any) -> bool:
    """True if no context variable was set to something else."""
    try:
        return bool(clean == now)
    except Exception:  # noqa: BLE001 - values of the author's compare as they like
        return False
