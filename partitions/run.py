"""One attempt of an activity while this process has it, and when attempts expire."""

import heapq
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Protocol

from perdure.schemas.events import NEVER, Failure

from .activities import ActivityTask
from .ports import Clock

FOREVER = float("inf")
_STALE_MIN = 1_000


class Invoke(Protocol):
    """Calls an activity with its decoded input: the result's JSON, or for an async one an awaitable of it."""

    def __call__(self, run: "Run", /) -> bytes | Awaitable[bytes]: ...


class Run:
    """One attempt. `wanted` is False once its result would be dropped; `abandoned` says that it ran on then. `started` is
    FOREVER until it runs. All times are monotonic seconds."""

    __slots__ = (
        "abandoned",
        "cancel_async",
        "deadline",
        "ended",
        "invoke",
        "limit_seconds",
        "started",
        "task",
        "timed",
        "wanted",
    )

    def __init__(self, task: ActivityTask, invoke: Invoke, clock: Clock) -> None:
        self.task = task
        self.invoke = invoke
        self.wanted = True
        self.abandoned = False
        self.ended = False
        self.started = FOREVER
        self.cancel_async: Callable[[], object] | None = None
        self.limit_seconds = FOREVER if task.start_to_close_ms == NEVER else task.start_to_close_ms / 1000
        self.deadline = FOREVER
        if task.deadline_ms != NEVER:
            self.deadline = clock.monotonic() + (task.deadline_ms - clock.wall_ms()) / 1000
        self.timed = self.limit_seconds != FOREVER or self.deadline != FOREVER

    def is_unwanted(self) -> bool:
        """What the function sees as `ctx.cancelled`."""
        return not self.wanted

    def expires(self, now: float) -> float:
        """When it is out of time; one that does not run yet has all of its start-to-close before it."""
        return min(self.deadline, min(self.started, now) + self.limit_seconds)

    def timed_out(self, now: float) -> Failure:
        """The failure of an attempt that is out of time."""
        task = self.task
        if now >= self.deadline:
            return Failure(
                "ActivityTimedOut", f"{task.name} was not done before its schedule-to-close deadline", retriable=False
            )
        return Failure(
            "ActivityTimedOut",
            f"{task.name} was not done within its start-to-close limit of {task.start_to_close_ms} ms",
        )


class Deadlines:
    """The runs that have a limit, soonest first. Ended ones are dropped when they come up, or when they are too many."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Run]] = []
        self._order = count()
        self._stale_at = _STALE_MIN

    def add(self, run: Run, now: float) -> None:
        heapq.heappush(self._heap, (run.expires(now), next(self._order), run))
        if len(self._heap) > self._stale_at:
            self._heap = [entry for entry in self._heap if not entry[2].ended]
            heapq.heapify(self._heap)
            self._stale_at = max(_STALE_MIN, 2 * len(self._heap))

    def next_expiry(self) -> float:
        return self._heap[0][0] if self._heap else FOREVER

    def take_expired(self, now: float) -> list[Run]:
        """Runs that are out of time."""
        out: list[Run] = []
        while self._heap and self._heap[0][0] <= now:
            _, _, run = heapq.heappop(self._heap)
            if run.ended or not run.wanted:
                continue
            if run.expires(now) > now:  # it began later than was known when it was added
                self.add(run, now)
            else:
                out.append(run)
        return out
