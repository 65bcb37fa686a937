"""A worker that has done much holds no more than one that has done little (I11): what days of load would show, in small."""

import gc
from collections import Counter
from pathlib import Path

import pytest

from perdure.partitions.embedded import tail
from tests.worker.engine import Engine, OneActivityApp

ROUND = 300
ROUNDS = 4


def test_ended_instances_leave_no_object_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All objects of the process, after two rounds of instances and after four. What the newest records may take has a bound of its own."""
    monkeypatch.setattr(tail, "BYTES_MAX", 10_000)

    async def echo(value: object) -> object:
        return value

    small = {"slots_max": 20, "checkpoint_turns_max": 50}
    engine = Engine(tmp_path, OneActivityApp(echo=echo), owner=small).start()
    try:
        kinds = [run(engine, number) for number in range(ROUNDS)]
    finally:
        engine.close()

    more = kinds[-1] - kinds[1]
    assert more.total() < ROUND // 3, more.most_common(10)


def run(engine: Engine, number: int) -> Counter[str]:
    """A round of instances to their end; what is alive then."""
    names = [f"order-{number}-{each}" for each in range(ROUND)]
    for name in names:
        engine.begin(name, "echo")
    for name in names:
        assert engine.result(name)["status"] == "COMPLETED"
    engine._answers.clear()
    gc.collect()
    return Counter(str(type(each)) for each in gc.get_objects())
