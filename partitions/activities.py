"""The activity port: what an owner asks of whoever runs its activities, and what comes back.

Rules of this file: everything is called on the engine's thread and never blocks unless it says so. An activity runs only after
its TaskScheduled is confirmed (R5); at-least-once is all that is promised beyond the border of the log, so each attempt carries
the same idempotency key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Protocol

from perdure.schemas.events import NEVER, NO_TAGS, NULL, Failure
from perdure.schemas.frozen import dataclass

Attempt = tuple[str, str, int, int]


@dataclass(frozen=True, slots=True)
class ActivityTask:
    """One attempt to be made. `deadline_ms` (schedule-to-close) is a wall-clock time; `start_to_close_ms` counts from when it
    begins to run; `turn` is the history offset of the turn that asked for it."""

    partition: int
    instance_id: str
    execution_id: str
    task_id: int
    attempt: int
    name: str
    input: bytes = NULL
    start_to_close_ms: int = NEVER
    deadline_ms: int = NEVER
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    turn: int = -1

    @property
    def key(self) -> Attempt:
        return (self.instance_id, self.execution_id, self.task_id, self.attempt)


@dataclass(frozen=True, slots=True)
class ActivityResult:
    """How one attempt ended. `unknown`: this worker has no activity of that name; nothing was run and nothing failed, so the
    task stays pending and its instance is held (R12)."""

    task: ActivityTask
    result: bytes = NULL
    failure: Failure | None = None
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """How many activities run and wait now, and how many have come to what since the start.

    `abandoned`: plain functions that go on after their time is over or nobody wants their result; each keeps its slot.
    """

    async_running: int = 0
    plain_running: int = 0
    queued: int = 0
    abandoned: int = 0
    completed: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0


class ActivityPool(Protocol):
    """Runs activities of all partitions of one process."""

    @property
    def saturated(self) -> bool:
        """True while so much is queued that no new work should be begun (R10)."""
        ...

    def dispatch(self, tasks: Sequence[ActivityTask]) -> None:
        """Run them as soon as the limits allow."""

    def take_results(self, partition: int) -> Sequence[ActivityResult]:
        """Results since the last call, in the order in which they came."""
        ...

    def give_back(self, results: Sequence[ActivityResult]) -> None:
        """These were taken, and their owner could not make them durable: they are to be taken again, before any newer one."""

    def cancel(self, partition: int, instance_id: str, execution_id: str, task_id: int | None = None) -> None:
        """Give up one task or all of an execution; no result of it comes any more, but for one that was there already."""

    def cancel_partition(self, partition: int) -> None:
        """Give up everything of `partition`, results not taken included: another process owns it now."""

    def running(self, partition: int) -> frozenset[Attempt]:
        """Attempts that were dispatched and whose result was not taken yet."""
        ...

    def running_count(self, partition: int) -> int:
        """How many they are. Any thread may ask."""
        ...

    def step(self) -> bool:
        """Start what may start, go on with what can go on; True if anything was done."""
        ...

    def linger(self) -> bool:
        """Wait for what has just begun, no longer than short functions last; True if there is something for `step`."""
        ...

    def wait_seconds(self, limit_seconds: float) -> float:
        """How long the engine may wait before it calls `step` again, at most `limit_seconds`."""
        ...

    def drain(self) -> None:
        """Start nothing that is queued any more, and forget it; what runs goes on."""

    def counts(self) -> PoolCounts: ...

    def close(self, timeout_seconds: float) -> None:
        """Block until all that runs has ended, at most `timeout_seconds`; then cancel it."""
