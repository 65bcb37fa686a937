"""The activities of one process in virtual time (`partitions.activities.ActivityPool`)."""

import heapq
from collections.abc import Callable, Sequence
from itertools import count

import orjson

from perdure.partitions.activities import ActivityResult, ActivityTask, Attempt, PoolCounts
from perdure.partitions.ports import Clock
from perdure.schemas.events import NEVER, NULL, Failure

from .lethal import LETHAL
from .outside import Outside


class _Run:
    """One attempt from its dispatch to its result."""

    __slots__ = ("result", "wanted")

    def __init__(self, result: ActivityResult) -> None:
        self.result = result
        self.wanted = True


class SimulatedPool:
    """Runs everything at once. `ended` is told of each result."""

    def __init__(self, outside: Outside, clock: Clock, process: str, ended: Callable[[ActivityResult], None]) -> None:
        self._outside = outside
        self._clock = clock
        self._process = process
        self._ended = ended
        self._heap: list[tuple[float, int, _Run]] = []
        self._order = count()
        self._runs: dict[tuple[int, str, str], dict[tuple[int, int], _Run]] = {}
        self._results: dict[int, list[ActivityResult]] = {}
        self._draining = False
        self.saturated = False
        self._completed = 0

    def dispatch(self, tasks: Sequence[ActivityTask]) -> None:
        if self._draining:
            return
        for task in tasks:
            takes_ms, result, failure = self._outside.begin(task, self._process)
            if task.name == "deadly":
                LETHAL.strike(f"{task.instance_id}/{task.task_id}", orjson.loads(task.input)[1])
            limits = [task.start_to_close_ms] if task.start_to_close_ms != NEVER else []
            if task.deadline_ms != NEVER:
                limits.append(max(0, task.deadline_ms - self._clock.wall_ms()))
            limit = min(limits, default=takes_ms)
            if takes_ms > limit:
                timed_out = task.start_to_close_ms == limit
                failure = Failure("ActivityTimedOut", f"{task.name} took too long", retriable=timed_out)
                takes_ms, result = limit, NULL
            run = _Run(ActivityResult(task, result, failure))
            key = (task.partition, task.instance_id, task.execution_id)
            self._runs.setdefault(key, {})[task.task_id, task.attempt] = run
            heapq.heappush(self._heap, (self._clock.monotonic() + takes_ms / 1000, next(self._order), run))

    def take_results(self, partition: int) -> Sequence[ActivityResult]:
        return self._results.pop(partition, ())

    def give_back(self, results: Sequence[ActivityResult]) -> None:
        for result in reversed(results):
            self._results.setdefault(result.task.partition, []).insert(0, result)

    def cancel(self, partition: int, instance_id: str, execution_id: str, task_id: int | None = None) -> None:
        key = (partition, instance_id, execution_id)
        runs = self._runs.get(key, {})
        for name in [name for name in runs if task_id in (None, name[0])]:
            runs.pop(name).wanted = False
        if not runs:
            self._runs.pop(key, None)

    def cancel_partition(self, partition: int) -> None:
        for key in [key for key in self._runs if key[0] == partition]:
            for run in self._runs.pop(key).values():
                run.wanted = False
        self._results.pop(partition, None)

    def running(self, partition: int) -> frozenset[Attempt]:
        runs = [run.result for key, runs in self._runs.items() if key[0] == partition for run in runs.values()]
        return frozenset(result.task.key for result in (*runs, *self._results.get(partition, ())))

    def running_count(self, partition: int) -> int:
        return len(self.running(partition))

    def step(self) -> bool:
        """End what is due."""
        now, ended = self._clock.monotonic(), False
        while self._heap and self._heap[0][0] <= now:
            _, _, run = heapq.heappop(self._heap)
            if run.wanted:
                ended = True
                self._end(run)
        return ended

    def _end(self, run: _Run) -> None:
        result = run.result
        task = result.task
        key = (task.partition, task.instance_id, task.execution_id)
        runs = self._runs.get(key, {})
        runs.pop((task.task_id, task.attempt), None)
        if not runs:
            self._runs.pop(key, None)
        self._completed += 1
        self._results.setdefault(task.partition, []).append(result)
        self._ended(result)

    def repeat(self, result: ActivityResult) -> None:
        """Give a result again."""
        self._results.setdefault(result.task.partition, []).append(result)

    def linger(self) -> bool:
        return False  # time here does not pass by itself

    def wait_seconds(self, limit_seconds: float) -> float:
        while self._heap and not self._heap[0][2].wanted:
            heapq.heappop(self._heap)
        return max(0.0, min(limit_seconds, self._heap[0][0] - self._clock.monotonic())) if self._heap else limit_seconds

    def drain(self) -> None:
        self._draining = True

    def counts(self) -> PoolCounts:
        return PoolCounts(plain_running=sum(map(len, self._runs.values())), completed=self._completed)

    def close(self, timeout_seconds: float) -> None:
        self._heap.clear()
        self._runs.clear()
