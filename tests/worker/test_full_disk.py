"""A disk that is full: the worker says so, does nothing by halves, and goes on by itself when there is room.

A limit on the size of files stands for it: a write fails half way, no mount is needed, and it can be lifted again.
"""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import orjson
import pytest
import structlog

from perdure.partitions.ports import StoreUnavailable
from perdure.partitions.rocksdb import RocksStores
from perdure.schemas.messages import Query, QueryKind, Start
from tests.partitions.cluster import Cluster, Member
from tests.worker.engine import Engine, OneActivityApp
from tests.worker.test_worker import Gate, on


@contextmanager
def full_disk(bytes_max: int) -> Iterator[Callable[[], None]]:
    """No file grows beyond `bytes_max`, until what is given here is called."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def make_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield make_room
    finally:
        make_room()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def test_an_embedded_log_on_a_full_disk_refuses_and_the_worker_goes_on_when_there_is_room(
    tmp_path: Path, gate: Gate
) -> None:
    async def echo(value: object) -> object:
        return value

    engine = Engine(tmp_path, OneActivityApp(echo=echo, gate=gate.__call__)).start()
    try:
        engine.begin(on(0), "gate")
        engine.until(gate.began.is_set)
        largest = max(path.stat().st_size for path in (tmp_path / "hub").rglob("*.segment"))
        names = [on(0, number) for number in range(1, 20)]
        with structlog.testing.capture_logs() as logs, full_disk(largest + 3_000) as make_room:
            for name in names:
                engine.ask(name, Start("echo", b'"%s"' % (b"x" * 400)))
            engine.until(lambda: any(entry["event"] == "append refused by the disk" for entry in logs))
            gate.opened.set()
            make_room()
            # Who has no answer asks again, as every client does; what was refused was not done.
            for name in names:
                engine.until(lambda name=name: done(engine, name))
        assert "through" == engine.result(on(0))["result"]
    finally:
        engine.close()

    assert 1 == gate.calls


def done(engine: Engine, name: str) -> bool:
    """Start it again, in case that it was not, and look whether it has ended."""
    engine.ask(name, Start("echo", b'"%s"' % (b"x" * 400)))
    reply = engine.answer(engine.ask(name, Query(QueryKind.GET)))
    return orjson.loads(reply.body).get("status") == "COMPLETED"


def test_a_store_on_a_full_disk_closes_its_partition_and_loses_nothing(tmp_path: Path) -> None:
    """The log has everything, and activities run on: however often it is tried, none is dispatched twice."""
    dice = Random(1)
    cluster = Cluster(automatic=False)
    member = cluster.join(stores=RocksStores(tmp_path), checkpoint_turns_max=10)
    cluster.until(member.owns)
    cluster.send("patient", Start("order", b"1"))
    cluster.until(lambda: member.pool.running_count(0) == 1)
    names = [f"order-{number}" for number in range(40)]
    faults: list[str] = []
    with full_disk(500_000) as make_room:
        for name in names:
            cluster.send(name, Start("idle", orjson.dumps(dice.randbytes(40_000).hex())))
        for _ in range(200):
            step(cluster, member, faults)
        assert faults
        assert f"the store at {tmp_path}/partition-0 cannot be used" in faults[0]
        make_room()
        while cluster.ended().keys() != set(names):
            step(cluster, member, faults)
    member.pool.finish()
    while "patient" not in cluster.ended():
        step(cluster, member, faults)

    assert {1} == set(cluster.ended().values())
    assert [("patient", 1)] == [(task.instance_id, task.attempt) for task, _ in member.pool.dispatched]
    cluster.check()
    member[0].close()
    member.stores.close()


def step(cluster: Cluster, member: Member, faults: list[str]) -> None:
    """One round; a fault closes the partition, and it is tried again, as a worker does."""
    try:
        cluster.step()
    except StoreUnavailable as error:
        faults.append(str(error))
        member[0].abandon()
        member.assign(0)
    cluster.clock.now_ms += 100
