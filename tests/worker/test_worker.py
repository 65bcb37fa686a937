"""A worker follows its group, keeps one partition's fault from the others, and hands over in order."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from perdure.partitions.owner import PartitionOwner, Phase
from perdure.partitions.partitioner import partition_of
from perdure.partitions.ports import (
    Assigned,
    LogTruncated,
    LogUnavailable,
    Lost,
    Revoked,
    Store,
    StoreCorrupt,
    StoreUnavailable,
)
from perdure.partitions.rocksdb import RocksStore
from perdure.schemas.codec import decode_envelope, decode_turn
from perdure.schemas.messages import Start
from perdure.schemas.records import RecordKind
from tests.partitions.histories import claim_value
from tests.worker.engine import PARTITIONS, PLENTY_SECONDS, Engine, OneActivityApp, ScriptedMembership

BOTH = tuple(range(PARTITIONS))


def on(partition: int, number: int = 0) -> str:
    """An instance id of that partition."""
    ids = (f"order-{at}" for at in range(1_000))
    return [name for name in ids if partition_of(name, PARTITIONS) == partition][number]


async def echo(value: Any) -> Any:
    return value


class Gate:
    """An activity that waits to be let through."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.opened = threading.Event()
        self.calls = 0

    def __call__(self, value: Any) -> str:
        self.calls += 1
        self.began.set()
        assert self.opened.wait(PLENTY_SECONDS)
        return "through"


class Setup:
    """Engines over one directory, and what their app does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.gate = Gate()
        self.app = OneActivityApp(echo=echo, gate=self.gate.__call__)
        self.engines: list[Engine] = []

    def __call__(self, membership: ScriptedMembership | None = None, **settings: Any) -> Engine:
        self.engines.append(Engine(self.directory, self.app, membership, **settings))
        return self.engines[-1].start()

    def close(self) -> None:
        self.gate.opened.set()
        for engine in self.engines:
            engine.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Setup]:
    setup = Setup(tmp_path)
    yield setup
    setup.close()


def owned(engine: Engine) -> list[int]:
    return [number for number, owner in engine.worker.owners.copy().items() if owner.phase == Phase.OWNING]


def released(engine: Engine, partition: int) -> bool:
    """True if the partition's last record says that its owner stopped in order."""
    end = engine.log.span_history(partition).end
    (last,) = engine.log.read_history(partition, end - 1, end)
    envelope = decode_envelope(last.value or b"")
    return envelope.kind == RecordKind.PARTITION and decode_turn(envelope.body, envelope.format).released


def test_instances_of_all_partitions_run_to_their_end(make: Setup) -> None:
    engine = make()
    for number in range(20):
        engine.begin(f"order-{number}", "echo")
    views = [engine.result(f"order-{number}") for number in range(20)]

    assert [("COMPLETED", "in")] * 20 == [(view["status"], view["result"]) for view in views]
    assert {0, 1} == {view["partition"] for view in views}


def test_a_stop_lets_activities_end_and_hands_over_in_order(make: Setup) -> None:
    engine = make()
    engine.begin(on(0), "gate")
    assert make.gate.began.wait(PLENTY_SECONDS)
    engine.worker.stop()
    engine.until(lambda: list(engine.worker.owners) == [0])
    engine.ask(on(1), Start("echo", b'"late"'))
    make.gate.opened.set()
    engine.stop()

    assert [True, True] == [released(engine, partition) for partition in BOTH]
    engine.close()
    make.engines.clear()
    again = make()
    assert "through" == again.result(on(0))["result"]
    again.until(lambda: again.result(on(1)).get("result") == "late")
    assert 1 == make.gate.calls


def test_what_does_not_end_in_the_drain_time_runs_again_elsewhere(make: Setup) -> None:
    engine = make(drain_seconds=0.1)
    engine.begin(on(0), "gate")
    assert make.gate.began.wait(PLENTY_SECONDS)
    began = time.monotonic()
    engine.stop()

    assert time.monotonic() - began < 5
    assert released(engine, 0)
    engine.close()
    make.engines.clear()
    make.gate.opened.set()
    again = make()
    assert "through" == again.result(on(0))["result"]
    assert 2 == make.gate.calls


def test_a_revoked_partition_is_handed_over_before_it_is_acknowledged(make: Setup) -> None:
    group = ScriptedMembership(Assigned(BOTH))
    engine = make(group)
    engine.begin(on(0), "gate")
    engine.begin(on(1), "echo")
    assert make.gate.began.wait(PLENTY_SECONDS)
    group.changes.append(Revoked((0,)))
    engine.until(lambda: engine.worker._hand_overs)

    assert [] == group.acknowledged
    make.gate.opened.set()
    engine.until(lambda: group.acknowledged)
    assert ([0], [1], True) == (group.acknowledged, owned(engine), released(engine, 0))
    assert "COMPLETED" == engine.result(on(1))["status"]
    group.changes.append(Assigned((0,)))
    assert "through" == engine.result(on(0))["result"]
    assert 1 == make.gate.calls


def test_a_partition_that_comes_back_while_it_is_handed_over_is_owned_again(make: Setup) -> None:
    """In one breath: revoked, and assigned again before its activity has ended. It must not be lost between the two."""
    group = ScriptedMembership(Assigned(BOTH))
    engine = make(group)
    engine.begin(on(0), "gate")
    assert make.gate.began.wait(PLENTY_SECONDS)
    group.changes += [Revoked((0,)), Assigned((0,))]
    engine.until(lambda: engine.worker._hand_overs)
    make.gate.opened.set()

    assert "through" == engine.result(on(0))["result"]
    engine.until(lambda: set(owned(engine)) == {0, 1})
    assert [0] == group.acknowledged
    engine.begin(on(0, 1), "echo")
    assert "COMPLETED" == engine.result(on(0, 1))["status"]


def test_an_activity_of_a_partition_that_moves_away_is_told(make: Setup) -> None:
    group = ScriptedMembership(Assigned(BOTH))
    engine = make(group, revoke_seconds=0.05)
    engine.begin(on(0), "gate")
    assert make.gate.began.wait(PLENTY_SECONDS)
    group.changes.append(Revoked((0,)))
    engine.until(lambda: group.acknowledged)

    assert 0 == engine.worker.pool.running_count(0)
    assert 1 == engine.worker.pool.counts().abandoned


def test_an_inbox_that_cannot_be_read_on_stops_its_partition_and_no_other(make: Setup) -> None:
    engine = make()
    engine.until(lambda: set(owned(engine)) == {0, 1})
    faults = [(0, LogTruncated("inbox 0: offset 7 is beyond its end 3"))]
    engine.log.inbox.take_faults = lambda: [faults.pop()] if faults else []  # type: ignore[method-assign]
    engine.log.wake()
    engine.until(lambda: engine.worker.crashes[0].total == 1)

    for partition in BOTH:
        engine.begin(on(partition), "echo")
        assert "COMPLETED" == engine.result(on(partition))["status"]
    assert 0 == engine.worker.crashes[1].total


def test_a_crash_of_the_partition_costs_no_running_activity(make: Setup) -> None:
    engine = make(crash_pause_seconds_max=0.01)
    engine.begin(on(0), "gate")
    assert make.gate.began.wait(PLENTY_SECONDS)
    for crash in range(1, 5):
        owner = engine.worker.owners[0]
        assert owner.holdings is not None
        owner.holdings.store.close()
        engine.ask(on(0, crash), Start("echo", b'"in"'))
        engine.until(lambda owner=owner: engine.worker.owners.get(0) not in (None, owner) and 0 in owned(engine))
    assert 4 == engine.worker.crashes[0].total
    make.gate.opened.set()

    assert "through" == engine.result(on(0))["result"]
    assert 1 == make.gate.calls


def test_a_lost_partition_is_closed_at_once_and_nothing_more_is_written_to_it(make: Setup) -> None:
    group = ScriptedMembership(Assigned(BOTH))
    engine = make(group)
    engine.begin(on(0), "gate")
    assert make.gate.began.wait(PLENTY_SECONDS)
    end = engine.log.span_history(0).end
    group.changes.append(Lost((0,)))
    engine.until(lambda: owned(engine) == [1])
    make.gate.opened.set()
    engine.begin(on(1), "echo")
    engine.result(on(1))

    assert end == engine.log.span_history(0).end
    assert [] == group.acknowledged


def test_a_partition_that_is_lost_and_comes_back_costs_no_running_activity(make: Setup) -> None:
    """As when the brokers were away for longer than a session: nobody else can have had it."""
    group = ScriptedMembership(Assigned(BOTH))
    engine = make(group)
    engine.begin(on(0), "gate")
    engine.begin(on(1), "gate")
    engine.until(lambda: make.gate.calls == 2)
    group.changes.append(Lost(BOTH))
    engine.until(lambda: not engine.worker.owners)
    assert not engine.worker.joined  # so it is not ready, though it has recovered all of nothing
    assert 1 == engine.worker.pool.running_count(0) == engine.worker.pool.running_count(1)
    group.changes.append(Assigned((0,)))
    engine.until(lambda: owned(engine) == [0])
    # The group gave partition 1 to somebody else: what runs of it is told.
    assert (1, 0) == (engine.worker.pool.running_count(0), engine.worker.pool.running_count(1))
    make.gate.opened.set()

    assert "through" == engine.result(on(0))["result"]
    assert 2 == make.gate.calls


class FaultyStores:
    """Stores of which one partition's raises, as often as a test says."""

    def __init__(self, engine: Engine, faults: list[Exception]) -> None:
        self._real = engine.stores
        self._faults = faults
        self.discarded: list[int] = []

    def open(self, partition: int) -> Store:
        if partition == 0 and self._faults:
            raise self._faults.pop()
        return self._real.open(partition)

    def discard(self, partition: int) -> None:
        self.discarded.append(partition)
        self._real.discard(partition)

    def close(self) -> None:
        """The engine closes the real ones."""


def with_faults(make: Setup, *faults: Exception) -> tuple[Engine, FaultyStores]:
    engine = Engine(make.directory, make.app, None, crash_pause_seconds_max=0.01)
    stores = FaultyStores(engine, list(faults))
    engine.make_worker(stores)
    make.engines.append(engine)
    return engine, stores


def test_an_owner_with_nothing_to_do_sees_that_another_stands_in(make: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only the other one knows, its timers among it, was nobody's when it died."""
    monkeypatch.setattr("perdure.worker._LOOK_SECONDS", 0.05)
    engine = make()
    engine.until(lambda: [0, 1] == sorted(owned(engine)))
    deposed = engine.worker.owners[0]
    other = engine.log.share()
    writer = other.open_history(0)
    writer.append("another", claim_value("another", PARTITIONS))
    engine.until(lambda: deposed.phase == Phase.STANDBY)

    assert [1] == owned(engine)
    assert "claimed by another" in deposed.epoch_ended_by
    writer.close()
    other.close()


def test_a_bug_closes_its_partition_loudly_and_the_others_go_on(make: Setup) -> None:
    with structlog.testing.capture_logs() as logs:
        engine, _ = with_faults(make, ZeroDivisionError("a bug"), ZeroDivisionError("a bug"))
        engine.start()
        engine.begin(on(1), "echo")
        engine.result(on(1))
        engine.begin(on(0), "echo")
        view = engine.result(on(0))
    crashes = [(entry["partition"], str(entry["exc_info"])) for entry in logs if entry["event"] == "partition.crashed"]

    assert "COMPLETED" == view["status"]
    assert [(0, "a bug")] * 2 == crashes
    assert (2, 0) == (engine.worker.crashes[0].total, engine.worker.crashes[1].total)


def test_a_fault_that_says_what_to_do_is_one_line_without_a_stack(make: Setup) -> None:
    full = StoreUnavailable("the store at worker-0/partition-0 cannot be used: no space left on device")
    with structlog.testing.capture_logs() as logs:
        engine, _ = with_faults(make, full)
        engine.start()
        engine.begin(on(0), "echo")
        engine.result(on(0))
    (closed,) = [entry for entry in logs if entry["event"] == "partition.closed"]

    assert ("error", 0, str(full)) == (closed["log_level"], closed["partition"], closed["reason"])
    assert "exc_info" not in closed


def test_a_store_found_corrupt_in_the_middle_is_discarded_and_rebuilt(make: Setup) -> None:
    engine = make()
    engine.begin(on(0), "echo")
    engine.result(on(0))
    owner = engine.worker.owners[0]
    assert owner.holdings is not None
    corrupt = StoreCorrupt("a block")

    def raise_corrupt(key: bytes) -> bytes | None:
        raise corrupt

    owner.holdings.store.get = raise_corrupt  # type: ignore[method-assign]
    engine.begin(on(0, 1), "echo")

    assert "COMPLETED" == engine.result(on(0, 1))["status"]
    assert "in" == engine.result(on(0))["result"]
    assert 1 == engine.worker.crashes[0].total
    assert isinstance(engine.worker.owners[0], PartitionOwner)
    assert engine.worker.owners[0] is not owner


def test_a_group_that_is_gone_ends_the_worker(make: Setup) -> None:
    group = ScriptedMembership(Assigned(BOTH))
    engine = make(group)
    engine.until(lambda: owned(engine) == [0, 1])
    group.over = True
    engine.worker.log.wake()
    deadline = time.monotonic() + PLENTY_SECONDS
    while not engine.ended() and time.monotonic() < deadline:
        time.sleep(0.01)

    assert isinstance(engine.error, LogUnavailable)
    assert group.closed
    engine.error = None


def test_a_worker_that_stops_leaves_its_group_and_takes_no_more(make: Setup) -> None:
    group = ScriptedMembership(Assigned((0,)))
    engine = make(group)
    engine.until(lambda: owned(engine) == [0])
    engine.worker.stop()
    group.changes.append(Assigned((1,)))
    engine.stop()

    assert group.closed
    assert {} == engine.worker.owners


def test_a_worker_that_stops_tells_its_group_between_the_last_record_and_the_closing_of_its_stores(
    make: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, close = ScriptedMembership(Assigned(BOTH)), RocksStore.close
    told: list[bool] = []

    def note(store: RocksStore) -> None:
        told.append(group.left)
        close(store)

    engine = make(group)
    engine.until(lambda: set(owned(engine)) == {0, 1})
    monkeypatch.setattr(RocksStore, "close", note)
    monkeypatch.setattr(group, "leave", lambda: setattr(group, "left", all(released(engine, each) for each in BOTH)))
    engine.stop()

    assert [True, True] == told


def test_an_async_activity_that_waits_keeps_no_turn_waiting(make: Setup) -> None:
    gate = asyncio.Event()

    async def wait(value: Any) -> Any:
        await gate.wait()
        return value

    async def open_gate(value: Any) -> Any:
        gate.set()
        return value

    make.app = OneActivityApp(wait=wait, open=open_gate, echo=echo)
    engine = make()
    for number in range(10):
        engine.begin(on(0, number), "wait")
    engine.until(lambda: engine.worker.pool.counts().async_running == 10)
    engine.begin(on(0, 11), "echo")

    assert "COMPLETED" == engine.result(on(0, 11))["status"]
    assert 10 == engine.worker.pool.counts().async_running
    engine.begin(on(0, 12), "open")
    assert ["COMPLETED"] * 10 == [engine.result(on(0, number))["status"] for number in range(10)]
