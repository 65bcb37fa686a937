"""Live code is kept while it is hot, within a bound; a cold instance is replayed from RocksDB and goes on where it was."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from perdure.actors.executor import ContinueAsNew, Decision, Executor, RecordedTurn
from perdure.partitions.keys import history_key
from perdure.partitions.ledger import decode_stored_turn
from perdure.partitions.rocksdb import RocksStores
from perdure.schemas.events import ExecutionStarted, HistoryEvent
from perdure.schemas.messages import RaiseEvent, Start
from tests.partitions.cluster import Cluster, Member, app

COUNT = 40
EVENTS = 6


class CountedExecutor:
    """An execution's code, seen from outside (`actors.executor.Executor`)."""

    def __init__(self, real: Executor, counts: "CountingCode") -> None:
        self._real = real
        self._counts = counts
        counts.begun += 1
        counts.live += 1
        counts.live_most = max(counts.live_most, counts.live)

    def decide(self, events: tuple[HistoryEvent, ...], now_ms: int) -> Decision:
        return self._real.decide(events, now_ms)

    def replay(self, turns: Iterable[RecordedTurn]) -> ContinueAsNew | None:
        return self._real.replay(turns)

    def close(self) -> None:
        self._counts.live -= 1
        self._real.close()


class CountingCode:
    """The app, and how often an execution's code was begun anew and let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.live = 0
        self.live_most = 0

    def executor(self, instance_id: str, started: ExecutionStarted) -> Executor:
        return CountedExecutor(app.executor(instance_id, started), self)


def run_listeners(directory: Path, **settings: Any) -> tuple[Cluster, Member, CountingCode]:
    """Instances that are each told something again and again, in turn, until they end."""
    cluster, code = Cluster(), CountingCode()
    member = cluster.join(stores=RocksStores(directory), **settings)
    member.parts = replace(member.parts, code=code)
    member.assign(0)
    cluster.until(member.owns)
    for number in range(COUNT):
        cluster.send(f"listener-{number}", Start("listen", b"%d" % EVENTS))
    cluster.settle(5)
    for event in range(EVENTS):
        for number in range(COUNT):
            cluster.send(f"listener-{number}", RaiseEvent("go", orjson.dumps([number, event])))
            cluster.step(3)
    cluster.until(lambda: len(cluster.ended()) == COUNT)
    return cluster, member, code


def close(member: Member) -> None:
    member[0].close()
    member.stores.close()


@pytest.mark.parametrize("slots", [3, 4 * COUNT], ids=["cold", "hot"])
def test_hot_or_cold_every_instance_comes_to_the_same_end(tmp_path: Path, slots: int) -> None:
    cluster, member, _ = run_listeners(tmp_path, slots_max=slots)
    results = {name: cluster.view(name)["result"] for name in cluster.ended()}
    close(member)

    assert {f"listener-{n}": [[n, event] for event in range(EVENTS)] for n in range(COUNT)} == results
    cluster.check()


def test_hot_code_is_kept_from_turn_to_turn(tmp_path: Path) -> None:
    _, member, code = run_listeners(tmp_path, slots_max=4 * COUNT)
    close(member)

    assert COUNT == code.begun
    assert 0 == code.live


def test_live_code_is_bounded_and_what_was_let_go_is_replayed(tmp_path: Path) -> None:
    _, member, code = run_listeners(tmp_path, slots_max=3, round_messages_max=2)
    close(member)

    # Every turn after the first finds its instance cold.
    assert code.begun >= COUNT * (EVENTS - 1)
    assert code.live_most <= 3 + 2 + 1
    assert 0 == code.live


def test_live_code_is_bounded_by_the_bytes_of_its_histories_too(tmp_path: Path) -> None:
    _, member, code = run_listeners(tmp_path, slots_bytes_max=1_000, round_messages_max=2)
    bytes_left = member.holdings().instances._bytes
    close(member)

    assert code.begun > COUNT
    assert code.live_most < COUNT / 2
    assert 0 <= bytes_left <= 2_000


def test_the_bytes_of_instances_in_memory_are_those_of_their_histories(tmp_path: Path) -> None:
    cluster = Cluster()
    member = cluster.join(stores=RocksStores(tmp_path), slots_max=10, round_messages_max=2)
    cluster.until(member.owns)
    for number in range(COUNT):
        cluster.send(f"listener-{number}", Start("listen", b"2"))
        cluster.send(f"listener-{number}", RaiseEvent("go", b"1"))
    instances, store = member.holdings().instances, member.holdings().store
    cluster.until(lambda: member.holdings().intake.mark == 2 * COUNT)
    cluster.until(lambda: not any(slot.unconfirmed for slot in instances._slots.values()))

    assert 10 <= len(instances._slots) < COUNT
    for name, slot in instances._slots.items():
        turns = store.scan(history_key(name, 1), history_key(name, 1 << 20))
        assert slot.bytes == sum(len(decode_stored_turn(value)[2]) for _, value in turns)
    assert instances._bytes == sum(slot.bytes for slot in instances._slots.values())
    close(member)


def test_cold_instances_go_on_after_their_process_was_killed(tmp_path: Path) -> None:
    """The store is lost but for what was flushed, and the log has the rest."""
    cluster = Cluster()
    first = cluster.join(stores=RocksStores(tmp_path / "first"), slots_max=3, checkpoint_turns_max=25)
    cluster.until(first.owns)
    for number in range(COUNT):
        cluster.send(f"listener-{number}", Start("listen", b"2"))
        cluster.send(f"listener-{number}", RaiseEvent("go", b"1"))
    cluster.settle()
    first.log.close()
    cluster.members.remove(first)
    first[0].holdings.store.close()  # type: ignore[union-attr]
    second = cluster.join("worker-2", stores=first.stores, slots_max=3)
    cluster.until(second.owns, milliseconds=50)
    for number in range(COUNT):
        cluster.send(f"listener-{number}", RaiseEvent("go", b"2"))
    cluster.until(lambda: len(cluster.ended()) == COUNT)
    close(second)

    cluster.check()


def test_a_turn_does_not_evict_the_instance_that_it_is_about(tmp_path: Path) -> None:
    cluster, member, _ = run_listeners(tmp_path, slots_max=1)
    close(member)

    assert {1} == set(cluster.ended().values())
    cluster.check()
