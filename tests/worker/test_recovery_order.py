"""Of several partitions that recover, the one with the least left goes first, so that most of them wait less and none waits longer."""

import shutil
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest

from perdure.partitions import recovery
from perdure.partitions.owner import PartitionOwner, Phase
from perdure.partitions.partitioner import partition_of
from tests.worker.engine import PARTITIONS, Engine, OneActivityApp

LONG, SHORT = 0, 1


async def echo(value: Any) -> Any:
    return value


def make_histories(directory: Path, app: OneActivityApp) -> None:
    """Many records on one partition, few on the other, and no store of either."""
    engine = Engine(directory, app).start()
    names = [f"order-{number}" for number in range(80)]
    longs = [name for name in names if partition_of(name, PARTITIONS) == LONG]
    shorts = [name for name in names if partition_of(name, PARTITIONS) == SHORT]
    for name in (*longs, *shorts[:5]):
        engine.begin(name, "echo")
    for name in (*longs, *shorts[:5]):
        engine.result(name)
    engine.close()
    shutil.rmtree(directory / "worker-0")


def test_the_shortest_recovery_ends_before_a_longer_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = OneActivityApp(echo=echo)
    make_histories(tmp_path, app)
    steps: list[int] = []
    step = PartitionOwner.step

    def noted(owner: PartitionOwner) -> bool:
        if owner.phase == Phase.RECOVERING:
            steps.append(owner.partition)
        return step(owner)

    monkeypatch.setattr(recovery, "BATCH_RECORDS", 2)
    monkeypatch.setattr(PartitionOwner, "step", noted)
    engine = Engine(tmp_path, app).start()
    try:
        engine.until(lambda: [owner.phase for owner in engine.worker.owners.copy().values()] == 2 * [Phase.OWNING])
    finally:
        engine.close()

    both = steps[steps.index(SHORT) :]
    assert min(both.count(LONG), both.count(SHORT)) > 5
    assert {LONG} == set(dropwhile(lambda partition: partition == SHORT, both))
