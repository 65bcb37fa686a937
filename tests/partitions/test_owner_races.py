"""Who owns the partition when claims, stale records, late reports and dead owners meet (R2 to R6)."""

from collections.abc import Iterable, Iterator
from random import Random

import orjson
import pytest

from perdure.partitions.memory import Fate, FaultScript, RandomFaults, Reporting
from perdure.partitions.owner import Phase
from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import Void
from perdure.schemas.events import ExecutionStarted
from perdure.schemas.messages import ReplyCode, ReusePolicy, Start
from tests.partitions.cluster import Cluster, Member

SLOW = Fate(delay=60)


def scripted(*fates: Fate, late_landing: int | None = None) -> Cluster:
    """A hub whose appends to the history have these fates, one after the other."""
    return Cluster(faults=FaultScript({"history": fates}, late_landing=late_landing))


def begin(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.send(name, Start("order", b'"%s"' % name.encode()))


def completed(cluster: Cluster, *names: str) -> bool:
    return cluster.ended().keys() >= set(names)


def finish(cluster: Cluster, *names: str) -> None:
    """Go on until these instances have ended, and see that each ended once and that the log is whole."""
    cluster.until(lambda: completed(cluster, *names), milliseconds=200)
    assert {1} == set(cluster.ended().values())
    cluster.check()


def void_offsets(cluster: Cluster) -> list[int]:
    return [offset for offset, verdict in cluster.histories[0].read() if isinstance(verdict, Void)]


def test_a_claim_that_lands_late_ends_the_epoch_of_the_one_after_it() -> None:
    cluster = Cluster(faults=FaultScript({}, late_landing=3))
    member = cluster.join(append_seconds_max=1.0)
    member.log.stalled = True
    cluster.step()
    cluster.clock.now_ms += 2_000
    cluster.until(lambda: len(cluster.hub.journal("history", 0).read(0, 9)) == 0 and member[0].phase == Phase.WAITING)
    cluster.until(lambda: member[0].phase == Phase.CLAIMING, milliseconds=100)
    member.log.stalled = False
    cluster.until(member.owns)
    begin(cluster, "a")
    cluster.until(lambda: member.counts.epochs_lost, milliseconds=10)
    finish(cluster, "a")

    # The one in use, the late one right behind it, and the one after that.
    assert [0, 1] == cluster.claims()[:2]
    assert 3 == len(cluster.claims())


def test_two_claims_in_flight_leave_one_owner_and_the_other_stands_by() -> None:
    cluster = Cluster()
    members = [cluster.join("worker-1"), cluster.join("worker-2")]
    for member in members:
        member.log.stalled = True
        member.step()
    for member in members:
        member.log.stalled = False
    begin(cluster, "a", "b")
    cluster.until(lambda: {member[0].phase for member in members} == {Phase.OWNING, Phase.STANDBY}, milliseconds=50)

    assert [0, 1] == cluster.claims()[:2]
    assert members[1].owns()
    assert "claimed by worker-2" in members[0][0].epoch_ended_by
    finish(cluster, "a", "b")


def test_a_claim_that_lands_while_a_batch_is_in_flight_voids_what_lands_behind_it() -> None:
    """The owner's turns are on their way when another claims: what landed before counts, what lands behind does not."""
    names = [f"order-{number}" for number in range(6)]
    cluster = Cluster()
    owner = cluster.join("worker-1")
    cluster.until(owner.owns)
    begin(cluster, *names[:3])
    for _ in range(2):
        owner.step()
    owner.log.stalled = True
    begin(cluster, *names[3:])
    cluster.step(3)
    end = cluster.hub.journal("history", 0).end
    other = cluster.join("worker-2")
    other.step()
    other.step()
    owner.log.stalled = False
    cluster.until(lambda: owner[0].phase == Phase.STANDBY)

    assert end == cluster.claims()[1]
    assert len(void_offsets(cluster)) >= 3
    assert void_offsets(cluster)[0] == end + 1
    assert set(names[3:]).isdisjoint(task.instance_id for task, _ in owner.pool.dispatched)
    finish(cluster, *names)


def crowd(cluster: Cluster) -> tuple[Member, Member]:
    """An owner that does not know yet that another one claimed."""
    stale = cluster.join("worker-1")
    cluster.until(stale.owns)
    begin(cluster, "before")
    finish(cluster, "before")
    return stale, cluster.join("worker-2")


def test_a_stale_owners_turn_before_the_claim_counts() -> None:
    cluster = Cluster()
    stale, fresh = crowd(cluster)
    begin(cluster, "a")
    stale.step()
    stale.step()
    fresh.step()
    cluster.until(fresh.owns)

    assert [] == void_offsets(cluster)
    finish(cluster, "a")


def test_a_stale_owners_turn_between_claim_and_first_turn_ends_the_new_epoch_and_is_void() -> None:
    cluster = Cluster()
    stale, fresh = crowd(cluster)
    fresh.step()
    fresh.step()
    claim = cluster.claims()[-1]
    begin(cluster, "a")
    while not void_offsets(cluster):
        stale.step()
    assert claim + 1 == void_offsets(cluster)[0]
    cluster.until(lambda: stale[0].phase == Phase.STANDBY)
    finish(cluster, "a")

    # Nothing was ever accepted under the second claim: its owner noticed and claimed again.
    assert 1 == fresh.counts.epochs_lost
    assert 3 == len(cluster.claims())


def test_a_stale_owners_turn_after_the_first_turn_ends_the_epoch_and_nothing_that_counted_is_lost() -> None:
    cluster = Cluster()
    stale, fresh = crowd(cluster)
    cluster.members.remove(stale)
    cluster.until(fresh.owns)
    begin(cluster, "a")
    finish(cluster, "a")
    # The zombie wakes up: it has read the start of "a" as well, and writes its turn.
    cluster.members.append(stale)
    stale.step()
    stale.step()
    begin(cluster, "b")
    cluster.until(lambda: stale[0].phase == Phase.STANDBY)
    cluster.until(lambda: len(cluster.claims()) == 3, milliseconds=100)

    assert len(void_offsets(cluster)) >= 1
    finish(cluster, "a", "b")


@pytest.mark.parametrize("landed", [True, False], ids=["the record is there", "the record is lost"])
def test_an_append_that_is_never_reported_ends_the_epoch_and_what_landed_counts(landed: bool) -> None:
    silent = Fate(copies=1 if landed else 0, report=Reporting.NONE)
    cluster = scripted(Fate(), silent)
    member = cluster.join(append_seconds_max=1.0)
    cluster.until(member.owns)
    begin(cluster, "a")
    cluster.step(5)
    assert member.counts.confirmed == 0
    assert [] == member.pool.dispatched
    cluster.until(lambda: member[0].phase != Phase.OWNING, milliseconds=200)

    assert "not reported within 1.0 s" in member[0].epoch_ended_by
    cluster.until(member.owns, milliseconds=100)
    finish(cluster, "a")
    # Whether it counts is for the log to say, and recovery found it.
    assert (cluster.dispatches()[("a", cluster.view("a")["execution_id"], 1, 2)] == 1) == landed


def test_an_error_that_is_reported_of_a_record_that_landed_ends_the_epoch_and_the_record_counts() -> None:
    cluster = scripted(Fate(), Fate(report=Reporting.ERROR))
    member = cluster.join()
    cluster.until(member.owns)
    begin(cluster, "a")
    cluster.until(lambda: member.counts.epochs_lost, milliseconds=10)

    assert "unknown" in member[0].epoch_ended_by
    cluster.until(member.owns, milliseconds=100)
    assert cluster.events("a")
    finish(cluster, "a")


def test_a_record_that_lands_late_from_a_dead_writer_of_ours_ends_no_later_epoch_unseen() -> None:
    """After a time-out a later record does land. Its writer is gone; the next epoch meets it, and claims again."""
    cluster = Cluster(faults=FaultScript({"history": [Fate(), SLOW]}, late_landing=30))
    member = cluster.join(append_seconds_max=1.0)
    cluster.until(member.owns)
    begin(cluster, "a")
    cluster.step(3)
    cluster.clock.now_ms += 2_000
    cluster.step(2)
    assert member[0].phase == Phase.WAITING
    cluster.until(member.owns, milliseconds=100)
    begin(cluster, "b")

    cluster.until(lambda: completed(cluster, "a", "b"), milliseconds=100)
    cluster.step(50)
    begin(cluster, "c")
    finish(cluster, "a", "b", "c")
    assert len(void_offsets(cluster)) >= 1


def test_an_owner_that_loses_its_epoch_keeps_its_activities_and_counts_their_results() -> None:
    cluster = Cluster(automatic=False, faults=FaultScript({"history": [Fate(), Fate(), Fate(report=Reporting.ERROR)]}))
    member = cluster.join()
    cluster.until(member.owns)
    begin(cluster, "a")
    cluster.until(lambda: member.pool.running_count(0) == 1)
    begin(cluster, "b")
    cluster.until(lambda: member.counts.epochs_lost == 1)
    assert member.pool.finish("a") == 1
    cluster.until(member.owns, milliseconds=100)
    cluster.until(lambda: member.pool.finish("b"), milliseconds=100)

    finish(cluster, "a", "b")
    assert [("a", 1), ("b", 2)] == sorted((task.instance_id, task.attempt) for task, _ in member.pool.dispatched)


def test_a_standby_claims_again_only_after_a_silent_session() -> None:
    cluster = Cluster()
    stale, fresh = crowd(cluster)
    cluster.until(fresh.owns)
    begin(cluster, "a")
    cluster.until(lambda: stale[0].phase == Phase.STANDBY)
    finish(cluster, "a")
    claims = len(cluster.claims())
    for number in range(40):
        # The other owner writes at least once a second: for as long as it does, nobody claims.
        begin(cluster, f"busy-{number}")
        for _ in range(10):
            cluster.step()
            cluster.clock.now_ms += 100
    assert claims == len(cluster.claims())

    cluster.members.remove(fresh)
    silent_since = cluster.clock.now_ms
    cluster.until(stale.owns, milliseconds=100)
    assert cluster.clock.now_ms - silent_since >= 6_000
    finish(cluster, "a", "busy-39")


def test_a_standby_that_is_assigned_again_claims_at_once() -> None:
    cluster = Cluster()
    stale, fresh = crowd(cluster)
    cluster.until(fresh.owns)
    begin(cluster, "a")
    cluster.until(lambda: stale[0].phase == Phase.STANDBY)
    stale[0].close()
    stale.assign(0)
    cluster.until(stale.owns)

    finish(cluster, "a")


@pytest.mark.parametrize("seed", range(5))
def test_two_contenders_that_both_think_that_they_are_assigned_do_not_fence_each_other_for_ever(seed: int) -> None:
    """Both are told to own it, on a log that delays and misreports: work goes on, and claims are few."""
    faults = RandomFaults(Random(seed))
    cluster = Cluster(faults=faults)
    cluster.join("worker-1", append_seconds_max=2.0)
    cluster.join("worker-2", append_seconds_max=2.0)
    names = [f"order-{number}" for number in range(40)]
    for name in names:
        begin(cluster, name)
        cluster.step(3)
        cluster.clock.now_ms += 500
    faults.calm = True
    for name in names:
        begin(cluster, name)  # those that were lost on their way
    cluster.until(lambda: completed(cluster, *names), milliseconds=100)
    claims, began_ms = len(cluster.claims()), cluster.clock.now_ms
    # From here on one owns it and the other stands by, for as long as there is work.
    cluster.until(lambda: _one_owner(cluster), milliseconds=100)
    for number in range(100):
        begin(cluster, f"later-{number}")
        cluster.step(3)
        cluster.clock.now_ms += 500
    later = [f"later-{number}" for number in range(100)]
    finish(cluster, *names, *later)

    minutes = (cluster.clock.now_ms - began_ms) / 60_000
    assert len(cluster.claims()) - claims <= 2 + minutes
    assert _one_owner(cluster)


def _one_owner(cluster: Cluster) -> bool:
    phases = sorted(member[0].phase.name for member in cluster.members)
    return phases == ["OWNING", "STANDBY"]


def test_a_producer_that_ended_for_good_is_made_anew_with_the_epoch() -> None:
    """Every record after the first failure fails as well, as with a fatal error; a new claim has a new producer."""
    broken = [Fate(copies=0)] * 3
    cluster = scripted(Fate(), *broken)
    member = cluster.join()
    cluster.until(member.owns)
    begin(cluster, "a", "b", "c")
    cluster.until(lambda: member.counts.epochs_lost == 1, milliseconds=10)
    cluster.until(member.owns, milliseconds=100)

    assert len(cluster.claims()) == 2
    finish(cluster, "a", "b", "c")


def shuffled(names: Iterable[str], dice: Random) -> list[str]:
    out = list(names)
    dice.shuffle(out)
    return out


@pytest.mark.parametrize("seed", range(6))
def test_owners_killed_at_any_step_lose_nothing_and_do_nothing_twice(seed: int) -> None:
    dice = Random(seed)
    cluster = Cluster(2, faults=RandomFaults(Random(seed + 100)))
    members = [cluster.join(f"worker-{slot}", append_seconds_max=2.0, session_seconds=2.0) for slot in range(2)]
    names = [f"order-{number}" for number in range(30)]
    for number, name in enumerate(shuffled(names, dice)):
        begin(cluster, name)
        cluster.step(dice.randint(1, 4))
        cluster.clock.now_ms += dice.choice([1, 50, 700])
        if dice.random() < 0.15:
            slot = dice.randrange(2)
            stores = members[slot].stores
            cluster.kill(members[slot], dice.randint(0, 4))
            members[slot] = cluster.join(f"worker-{slot}-{number}", stores=stores, append_seconds_max=2.0)
    assert isinstance(cluster.hub.faults, RandomFaults)
    cluster.hub.faults.calm = True
    for name in names:
        cluster.send(name, Start("order", b"1"))
    finish(cluster, *names)


def test_who_loses_a_long_epoch_reads_only_what_came_after_it() -> None:
    cluster = scripted(*[Fate()] * 60, Fate(report=Reporting.ERROR))
    member = cluster.join()
    cluster.until(member.owns)
    read: list[int] = []
    real = member.log.read_history

    def read_history(partition: int, start: int, end: int) -> Iterator[LogRecord]:
        read.append(end - start)
        return real(partition, start, end)

    member.log.read_history = read_history  # type: ignore[method-assign]
    for number in range(60):
        begin(cluster, f"order-{number}")
        cluster.step(3)
        if member.counts.epochs_lost:
            break
    member[0].step()

    assert member.counts.epochs_lost == 1
    assert member.counts.confirmed > 40
    assert read[0] <= 5
    finish(cluster, "order-0", f"order-{number}")


@pytest.mark.parametrize("reuse", [ReusePolicy.REJECT, ReusePolicy.RETURN])
@pytest.mark.parametrize("deaths", [1, 9])
def test_a_hundred_starts_of_one_id_over_owners_that_die_make_one_instance(reuse: ReusePolicy, deaths: int) -> None:
    """Of a hundred clients one is told that it has created the instance, however often its owner dies meanwhile; each asks until it is told."""
    cluster = Cluster()
    member = cluster.join("worker-0")
    cluster.until(member.owns)
    waiting = {f"client-{number}": Start("listen", b"1", reuse=reuse) for number in range(100)}
    for death in range(deaths):
        for request, start in waiting.items():
            cluster.send("the-one", start, request_id=request)
        cluster.step(death + 1)
        cluster.kill(member)
        member = cluster.join(f"worker-{death + 1}", round_messages_max=7)
        cluster.until(member.owns, milliseconds=100)
    cluster.settle()
    told = {request: cluster.replies(request)[-1] for request in waiting}

    (started,) = (event for event in cluster.events("the-one") if isinstance(event, ExecutionStarted))
    created = {request for request, reply in told.items() if orjson.loads(reply.body).get("created")}
    assert {started.requests[-1]} == created
    others = ReplyCode.ALREADY_EXISTS if reuse == ReusePolicy.REJECT else ReplyCode.OK
    assert {others} == {reply.code for request, reply in told.items() if request not in created}
    cluster.check()
