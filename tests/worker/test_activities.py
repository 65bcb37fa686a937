"""Activities of a whole worker: real functions in real threads and on the loop, under a flood, at a stop, and when their instance ends."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.actors.activity import ActivityContext
from perdure.partitions.holdings import OwnerSettings
from perdure.partitions.pool import PoolSettings
from perdure.schemas.messages import Start, Terminate
from perdure.worker import WorkerSettings
from tests.worker.engine import PLENTY_SECONDS, Engine, OneActivityApp

COUNT = 300


class Busy:
    """Functions that say how many of them run, and when they were cancelled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = 0
        self.most = 0
        self.cancelled: list[str] = []
        self.began = threading.Event()
        self.opened = threading.Event()

    def slow(self, value: Any) -> Any:
        assert self.opened.wait(PLENTY_SECONDS)
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.002)
        with self.lock:
            self.running -= 1
        return value

    def polling(self, ctx: ActivityContext, value: Any) -> Any:
        self.began.set()
        deadline = time.monotonic() + PLENTY_SECONDS
        while not ctx.cancelled and time.monotonic() < deadline:
            time.sleep(0.001)
        self.cancelled.append("plain")
        return value

    async def waiting(self, value: Any) -> Any:
        self.began.set()
        try:
            await asyncio.sleep(PLENTY_SECONDS)
        except asyncio.CancelledError:
            self.cancelled.append("async")
            raise
        return value


@pytest.fixture
def busy() -> Busy:
    return Busy()


@pytest.fixture
def engine(tmp_path: Path, busy: Busy) -> Iterator[Engine]:
    app = OneActivityApp(slow=busy.slow, polling=busy.polling, waiting=busy.waiting)
    engine = Engine(tmp_path, app, pool=PoolSettings(plain_max=4, queued_max=8))
    # Small bounds, so that a small flood goes beyond all of them.
    owner = OwnerSettings(
        "worker-0",
        slots_max=20,
        round_messages_max=10,
        inbox_depth_max=30,
        undispatched_max=10,
        appends_in_flight_max=40,
    )
    engine._settings = WorkerSettings(owner, engine._settings.pool, drain_seconds=0.1)
    engine.make_worker(engine.stores)
    yield engine.start()
    engine.close()


def test_a_flood_over_a_slow_pool_is_worked_off_within_its_bounds(engine: Engine, busy: Busy) -> None:
    queued: list[int] = []
    sizes: list[int] = []
    step = engine.worker.pool.step

    def watched() -> bool:
        queued.append(engine.worker.pool.counts().queued)
        sizes.extend(len(owner.holdings.instances) for owner in engine.worker.owners.values() if owner.holdings)
        return step()

    engine.worker.pool.step = watched  # type: ignore[method-assign]
    for number in range(COUNT):
        engine.ask(f"order-{number}", Start("slow", b"%d" % number))
    engine.until(lambda: max(queued, default=0) >= 8)
    busy.opened.set()
    results = [engine.result(f"order-{number}")["result"] for number in range(COUNT)]

    assert list(range(COUNT)) == results
    assert busy.most <= 4
    # At the limit no new instance begins; what was on its way to the pool, and what the rounds began that reached it, is beyond.
    assert max(queued) <= 8 + 2 * (10 + 10)
    # Beyond the hot ones only those whose turns are not confirmed yet.
    assert max(sizes) <= 20 + 40 + 2 * 10
    assert 0 == engine.worker.pool.counts().queued


@pytest.mark.parametrize(("name", "kind"), [("polling", "plain"), ("waiting", "async")])
def test_an_activity_is_told_when_its_instance_ends(engine: Engine, busy: Busy, name: str, kind: str) -> None:
    engine.begin("order", name)
    assert busy.began.wait(PLENTY_SECONDS)
    engine.answer(engine.ask("order", Terminate(b'"enough"')))
    engine.until(lambda: busy.cancelled)

    assert [kind] == busy.cancelled
    assert "TERMINATED" == engine.result("order")["status"]
    engine.until(lambda: engine.worker.pool.counts().abandoned == 0)


@pytest.mark.parametrize(("name", "kind"), [("polling", "plain"), ("waiting", "async")])
def test_an_activity_that_outlives_the_drain_time_is_told_and_given_up(
    engine: Engine, busy: Busy, name: str, kind: str
) -> None:
    engine.begin("order", name)
    assert busy.began.wait(PLENTY_SECONDS)
    engine.stop()
    engine.until(lambda: busy.cancelled)

    assert [kind] == busy.cancelled
