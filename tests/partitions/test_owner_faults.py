"""What an owner does when its log, its topics or its store fail under it: it says so, waits, and nothing is lost (R4, R6, R14)."""

from collections.abc import Sequence

import pytest
import structlog

from perdure.partitions.memory import Fate, FaultScript, Reporting
from perdure.partitions.owner import AWAY_SECONDS_MAX, Phase
from perdure.partitions.ports import Change, HubRefused, LogTruncated, StoreUnavailable
from perdure.schemas import events as ev
from perdure.schemas.messages import RaiseEvent, Start
from tests.partitions.cluster import Cluster, Member


def owned(cluster: Cluster, **settings: object) -> Member:
    member = cluster.join(**settings)
    cluster.until(member.owns, milliseconds=50)
    return member


def begin(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.send(name, Start("order", b'"%s"' % name.encode()))


def finish(cluster: Cluster, *names: str) -> None:
    cluster.until(lambda: cluster.ended().keys() >= set(names), milliseconds=100)
    assert {1} == set(cluster.ended().values())
    cluster.check()


def attempts(cluster: Cluster, name: str) -> list[int]:
    return [attempt for (instance, _, _, attempt), times in sorted(cluster.dispatches().items()) if instance == name]


def test_a_log_that_is_away_is_waited_for_and_activities_go_on_meanwhile() -> None:
    cluster = Cluster(automatic=False)
    member = owned(cluster, append_seconds_max=1.0)
    begin(cluster, "a", "b")
    cluster.until(lambda: member.pool.running_count(0) == 2)
    cluster.hub.unavailable = True
    member.pool.finish("a")
    with structlog.testing.capture_logs() as logs:
        for _ in range(600):
            cluster.step()
            cluster.clock.now_ms += 100
    phases = {entry["event"] for entry in logs}
    pauses = [entry["again_in_seconds"] for entry in logs if entry["event"] == "log.unavailable"]

    assert Phase.FENCED == member[0].phase
    assert {"log.unavailable"} == phases
    assert pauses[0] < pauses[-1] == AWAY_SECONDS_MAX
    assert 1 == member.counts.epochs_lost
    cluster.hub.unavailable = False
    cluster.until(member.owns, milliseconds=100)
    member.pool.finish("b")
    finish(cluster, "a", "b")
    # Nothing ran twice: the result of "a" was taken before the outage was noticed, and was not made durable then.
    assert ([1], [1]) == (attempts(cluster, "a"), attempts(cluster, "b"))


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.CLAIMING, Phase.RECOVERING])
def test_a_log_that_goes_away_before_the_partition_is_owned_is_waited_for(phase: Phase) -> None:
    cluster = Cluster()
    begin(cluster, *(f"order-{number}" for number in range(3)))
    cluster.client.wait(0)
    member = cluster.join(append_seconds_max=1.0)
    while member[0].phase != phase:
        member.step()
    cluster.hub.unavailable = True
    for _ in range(100):
        cluster.step()
        cluster.clock.now_ms += 100
    assert member[0].phase in (Phase.WAITING, Phase.CLAIMING)
    cluster.hub.unavailable = False

    finish(cluster, "order-0", "order-1", "order-2")


def test_a_standby_that_cannot_see_the_log_does_not_take_its_silence_for_the_owners() -> None:
    cluster = Cluster()
    stale = owned(cluster)
    fresh = cluster.join("worker-2")
    cluster.until(fresh.owns)
    begin(cluster, "a")
    cluster.until(lambda: stale[0].phase == Phase.STANDBY)
    finish(cluster, "a")
    claims = len(cluster.claims())
    cluster.hub.unavailable = True
    for _ in range(200):
        cluster.step()
        cluster.clock.now_ms += 100
    cluster.hub.unavailable = False
    for number in range(20):
        begin(cluster, f"busy-{number}")
        for _ in range(10):
            cluster.step()
            cluster.clock.now_ms += 100

    assert Phase.STANDBY == stale[0].phase
    assert len(cluster.claims()) == claims
    assert fresh.owns()


def test_a_crash_of_the_partition_leaves_its_activities_running_and_takes_their_results() -> None:
    """A fault of ours, or a full disk, is no dispatch that never came back: three of them do not make an ActivityCrashed."""
    cluster = Cluster(automatic=False)
    member = owned(cluster)
    begin(cluster, "a", "b")
    cluster.until(lambda: member.pool.running_count(0) == 2)
    for _ in range(4):
        store = member.holdings().store

        def refuse(changes: Sequence[Change]) -> None:
            raise StoreUnavailable("no space left on device")

        store.write = refuse  # type: ignore[method-assign]
        cluster.send("listener", Start("listen", b"1"))
        with pytest.raises(StoreUnavailable):
            cluster.settle()
        member[0].abandon()
        member.assign(0)
        cluster.until(member.owns, milliseconds=50)
    member.pool.finish()

    finish(cluster, "a", "b")
    assert ([1], [1]) == (attempts(cluster, "a"), attempts(cluster, "b"))
    cluster.send("listener", RaiseEvent("go", b"1"))
    finish(cluster, "listener")


def test_what_was_decided_of_a_result_and_did_not_land_is_decided_again_of_the_same_result() -> None:
    cluster = Cluster(automatic=False, faults=FaultScript({"history": [Fate(), Fate(), Fate(copies=0)]}))
    member = owned(cluster)
    begin(cluster, "a")
    cluster.until(lambda: member.pool.finish("a"))
    cluster.until(lambda: member.counts.epochs_lost, milliseconds=10)
    finish(cluster, "a")

    assert [1] == attempts(cluster, "a")
    assert not any(isinstance(event, ev.TaskRescheduled) for event in cluster.events("a"))


def test_who_stands_by_gives_up_its_activities_for_the_new_owner_runs_them() -> None:
    cluster = Cluster(automatic=False)
    stale = owned(cluster)
    begin(cluster, "a")
    cluster.until(lambda: stale.pool.running_count(0) == 1)
    fresh = cluster.join("worker-2")
    cluster.until(fresh.owns)
    begin(cluster, "b")
    cluster.until(lambda: stale[0].phase == Phase.STANDBY)

    assert 0 == stale.pool.running_count(0)
    cluster.until(lambda: fresh.owns() and fresh.pool.running_count(0) == 2, milliseconds=50)
    fresh.pool.finish()
    finish(cluster, "a", "b")


def test_topics_that_were_deleted_and_created_again_are_another_hub_and_the_owner_says_so() -> None:
    """R14: to go on under the old identity would make the messages of the new history duplicates of the old one's."""
    cluster = Cluster()
    member = owned(cluster, append_seconds_max=1.0)
    begin(cluster, "a")
    finish(cluster, "a")
    cluster.recreate()
    begin(cluster, "b")
    with pytest.raises(
        HubRefused, match="deleted and created again: it is memory-topic-2, this process opened memory-topic-1"
    ):
        cluster.until(lambda: False, milliseconds=100)
    cluster.kill(member)

    fresh = cluster.join("worker-2", stores=member.stores)
    cluster.until(fresh.owns, milliseconds=50)
    assert {} == cluster.view("a")
    cluster.until(lambda: "b" in cluster.ended())


def test_an_inbox_that_lost_what_was_acknowledged_stops_its_partition_with_both_offsets() -> None:
    cluster = Cluster()
    member = owned(cluster)
    begin(cluster, "a", "b", "c")
    finish(cluster, "a", "b", "c")
    cluster.kill(member)
    cluster.hub.journal("inbox", 0).cut(1)
    again = cluster.join("worker-2")

    with pytest.raises(LogTruncated, match="offset 3 is beyond its end 1"):
        cluster.until(again.owns, milliseconds=50)
    again[0].abandon()


def test_inbox_records_that_somebody_deleted_are_named() -> None:
    cluster = Cluster()
    begin(cluster, "a", "b", "c")
    cluster.client.wait(0)
    cluster.hub.journal("inbox", 0).trim(2)
    with structlog.testing.capture_logs() as logs:
        owned(cluster)
        finish(cluster, "c")

    (gone,) = [entry for entry in logs if entry["event"] == "inbox.records_gone"]
    assert ("error", 0, 2) == (gone["log_level"], gone["start"], gone["end"])


def test_a_log_that_was_cut_back_ends_the_epoch_and_recovery_discards_the_store() -> None:
    """What was acknowledged is gone (an unclean election): the store knows more than the log, which is the truth (R14)."""
    cluster = Cluster()
    member = owned(cluster)
    begin(cluster, "a")
    finish(cluster, "a")
    member[0].release()
    cluster.settle()
    cluster.kill(member)
    cluster.hub.journal("history", 0).cut(2)
    cluster.histories[0].restart()
    with structlog.testing.capture_logs() as logs:
        again = cluster.join("worker-2", stores=member.stores)
        cluster.until(again.owns, milliseconds=50)

    assert [("error", 4, 3)] == [(each["log_level"], each["store"], each["end"]) for each in logs if "store" in each]
    assert "a" not in cluster.ended()
    finish(cluster, "a")


def test_reporting_twice_is_no_second_record() -> None:
    cluster = Cluster(faults=FaultScript({"history": [Fate(), Fate(report=Reporting.TWICE)]}))
    owned(cluster)
    begin(cluster, "a")
    finish(cluster, "a")


def test_what_another_owner_has_dispatched_again_meanwhile_is_cancelled_here() -> None:
    cluster = Cluster(automatic=False)
    first = owned(cluster)
    begin(cluster, "a")
    cluster.until(lambda: first.pool.running_count(0) == 1)
    first[0].abandon()
    cluster.members.remove(first)
    second = cluster.join("worker-2")
    cluster.until(lambda: second.pool.running_count(0) == 1, milliseconds=50)
    cluster.kill(second)
    cluster.members.append(first)
    first.assign(0)
    cluster.until(first.owns, milliseconds=50)
    cluster.settle()

    # Its first attempt was raised by the other owner, so that its result would count no more.
    assert [1, 3] == [task.attempt for task, _ in first.pool.dispatched]
    assert {("a", 3)} == {(name, attempt) for name, _, _, attempt in first.pool.running(0)}
    first.pool.finish()
    finish(cluster, "a")
