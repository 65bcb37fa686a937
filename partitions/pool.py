"""LocalPool: the activities that this process runs itself, for all its partitions (`partitions.activities.ActivityPool`)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perdure.schemas.events import NULL, Failure

from .activities import ActivityResult, ActivityTask, Attempt, PoolCounts
from .async_lane import AsyncLane
from .notices import Notices
from .plain_lane import PlainLane
from .ports import Clock
from .run import FOREVER, Deadlines, Invoke, Run

_CLOSE_GRACE_SECONDS = 1.0


def _whole(failure: Failure) -> Failure:
    return failure


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Limits of one process. Beyond `async_max` and `plain_max` activities are queued; from `queued_max` on no new work should
    be begun (R10). `tell` is what may be kept of a failure, whose words are the activity's: they stand in the history for good."""

    async_max: int = 1_000
    plain_max: int = 64
    queued_max: int = 1_000
    tell: Callable[[Failure], Failure] = _whole


@dataclass(frozen=True, slots=True)
class LocalActivity:
    """An activity that this process has."""

    is_async: bool
    invoke: Invoke


FindActivity = Callable[[str], LocalActivity | None]
_Execution = tuple[str, str]


class LocalPool:
    """Async activities on the engine's thread, plain ones in threads. `wake` ends the engine's wait, from any thread."""

    def __init__(self, find: FindActivity, clock: Clock, wake: Callable[[], None], settings: PoolSettings) -> None:
        self._find = find
        self._clock = clock
        self._settings = settings
        self._async = AsyncLane(self._end, wake, clock, settings.async_max)
        self._plain = PlainLane(wake, clock, settings.plain_max)
        self._deadlines = Deadlines()
        self._notices = Notices(clock)
        self._runs: dict[int, dict[_Execution, dict[tuple[int, int], Run]]] = {}
        self._results: dict[int, list[ActivityResult]] = {}
        self._draining = False
        self._reported = 0
        self._abandoned = 0
        self._completed = 0
        self._failed = 0
        self._timed_out = 0
        self._cancelled = 0

    @property
    def saturated(self) -> bool:
        return self._async.queued + self._plain.queued >= self._settings.queued_max

    def dispatch(self, tasks: Sequence[ActivityTask]) -> None:
        """Queue them; `step` starts them. A draining pool takes none: they were never running."""
        if self._draining:
            return
        for task in tasks:
            activity = self._find(task.name)
            if activity is None:
                self._results.setdefault(task.partition, []).append(ActivityResult(task, unknown=True))
                continue
            run = Run(task, activity.invoke, self._clock)
            executions = self._runs.setdefault(task.partition, {})
            executions.setdefault((task.instance_id, task.execution_id), {})[task.task_id, task.attempt] = run
            if run.timed:
                self._deadlines.add(run, self._clock.monotonic())
            (self._async if activity.is_async else self._plain).add(run)

    def take_results(self, partition: int) -> Sequence[ActivityResult]:
        return self._results.pop(partition, ())

    def give_back(self, results: Sequence[ActivityResult]) -> None:
        for result in reversed(results):
            self._results.setdefault(result.task.partition, []).insert(0, result)

    def cancel(self, partition: int, instance_id: str, execution_id: str, task_id: int | None = None) -> None:
        runs = self._runs.get(partition, {}).get((instance_id, execution_id), {})
        for run in [run for run in runs.values() if task_id is None or run.task.task_id == task_id]:
            self._give_up(run)
            self._cancelled += 1

    def cancel_partition(self, partition: int) -> None:
        for instance_id, execution_id in list(self._runs.get(partition, ())):
            self.cancel(partition, instance_id, execution_id)
        self._results.pop(partition, None)

    def running(self, partition: int) -> frozenset[Attempt]:
        runs = (run.task.key for runs in self._runs.get(partition, {}).values() for run in runs.values())
        return frozenset((*runs, *(result.task.key for result in self._results.get(partition, ()))))

    def running_count(self, partition: int) -> int:
        """How many attempts `running` has; any thread may ask."""
        return sum(map(len, list(self._runs.get(partition, {}).values()))) + len(self._results.get(partition, ()))

    def step(self) -> bool:
        # 1. What threads have finished; 2. what is out of time; 3. what may start or go on.
        finished = self._plain.take_finished()
        for run, result, failure in finished:
            self._end(run, result, failure)
        now = self._clock.monotonic()
        expired = self._deadlines.take_expired(now) if self._deadlines.next_expiry() <= now else ()
        for run in expired:
            self._report(run, NULL, run.timed_out(now))
            self._give_up(run)
            self._timed_out += 1
        reported = self._reported
        self._plain.step()
        self._async.step()
        return bool(finished or expired) or self._reported > reported

    def linger(self) -> bool:
        """Wait for functions that have just begun, no longer than short ones last, and `step` if one has ended; True if so."""
        return self._plain.linger() and self.step()

    def wait_seconds(self, limit_seconds: float) -> float:
        """How long the engine may wait before the next `step`. Call it right before waiting: it arms the wake-up."""
        expiry = self._deadlines.next_expiry() - self._clock.monotonic()
        return max(0.0, min(limit_seconds, expiry, self._plain.wait_seconds(), self._async.wait_seconds()))

    def drain(self) -> None:
        self._draining = True
        for run in (*self._async.forget_queued(), *self._plain.forget_queued()):
            if run.wanted:
                self._give_up(run)

    def counts(self) -> PoolCounts:
        return PoolCounts(
            self._async.running,
            self._plain.running,
            self._async.queued + self._plain.queued,
            self._abandoned,
            self._completed,
            self._failed,
            self._timed_out,
            self._cancelled,
        )

    def close(self, timeout_seconds: float) -> None:
        self.drain()
        until = time.monotonic() + timeout_seconds
        while any(self._runs.values()) and time.monotonic() < until:
            if not self.step():
                time.sleep(min(0.005, self.wait_seconds(0.005)))
        for partition in list(self._runs):
            self.cancel_partition(partition)
        self._plain.close()
        self._async.close(_CLOSE_GRACE_SECONDS)

    def _end(self, run: Run, result: bytes, failure: Failure | None) -> None:
        """The activity's code has ended, whether anyone still wants to know or not."""
        run.ended = True
        if run.abandoned:
            self._abandoned -= 1
        if run.wanted:
            self._report(run, result, failure)
            if failure is None:
                self._completed += 1
            else:
                self._failed += 1

    def _report(self, run: Run, result: bytes, failure: Failure | None) -> None:
        self._forget(run.task)
        self._reported += 1
        if failure is not None:
            failure = self._settings.tell(failure)
            self._tell_failed(run.task, failure)
        self._results.setdefault(run.task.partition, []).append(ActivityResult(run.task, result, failure))

    def _tell_failed(self, task: ActivityTask, failure: Failure) -> None:
        self._notices.tell(
            "activity.failed",
            failure.stack,
            partition=task.partition,
            instance=task.instance_id,
            turn=task.turn,
            activity=task.name,
            task=task.task_id,
            attempt=task.attempt,
            type=failure.type,
            message=failure.message,
        )

    def _give_up(self, run: Run) -> None:
        """From here on nobody wants its result. An async activity is cancelled; a plain one learns of it by its context."""
        self._forget(run.task)
        run.wanted = False
        if run.started != FOREVER:
            run.abandoned = True
            self._abandoned += 1
            if run.cancel_async is not None:
                run.cancel_async()

    def _forget(self, task: ActivityTask) -> None:
        executions = self._runs.get(task.partition, {})
        execution = (task.instance_id, task.execution_id)
        runs = executions.get(execution)
        if runs is not None:
            runs.pop((task.task_id, task.attempt), None)
            if not runs:
                del executions[execution]
