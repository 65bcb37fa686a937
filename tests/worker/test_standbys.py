"""Who stands by claims from an owner that is gone: also a partition whose owner is known later, and none of them twice (R4, R6)."""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import pytest

from perdure.partitions.memory import MemoryLog, MemoryStore, MemoryStores
from perdure.partitions.ports import Membership, StoreCorrupt, StoreUnavailable
from perdure.standbys import GONE_SECONDS, StandbyParts, Standbys
from tests.partitions.cluster import Cluster

PARTITIONS = 3


class Advice:
    """A group that has this process stand by for all partitions."""

    def standing_by(self) -> Mapping[int, int]:
        return dict.fromkeys(range(PARTITIONS), 0)


class Wires:
    """Connections that are cut by hand (`partitions.ports.Peers`)."""

    address = "here"

    def __init__(self) -> None:
        self.watched: Mapping[str, str] = {}
        self.gone: list[str] = []

    @property
    def reached(self) -> Collection[str]:
        return self.watched.keys()

    def watch(self, wanted: Mapping[str, str]) -> None:
        self.watched = wanted

    def take_gone(self) -> Sequence[str]:
        gone, self.gone = self.gone, []
        return gone

    def close(self) -> None: ...


class Heir:
    """A process that stands by for the partitions of `cluster`."""

    def __init__(self, cluster: Cluster, stores: MemoryStores | None = None) -> None:
        self.cluster = cluster
        self.wires = Wires()
        self.log = MemoryLog(cluster.hub)
        group = cast("Membership", Advice())
        parts = StandbyParts(self.log, stores or MemoryStores(), group, self.wires, cluster.clock, 1_000_000)
        self.standbys = Standbys(parts)

    def follow(self) -> None:
        for _ in range(20):
            self.log.wait(0)
            self.standbys.step(())


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(PARTITIONS)
    owner = cluster.join("owner", address="there")
    cluster.until(lambda: all(map(owner.owns, range(PARTITIONS))))
    return cluster


def test_it_is_warm_once_it_follows_and_has_a_connection(cluster: Cluster) -> None:
    heir = Heir(cluster)
    heir.standbys.step(())
    assert [] == list(heir.standbys.warm)
    heir.follow()

    assert {"owner": "there"} == heir.wires.watched
    assert [0, 1, 2] == sorted(heir.standbys.warm)
    heir.wires.watched = {}
    assert [] == list(heir.standbys.warm)


def test_a_partition_whose_owner_is_known_later_is_taken_over_as_well(cluster: Cluster) -> None:
    heir = Heir(cluster)
    heir.wires.gone = ["owner"]
    heir.standbys.step(())
    assert [] == heir.standbys.take_due()
    heir.follow()

    assert [0, 1, 2] == sorted(heir.standbys.take_due())


def test_from_one_owner_each_partition_is_taken_over_once(cluster: Cluster) -> None:
    heir = Heir(cluster)
    heir.follow()
    heir.wires.gone = ["owner"]
    heir.standbys.step(())
    assert [0, 1, 2] == sorted(heir.standbys.take_due())
    # It lives after all, and has claimed them again.
    cluster.clock.now_ms += 2_000
    heir.follow()

    assert [0, 1, 2] == sorted(heir.standbys.warm)
    assert [] == heir.standbys.take_due()


def test_who_was_gone_long_ago_is_not_held_against_what_comes_later(cluster: Cluster) -> None:
    heir = Heir(cluster)
    heir.wires.gone = ["owner"]
    heir.standbys.step(())
    cluster.clock.now_ms += int(GONE_SECONDS * 1000)
    heir.standbys.step(())
    heir.follow()

    assert [] == heir.standbys.take_due()


class Undeletable(MemoryStores):
    """The store of partition 0 is corrupt, and the disk lets nobody delete it."""

    def open(self, partition: int) -> MemoryStore:
        if partition == 0:
            raise StoreCorrupt("the store is damaged")
        return super().open(partition)

    def discard(self, partition: int) -> None:
        raise StoreUnavailable("read-only file system")


def test_a_store_that_cannot_be_deleted_costs_its_standby_and_no_other(cluster: Cluster) -> None:
    heir = Heir(cluster, Undeletable())
    heir.follow()

    assert [1, 2] == sorted(heir.standbys.warm)
