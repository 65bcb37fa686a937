"""Activities of an app as the pool runs them: decoded input, encoded result, a context of the attempt."""

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.actors.activity import Activity, ActivityContext
from perdure.clock import SystemClock
from perdure.partitions.activities import ActivityTask
from perdure.partitions.local_activities import find_local
from perdure.partitions.pool import LocalPool, PoolSettings
from perdure.schemas.events import Failure


@dataclass
class Point:
    x: int
    y: int


class Registry:
    """Where activities are registered."""

    def __init__(self) -> None:
        self.activities: dict[str, Activity[Any, Any]] = {}

    def run(self, function: Any, data: bytes, **task: Any) -> tuple[bytes, Failure | None]:
        self.activities["it"] = Activity("it", function)
        pool = LocalPool(find_local(self, SystemClock()), SystemClock(), lambda: None, PoolSettings())
        pool.dispatch([ActivityTask(0, "order", "1-1", 4, 2, "it", data, **task)])
        until = time.monotonic() + 10
        while not (results := pool.take_results(0)):
            assert time.monotonic() < until
            pool.step()
        pool.close(1)
        return results[0].result, results[0].failure


def mirror(point: Point) -> Point:
    return Point(point.y, point.x)


async def mirror_async(point: Point) -> Point:
    return mirror(point)


@pytest.mark.parametrize("function", [mirror, mirror_async])
def test_input_and_result_are_typed(function: Any) -> None:
    assert (b'{"x":2,"y":1}', None) == Registry().run(function, b'{"x":1,"y":2}')


@pytest.mark.parametrize("function", [mirror, mirror_async])
def test_an_input_of_the_wrong_type_is_a_failure(function: Any) -> None:
    result, failure = Registry().run(function, b'"no point"')

    assert b"null" == result
    assert failure is not None
    assert "ValueRefused" in failure.type


def test_the_context_tells_of_the_attempt() -> None:
    seen: list[ActivityContext] = []

    async def look(ctx: ActivityContext) -> None:
        seen.append(ctx)

    Registry().run(look, b"null", start_to_close_ms=60_000, tags={"k": "v"})
    (context,) = seen

    assert ("order", "1-1", 4, 2, "it", {"k": "v"}, "order/1-1/4", False) == (
        context.instance_id, context.execution_id, context.task_id, context.attempt, context.name, context.tags,
        context.idempotency_key, context.cancelled,
    )  # fmt: skip
    assert context.deadline is not None
    assert timedelta(seconds=50) < context.deadline - datetime.now(UTC) <= timedelta(seconds=60)


def test_an_attempt_without_limits_has_no_deadline() -> None:
    seen: list[ActivityContext] = []

    def look(ctx: ActivityContext, value: int) -> int:
        seen.append(ctx)
        return value + 1

    assert (b"8", None) == Registry().run(look, b"7")
    assert seen[0].deadline is None


def test_an_activity_sees_that_nobody_waits_for_it_any_more() -> None:
    seen = threading.Event()

    def wait(ctx: ActivityContext) -> None:
        while not ctx.cancelled:
            time.sleep(0.001)
        seen.set()

    _, failure = Registry().run(wait, b"null", start_to_close_ms=20)

    assert failure is not None
    assert "ActivityTimedOut" == failure.type
    assert seen.wait(10)


def test_an_activity_that_is_registered_later_is_found() -> None:
    registry = Registry()
    find = find_local(registry, SystemClock())
    assert find("it") is None
    registry.activities["it"] = Activity("it", mirror)

    assert find("it") is find("it") is not None
