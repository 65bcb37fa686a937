"""Warm standbys: a store that follows another process's partition, and a take-over that reads only the tail."""

from collections import Counter

import pytest

from perdure.partitions.membership import rank_standbys
from perdure.partitions.memory import MemoryLog, MemoryStores
from perdure.partitions.ports import LogTruncated
from perdure.partitions.standby import Seen, Standby
from perdure.schemas import messages as ms
from tests.partitions.cluster import Cluster, Member
from tests.partitions.test_retention import (
    KEEPING,
    begin_everything,
    content,
    end_everything,
    fresh,
    pass_time,
    starts,
    trim,
)
from tests.partitions.test_snapshots import make_snapshots, work


class Follower:
    """A process that stands by for partition 0."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.log = MemoryLog(cluster.hub)
        self.stores = MemoryStores()
        self.standby = Standby(0, self.log, self.stores, 1_000_000)

    def follow(self) -> None:
        """Read all that is there."""
        quiet = 0
        while quiet < 5:
            self.log.wait(0)
            records = [record for _, record in self.log.tail.take(7)]
            self.standby.receive(records)
            quiet = 0 if self.standby.step() or records else quiet + 1

    def content(self) -> dict[bytes, bytes]:
        caught_up = self.standby._caught_up
        assert caught_up is not None
        found = dict(caught_up.store.scan(b"\0", b"\xff"))
        return {key: value for key, value in found.items() if not key.startswith((b"P", b"K"))}

    def take_over(self, name: str = "heir") -> Member:
        self.follow()
        self.standby.close()
        heir = self.cluster.join(name, stores=self.stores)
        self.cluster.until(heir.owns)
        return heir


def test_a_standbys_store_is_the_owners() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join()
    follower = Follower(cluster)
    begin_everything(cluster)
    for round_ in range(5):
        work(cluster, 10, f"work-{round_}")
        follower.follow()

        assert content(member) == follower.content()


def test_a_take_over_reads_only_the_tail() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join()
    follower = Follower(cluster)
    begin_everything(cluster)
    work(cluster, 50, "work")
    cluster.kill(member)
    heir = follower.take_over()

    assert heir.counts.recovered_records <= 2
    end_everything(cluster)
    cluster.check()


def test_a_standby_knows_the_owner_its_address_and_whether_it_stopped_in_order() -> None:
    cluster = Cluster()
    member = cluster.join("first", address="127.0.0.1:7")
    follower = Follower(cluster)
    assert follower.standby.owner is None
    work(cluster, 3, "work")
    follower.follow()

    seen = follower.standby.owner
    assert seen is not None
    assert ("first", "127.0.0.1:7") == (seen.owner, seen.address)
    assert not follower.standby.handed_over
    member.release()
    cluster.until(lambda: member[0].phase.name == "CLOSED")
    follower.follow()
    assert follower.standby.handed_over
    cluster.join("second")
    cluster.settle()
    follower.follow()
    assert not follower.standby.handed_over
    assert follower.standby.owner is not None
    assert "second" == follower.standby.owner.owner


def test_a_standby_that_begins_behind_the_claim_knows_the_owner_too() -> None:
    cluster = Cluster()
    cluster.join("first", address="127.0.0.1:7")
    work(cluster, 3, "work")
    follower = Follower(cluster)
    follower.follow()
    follower.standby.close()
    again = Standby(0, follower.log, follower.stores, 1_000_000)
    while again.step():
        pass

    assert Seen("first", "127.0.0.1:7") == again.owner
    again.close()


def test_a_standby_that_begins_after_its_owners_claim_was_trimmed_knows_the_owner_too() -> None:
    cluster = Cluster(automatic=False)
    cluster.join("first", address="127.0.0.1:7", **KEEPING)
    begin_everything(cluster)
    trim(cluster)
    assert starts(cluster)[0] > 0
    follower = Follower(cluster)
    follower.follow()

    assert Seen("first", "127.0.0.1:7") == follower.standby.owner


def test_a_standby_follows_a_log_that_is_trimmed() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(**KEEPING)
    follower = Follower(cluster)
    begin_everything(cluster)
    while starts(cluster)[0] < 30:
        pass_time(cluster, 10)
        follower.follow()
    assert content(member) == follower.content()
    late = Follower(cluster)
    late.follow()

    assert content(member) == late.content()
    member = fresh(cluster, member)
    follower.follow()
    assert content(member) == follower.content()


def test_a_standby_that_fell_behind_a_trim_says_so_and_begins_anew() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(**KEEPING)
    follower = Follower(cluster)
    follower.follow()
    begin_everything(cluster)
    trim(cluster, 3)
    with pytest.raises(LogTruncated, match="offset 0 was let go of before it was followed"):
        follower.follow()
    follower.standby.close()
    follower.standby = Standby(0, follower.log, follower.stores, 1_000_000)
    follower.follow()

    assert content(member) == follower.content()


def test_a_standby_may_begin_with_a_snapshot() -> None:
    cluster = Cluster()
    cluster.join(snapshot_records_min=40, checkpoint_turns_max=20)
    make_snapshots(cluster, 2)
    log = MemoryLog(cluster.hub)
    standby = Standby(0, log, MemoryStores(), 10)
    while standby.step():
        pass

    assert standby._caught_up is not None
    assert standby._caught_up.records_read < cluster.client.span_history(0).end - 40
    standby.close()


def test_what_a_zombie_writes_is_in_no_standbys_store() -> None:
    cluster = Cluster()
    zombie = cluster.join("zombie")
    follower = Follower(cluster)
    work(cluster, 5, "work")
    cluster.members.remove(zombie)
    second = cluster.join("second")
    cluster.until(second.owns)
    cluster.send("late", ms.Start("order", b"1"))
    for _ in range(10):
        zombie.step()
    cluster.until(lambda: "late" in cluster.ended(), milliseconds=50)
    cluster.settle()
    follower.follow()

    assert content(second) == follower.content()


@pytest.mark.parametrize("count", [1, 2])
def test_each_partition_has_its_standbys_beside_its_owner(count: int) -> None:
    members = {f"m{number}": tuple(range(number, 40, 5)) for number in range(5)}
    standing = {me: rank_standbys(members, me, count) for me in members}
    by_partition = Counter(partition for ranks in standing.values() for partition in ranks)

    assert dict.fromkeys(range(40), count) == by_partition
    for me, ranks in standing.items():
        assert not set(ranks) & set(members[me])
    assert Counter(rank for ranks in standing.values() for rank in ranks.values()) == dict.fromkeys(range(count), 40)


def test_a_member_that_comes_moves_few_standbys() -> None:
    before = {f"m{number}": tuple(range(number, 40, 5)) for number in range(5)}
    after = {**before, "m5": ()}
    moved = sum(
        rank_standbys(before, me, 1).keys() != rank_standbys(after, me, 1).keys()
        and len(rank_standbys(before, me, 1).keys() - rank_standbys(after, me, 1).keys())
        for me in before
    )

    assert 0 < moved < 20


def test_one_alone_stands_by_for_nobody() -> None:
    assert {} == rank_standbys({"m": (0, 1, 2)}, "m", 2)
    assert {} == rank_standbys({}, "m", 2)
