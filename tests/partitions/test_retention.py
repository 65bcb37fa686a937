"""What a hub with a retention lets go of, and that nothing which is wanted goes with it (R15)."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from perdure.audit import audit_records, read_log
from perdure.partitions.bases import named_base
from perdure.partitions.keys import ANCHOR, BEGINNING, CHECKPOINT, end_of, parse_beginning_key
from perdure.partitions.ledger import begins_at
from perdure.partitions.memory import MemoryStores
from perdure.partitions.ports import LogTruncated
from perdure.schemas import messages as ms
from perdure.schemas.events import Status
from perdure.schemas.records import RecordKind
from tests.partitions.cluster import Cluster, Member

RETENTION = 60.0
KEEPING: dict[str, Any] = {"retention_seconds": RETENTION, "checkpoint_seconds_max": 5.0, "checkpoint_turns_max": 50}


def content(member: Member, partition: int = 0) -> dict[bytes, bytes]:
    """A partition's store, but for where it is and which checkpoints it has seen."""
    holdings = member[partition].holdings
    assert holdings is not None
    entries = holdings.store.scan(b"\0", b"\xff")
    return {key: value for key, value in entries if not key.startswith((ANCHOR, CHECKPOINT))}


def starts(cluster: Cluster) -> list[int]:
    return [cluster.client.span_history(partition).start for partition in range(cluster.partitions)]


def pass_time(cluster: Cluster, seconds: float, *, step_ms: int = 500) -> None:
    until = cluster.clock.now_ms + seconds * 1000
    cluster.until(lambda: cluster.clock.now_ms >= until, milliseconds=step_ms)


def trim(cluster: Cluster, times: int = 1) -> None:
    """Let time go by until every partition was trimmed (again)."""
    for _ in range(times):
        before = starts(cluster)
        cluster.until(
            lambda before=before: all(now > was for now, was in zip(starts(cluster), before, strict=True)),  # type: ignore[misc]
            milliseconds=500,
        )
        cluster.settle()


def fresh(cluster: Cluster, *others: Member) -> Member:
    """A machine with an empty disk takes over from those that are killed."""
    for member in others:
        cluster.kill(member)
    heir = cluster.join(f"heir-{len(cluster.members)}-{cluster.clock.now_ms}", stores=MemoryStores(), **KEEPING)
    cluster.until(lambda: all(map(heir.owns, range(cluster.partitions))), milliseconds=100)
    return heir


def check_audit(cluster: Cluster) -> None:
    """The audit finds nothing, and says where its evidence begins."""
    report = audit_records(read_log(cluster.client), cluster.app)
    assert () == report.findings
    trimmed = {partition: start for partition, start in enumerate(starts(cluster)) if start}
    assert trimmed.keys() == report.begins_at.keys()
    assert all(report.begins_at[partition] >= start for partition, start in trimmed.items())


def test_an_instance_leaves_when_its_time_after_its_end_is_over_and_not_before() -> None:
    cluster = Cluster()
    member = cluster.join(**KEEPING)
    cluster.send("brief", ms.Start("order", b"1"))
    cluster.send("long", ms.Start("sleep", b"90000"))
    cluster.until(lambda: "brief" in cluster.ended())
    pass_time(cluster, RETENTION - 2)

    assert "COMPLETED" == cluster.view("brief")["status"]
    pass_time(cluster, 10)
    assert {} == cluster.view("brief")
    assert "RUNNING" == cluster.view("long")["status"]
    cluster.until(lambda: "long" in cluster.ended(), milliseconds=500)
    assert "COMPLETED" == cluster.view("long")["status"]
    assert member.counts.expired >= 1


def test_without_a_retention_nothing_ever_leaves() -> None:
    cluster = Cluster()
    cluster.join(checkpoint_seconds_max=5.0)
    cluster.send("brief", ms.Start("order", b"1"))
    cluster.until(lambda: "brief" in cluster.ended())
    pass_time(cluster, 10 * RETENTION)

    assert [0] == starts(cluster)
    assert "COMPLETED" == cluster.view("brief")["status"]


def test_an_id_that_was_used_again_meanwhile_does_not_leave_with_its_former_bearer() -> None:
    cluster = Cluster()
    cluster.join(**KEEPING)
    cluster.send("again", ms.Start("order", b"1"))
    cluster.until(lambda: cluster.ended()["again"] == 1)
    pass_time(cluster, RETENTION - 10)
    cluster.send("again", ms.Start("order", b"2", reuse=ms.ReusePolicy.REPLACE))
    cluster.until(lambda: cluster.ended()["again"] == 2)
    pass_time(cluster, 20)

    assert 2 == cluster.view("again")["result"]
    pass_time(cluster, RETENTION)
    assert {} == cluster.view("again")


def begin_everything(cluster: Cluster) -> None:
    """Instances that wait for a timer, an event, an activity, a child; some of other partitions; and one that begins later."""
    cluster.send("sleeper", ms.Start("sleep", b"100000000"))
    cluster.send("listener", ms.Start("listen", b"3", events=(("go", b"1"),)))
    cluster.send("parent", ms.Start("family", b'["child-1","child-2","child-3"]'))
    cluster.send("later", ms.Start("order", b"1", start_at_ms=cluster.clock.now_ms + 100_000_000))
    cluster.send("suspended", ms.Start("listen", b"1"))
    cluster.send("suspended", ms.Suspend("lunch"))


def end_everything(cluster: Cluster) -> None:
    for member in cluster.members:
        member.pool.automatic = True
        member.pool.finish()
    cluster.send("listener", ms.RaiseEvent("go", b"2"))
    cluster.send("listener", ms.RaiseEvent("go", b"3"))
    cluster.send("suspended", ms.Resume())
    cluster.send("suspended", ms.RaiseEvent("go", b"0"))
    wanted = {"listener", "parent", "suspended"}
    cluster.until(lambda: cluster_status(cluster, wanted) == {Status.COMPLETED.name}, milliseconds=200)
    assert [1, 2, 3] == cluster.view("listener")["result"]
    assert ["child-1", "child-2", "child-3"] == cluster.view("parent")["result"]
    cluster.clock.now_ms += 100_000_000
    wanted = {"sleeper", "later"}
    cluster.until(lambda: cluster_status(cluster, wanted) == {Status.COMPLETED.name}, milliseconds=200)


def cluster_status(cluster: Cluster, names: set[str]) -> set[str]:
    return {cluster.view(name).get("status", "") for name in names}


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_is_wanted_is_carried_forward_and_a_machine_with_an_empty_disk_goes_on_with_it(partitions: int) -> None:
    cluster = Cluster(partitions, automatic=False)
    member = cluster.join(**KEEPING)
    begin_everything(cluster)
    for number in range(60):
        cluster.send(f"brief-{number}", ms.Start("idle", b"1"))
    trim(cluster)
    for number in range(60, 120):
        cluster.send(f"brief-{number}", ms.Start("idle", b"1"))
    trim(cluster, 2)
    fresh(cluster, member)

    assert sum(owner.counts.carried for owner in member.owners.values()) >= 5
    end_everything(cluster)
    check_audit(cluster)


def test_a_fresh_machines_store_is_that_of_the_owner_to_the_last_byte() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(**KEEPING)
    begin_everything(cluster)
    trim(cluster, 3)
    before = content(member)
    cluster.members.remove(member)  # it is paused: the heir reads the same log
    heir = cluster.join("heir", stores=MemoryStores(), **KEEPING)
    while not heir.owns():
        heir.step()

    assert before == content(heir)


def test_a_partition_that_does_nothing_carries_each_history_once_in_a_retention() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(**KEEPING)
    begin_everything(cluster)
    pass_time(cluster, 10 * RETENTION)
    histories = 8

    assert member.counts.bases <= 10
    assert member.counts.carried <= 10 * histories


def test_the_beginnings_in_the_store_are_those_of_the_instances() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(**KEEPING)
    begin_everything(cluster)
    trim(cluster, 2)
    holdings = member[0].holdings
    assert holdings is not None
    beginnings = [parse_beginning_key(key) for key, _ in holdings.store.scan(BEGINNING, end_of(BEGINNING))]
    states = {name: holdings.instances.get(name).state for _, name in beginnings}

    assert beginnings
    for offset, name in beginnings:
        state = states[name]
        assert state is not None
        assert begins_at(state) == offset >= starts(cluster)[0]


def test_a_log_start_that_moved_back_changes_nothing() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(**KEEPING)
    begin_everything(cluster)
    trim(cluster, 2)
    old = starts(cluster)[0]
    trim(cluster)
    cluster.hub.journal("history", 0).move_start_back(old - 3)
    heir = fresh(cluster, member)
    end_everything(cluster)
    check_audit(cluster)

    assert heir.counts.recovered_records < cluster.client.span_history(0).end - old + 3


def test_a_take_over_trims_again_what_a_broker_forgot() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(**KEEPING)
    begin_everything(cluster)
    trim(cluster, 2)
    base = starts(cluster)[0]
    cluster.hub.journal("history", 0).move_start_back(0)
    fresh(cluster, member)
    cluster.settle()

    assert starts(cluster)[0] >= base


def test_a_log_cut_in_front_by_hand_is_refused_and_says_why() -> None:
    cluster = Cluster(automatic=False)
    member = cluster.join(checkpoint_seconds_max=5.0)
    begin_everything(cluster)
    pass_time(cluster, 30)
    cluster.kill(member)
    cluster.hub.journal("history", 0).trim(4)
    heir = cluster.join("heir")

    with pytest.raises(LogTruncated, match="names no base"):
        cluster.until(heir.owns)


def test_a_base_waits_for_what_was_sent_before_it_and_not_acknowledged() -> None:
    cluster = Cluster(2, automatic=False)
    first = cluster.join("worker-1", **KEEPING)
    # Nobody owns partition 1, and its inbox cannot be written.
    del first.owners[1]
    parent = next(name for name in (f"parent-{n}" for n in range(100)) if cluster.home_of(name) == 0)
    child = next(name for name in (f"child-{n}" for n in range(100)) if cluster.home_of(name) == 1)
    cluster.hub.faults = Blocked(cluster.hub.faults)
    cluster.send(parent, ms.Start("family", b'["%s"]' % child.encode()))
    pass_time(cluster, 3 * RETENTION)
    blocked = starts(cluster)[0]
    assert first[0].tenure is not None
    acked = first[0].tenure._tip.acked
    acked[1] = 1_000  # stated by a record that is on its way for ever: whoever begins at the base would not hear of it
    pass_time(cluster, 3 * RETENTION)
    blocked_on_the_tip = starts(cluster)[0]
    del acked[1]
    cluster.hub.faults = cluster.hub.faults.inner  # type: ignore[attr-defined]
    first.assign(1)
    trim(cluster)

    assert (0, 0) == (blocked, blocked_on_the_tip)
    heir = fresh(cluster, first)
    heir.pool.automatic = True
    heir.pool.finish()
    cluster.until(lambda: cluster.view(parent).get("status") == "COMPLETED", milliseconds=200)


class Blocked:
    """Faults that keep sends from partition 1's inbox."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def take_fate(self, topic: str, partition: int) -> Any:
        fate = self.inner.take_fate(topic, partition)
        return replace(fate, copies=0) if (topic, partition) == ("inbox", 1) else fate


def named_bases(cluster: Cluster) -> Iterator[int]:
    journal = cluster.hub.journal("history", 0)
    yield from (named_base(record.value) for record in journal.read(0, journal.end))


def test_a_base_is_named_before_the_log_is_trimmed_to_it_and_is_a_checkpoint() -> None:
    cluster = Cluster(automatic=False)
    cluster.join(**KEEPING)
    begin_everything(cluster)
    cluster.until(lambda: cluster.histories[0].read() and starts(cluster)[0], milliseconds=500)
    start = starts(cluster)[0]

    assert start in set(named_bases(cluster))
    assert [RecordKind.CHECKPOINT] == [
        each.kind for each in cluster.histories[0].accepted() if each.first_offset == start
    ]


@pytest.mark.parametrize("seed", range(12))
def test_over_deaths_and_bad_networks_every_heir_has_what_is_wanted(seed: int) -> None:
    """Owners die at random, each heir has an empty disk, the log is trimmed all the while."""
    dice = Random(seed)
    cluster = Cluster(2)
    member = cluster.join(**KEEPING)
    waiting: set[str] = set()
    for round_ in range(12):
        for number in range(5):
            name, kind = f"order-{round_}-{number}", dice.choice(["order", "idle", "listen"])
            cluster.send(name, ms.Start(kind, b"1"))
            if kind == "listen":
                waiting.add(name)
        cluster.send("listener", ms.Start("listen", b"12", reuse=ms.ReusePolicy.RETURN))
        cluster.send("listener", ms.RaiseEvent("go", b"%d" % round_))
        pass_time(cluster, dice.uniform(1, RETENTION / 2), step_ms=250)
        member = fresh(cluster, member)

    assert list(range(12)) == cluster.view("listener")["result"]
    assert min(starts(cluster)) > 0
    check_audit(cluster)
    assert {"RUNNING"} == cluster_status(cluster, waiting)
