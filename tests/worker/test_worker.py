"""A worker follows its group, keeps one partition's fault from the others, and hands over in order."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.partitions.owner import Phase
from perdure.partitions.pool import LocalActivity
from perdure.partitions.ports import Assigned, LogUnavailable, Lost, Revoked, Store
from perdure.partitions.run import Run
from tests.worker.engine import PLENTY_SECONDS, Engine, OneActivityApp, ScriptedMembership

ON_0, ON_1 = "a", "b"


async def echo(run: Run) -> bytes:
    return run.task.input


class Gate:
    """An activity that waits to be let through."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.opened = threading.Event()
        self.calls = 0

    def __call__(self, run: Run) -> bytes:
        self.calls += 1
        self.began.set()
        assert self.opened.wait(PLENTY_SECONDS)
        return b'"through"'


Make = Callable[..., Engine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    engines: list[Engine] = []

    def make_engine(membership: ScriptedMembership | None = None, gate: Gate | None = None, **settings: object) -> Engine:
        app = OneActivityApp(
            echo=LocalActivity(is_async=True, invoke=echo), gate=LocalActivity(is_async=False, invoke=gate or Gate())
        )
        engine = Engine(tmp_path, app, membership, **settings)
        engines.append(engine)
        return engine.start()

    yield make_engine
    for engine in engines:
        engine.close()


def owned(engine: Engine) -> list[int]:
    return [number for number, owner in engine.worker.owners.copy().items() if owner.phase == Phase.OWNING]


def test_instances_of_all_partitions_run_to_their_end(make: Make) -> None:
    engine = make()
    for number in range(20):
        engine.begin(f"order-{number}", "echo")

    assert [("COMPLETED", "in")] * 20 == [
        (view["status"], view["result"]) for view in (engine.result(f"order-{number}") for number in range(20))
    ]
