"""The world outside the log: what activities do there, and how long it takes them.

Rules of this file: an attempt leaves its mark when it begins, as an HTTP call would; whether anybody hears of its end is another
matter.
"""

from collections import Counter, defaultdict
from random import Random

import orjson

from perdure.partitions.activities import ActivityTask
from perdure.schemas.events import NULL, Failure
from tests.checkers.evidence import Attempt

from .clock import WorldClock

Outcome = tuple[int, bytes, Failure | None]
"""Milliseconds that it takes, result, failure."""


class Outside:
    """Every attempt of an activity that was ever begun, by whichever process."""

    def __init__(self, dice: Random, clock: WorldClock) -> None:
        self._dice = dice
        self._clock = clock
        self._executions: defaultdict[str, list[str]] = defaultdict(list)
        self.attempts: list[Attempt] = []
        self.deaths: Counter[str] = Counter()
        self.slow_ms = 0

    def begin(self, task: ActivityTask, process: str) -> Outcome:
        """Do what the activity does."""
        takes, result, failure = self._act(task)
        key = f"{task.instance_id}/{task.execution_id}/{task.task_id}"
        returned = result if failure is None else None
        begun = self._clock.wall_ms()
        raised = failure.type if failure is not None else ""
        self.attempts.append(Attempt(begun, process, key, task.attempt, task.name, task.input, returned, raised))
        return takes, result, failure

    def _act(self, task: ActivityTask) -> Outcome:
        takes = self._dice.choice((1, 2, 5, 20, 80))
        if self.slow_ms and self._dice.random() < 0.3:
            takes = self._dice.randint(1, self.slow_ms)
        match task.name:
            case "flaky":
                token, fails = orjson.loads(task.input)
                return takes, *_flaky(token, failed=task.attempt <= fails)
            case "fatal":
                return takes, NULL, Failure("tests.Fatal", "it never works", retriable=False)
            case "deadly":
                token, _ = orjson.loads(task.input)
                return takes, b"%d" % token, None
            case "slow":
                token, takes = orjson.loads(task.input)
                return takes, b"%d" % token, None
            case "nth":
                name, fails = orjson.loads(task.input)
                return takes, *self._nth(name, task.execution_id, fails)
            case _:
                return takes, task.input, None

    def _nth(self, name: str, execution_id: str, fails: int) -> tuple[bytes, Failure | None]:
        """Fail in the first executions of an instance, each time that they ask."""
        seen = self._executions[name]
        if execution_id not in seen:
            seen.append(execution_id)
        return _flaky(0, failed=seen.index(execution_id) < fails)


def _flaky(token: int, *, failed: bool) -> tuple[bytes, Failure | None]:
    return (NULL, Failure("tests.Flaky", "not this time")) if failed else (b"%d" % token, None)
