"""InlinePool: activities of a test, run at once on the test's thread; faked ones may take virtual time."""

import asyncio
import heapq
import inspect
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

from perdure.actors.activity import ActivityContext
from perdure.actors.app import App
from perdure.actors.failures import failure_of
from perdure.partitions.activities import ActivityResult, ActivityTask, Attempt, PoolCounts
from perdure.partitions.loop_end import end_loop, is_collected
from perdure.schemas.events import NEVER, NULL, Failure

from .clock import VirtualClock
from .fakes import Fake

_CLOSE_SECONDS = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_End = tuple[bytes, Failure | None]
_Work = Coroutine[Any, Any, bytes]


@dataclass(eq=False, slots=True)
class _Running:
    """One attempt from dispatch to result. `done_ms` is when a faked one comes to its end, `limit_ms` when its time is over."""

    task: ActivityTask
    fake: Fake | None
    done_ms: int
    limit_ms: int
    wanted: bool = True


class InlinePool:
    """Activities of one environment (`partitions.activities.ActivityPool`), in the order in which they end."""

    saturated = False

    def __init__(self, app: App, clock: VirtualClock, fakes: dict[str, Fake]) -> None:
        self._app = app
        self._clock = clock
        self._fakes = fakes
        self._running: list[tuple[int, int, _Running]] = []
        self._order = count()
        self._results: dict[int, list[ActivityResult]] = {}
        self._runner: asyncio.Runner | None = None
        self._ended = [0, 0]

    def next_done_ms(self) -> int | None:
        """When the next faked activity ends."""
        return min((each.done_ms for each in self._wanted()), default=None)

    def _wanted(self) -> list[_Running]:
        return [running for _, _, running in self._running if running.wanted]

    def dispatch(self, tasks: Sequence[ActivityTask]) -> None:
        for task in tasks:
            fake = self._fakes.get(task.name)
            if fake is None and task.name not in self._app.activities:
                self._results.setdefault(task.partition, []).append(ActivityResult(task, unknown=True))
                continue
            now_ms = self._clock.wall_ms()
            limits = [now_ms + task.start_to_close_ms] if task.start_to_close_ms != NEVER else []
            limits += [task.deadline_ms] if task.deadline_ms != NEVER else []
            limit_ms = min(limits, default=NEVER)
            done_ms = now_ms + (fake.takes_ms if fake is not None else 0)
            # What takes longer than it may ends with its time.
            done_ms = done_ms if limit_ms == NEVER else min(done_ms, limit_ms)
            heapq.heappush(self._running, (done_ms, next(self._order), _Running(task, fake, done_ms, limit_ms)))

    def take_results(self, partition: int) -> Sequence[ActivityResult]:
        return self._results.pop(partition, ())

    def give_back(self, results: Sequence[ActivityResult]) -> None:
        for result in reversed(results):
            self._results.setdefault(result.task.partition, []).insert(0, result)

    def cancel(self, partition: int, instance_id: str, execution_id: str, task_id: int | None = None) -> None:
        for running in self._wanted():
            task = running.task
            ours = (task.partition, task.instance_id, task.execution_id) == (partition, instance_id, execution_id)
            running.wanted = not (ours and task_id in (None, task.task_id))

    def cancel_partition(self, partition: int) -> None:
        for running in self._wanted():
            running.wanted = running.task.partition != partition
        self._results.pop(partition, None)

    def running(self, partition: int) -> frozenset[Attempt]:
        tasks = [running.task for running in self._wanted()]
        tasks += [result.task for result in self._results.get(partition, ())]
        return frozenset(task.key for task in tasks if task.partition == partition)

    def running_count(self, partition: int) -> int:
        return len(self.running(partition))

    def step(self) -> bool:
        """Run all whose time has come; async ones side by side."""
        due: list[_Running] = []
        while self._running and self._running[0][0] <= self._clock.wall_ms():
            due.append(heapq.heappop(self._running)[2])
        due = [running for running in due if running.wanted]
        begun = [self._begin(running) for running in due]
        finished = iter(self._finish([one for one in begun if not isinstance(one, tuple)]))
        for running, end in zip(due, begun, strict=True):
            result, failure = end if isinstance(end, tuple) else next(finished)
            self._ended[failure is not None] += 1
            self._results.setdefault(running.task.partition, []).append(ActivityResult(running.task, result, failure))
        return bool(due)

    def _begin(self, running: _Running) -> _End | _Work:
        """Run a plain function to its end; hand an async one back."""
        task = running.task
        if running.fake is not None and running.fake.takes_ms and running.done_ms == running.limit_ms:
            running.fake.note(self._app.activities.get(task.name), task.input)
            return NULL, Failure("ActivityTimedOut", f"{task.name} was not done within its limit, in virtual time")
        try:
            prepared = self._prepare(running)
            return prepared if inspect.iscoroutine(prepared) else (prepared(), None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - an activity's SystemExit ends the activity, as on a worker
            return NULL, failure_of(error)

    def _prepare(self, running: _Running) -> Any:
        task, limit_ms = running.task, running.limit_ms
        deadline = None if limit_ms == NEVER else _EPOCH + timedelta(milliseconds=limit_ms)
        ids = (task.instance_id, task.execution_id, task.task_id, task.attempt, task.name)
        context = ActivityContext(*ids, deadline, task.tags, lambda: not running.wanted)
        real = self._app.activities.get(task.name)
        if running.fake is not None:
            return running.fake.prepare(real, context, task.input)
        assert real is not None
        return real.prepare(context, task.input)

    def _finish(self, work: Sequence[_Work]) -> list[_End]:
        """Run async functions to their end, together, and return how each ended."""

        async def all_of_them() -> list[_End]:
            return list(await asyncio.gather(*(_outcome(one) for one in work)))

        if not work:
            return []
        if _is_on_a_loop():
            # A test that runs on a loop itself waits for a thread.
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(asyncio.run, all_of_them()).result()
        self._runner = self._runner or asyncio.Runner()
        return self._runner.run(all_of_them())

    def linger(self) -> bool:
        return False  # time here does not pass by itself

    def wait_seconds(self, limit_seconds: float) -> float:
        return limit_seconds

    def drain(self) -> None:
        """What waits goes on: it takes no time of the test's."""

    def counts(self) -> PoolCounts:
        completed, failed = self._ended
        return PoolCounts(plain_running=len(self._wanted()), completed=completed, failed=failed)

    def close(self, timeout_seconds: float) -> None:
        self._running.clear()
        # Where something does not even end when it is cancelled the runner would wait for it.
        if self._runner is not None and end_loop(self._runner.get_loop(), _CLOSE_SECONDS):
            self._runner.close()


async def _outcome(work: _Work) -> _End:
    task = cast("asyncio.Task[_End]", asyncio.current_task())
    try:
        return await work, None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if is_collected(error, task):
            raise
        return NULL, failure_of(error)


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
