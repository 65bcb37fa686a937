"""A disk that takes its time: whatever a flush lasts, no epoch is lost over it, nothing runs twice, and all goes on (R4, R14)."""

import orjson
import pytest
from sortedcontainers import SortedDict

from perdure.partitions.memory import Fate, Faults, MemoryStores
from perdure.partitions.memory.store import MemoryStore
from perdure.partitions.owner import Phase
from perdure.schemas.messages import Start
from tests.partitions.cluster import Clock, Cluster

WAVES = 20


class SlowStores(MemoryStores):
    """Each flush lasts; nobody does anything else meanwhile."""

    def __init__(self, clock: Clock, flush_ms: int) -> None:
        super().__init__()
        self._clock = clock
        self._flush_ms = flush_ms
        self.flushes = 0

    def _make(self, partition: int, content: SortedDict) -> MemoryStore:
        return _SlowStore(partition, content, self)

    def flush(self) -> None:
        self.flushes += 1
        self._clock.now_ms += self._flush_ms


class _SlowStore(MemoryStore):
    def __init__(self, partition: int, content: SortedDict, stores: SlowStores) -> None:
        super().__init__(partition, content, stores._opened)
        self._stores = stores

    def flush(self) -> None:
        super().flush()
        self._stores.flush()


class _Slow(Faults):
    def take_fate(self, topic: str, partition: int) -> Fate:
        return Fate(delay=3)


@pytest.mark.parametrize("flush_ms", [900, 45_000])
def test_turns_go_on_over_slow_flushes_and_no_epoch_is_lost(flush_ms: int) -> None:
    """Also where one lasts for longer than an append may take: what was reported meanwhile is looked at first, in every partition."""
    cluster = Cluster(3, faults=_Slow())
    stores = SlowStores(cluster.clock, flush_ms)
    member = cluster.join(stores=stores, checkpoint_turns_max=5)
    cluster.until(lambda: all(map(member.owns, range(3))))
    for wave in range(WAVES):
        for number in range(6):
            cluster.send(f"order-{wave}-{number}", Start("order", orjson.dumps(number)))
        cluster.until(lambda wave=wave: len(cluster.ended()) == 6 * (wave + 1), milliseconds=10)

    assert stores.flushes > 10
    assert [0, 0, 0] == [member[partition].counts.epochs_lost for partition in range(3)]
    assert {1} == set(cluster.dispatches().values()) == set(cluster.ended().values())
    cluster.check()


def test_who_takes_over_waits_for_no_flush_of_the_one_before() -> None:
    """To close the store makes it durable all the same, after the others were told."""
    cluster = Cluster()
    stores = SlowStores(cluster.clock, 900)
    first = cluster.join(stores=stores)
    cluster.until(first.owns)
    cluster.send("order-1", Start("order", b"1"))
    cluster.until(cluster.ended)
    flushes = stores.flushes
    first.release()
    cluster.until(lambda: first[0].phase in (Phase.RELEASED, Phase.CLOSED))
    assert flushes == stores.flushes

    cluster.until(lambda: first[0].phase == Phase.CLOSED)
    again = cluster.join("worker-2", stores=stores)
    cluster.until(again.owns)
    assert again.counts.recovered_records <= 2, "the store did not keep what it had"
    cluster.check()
