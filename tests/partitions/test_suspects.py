"""Activities whose dispatch was lost twice are tried alone in their process, until the log says what came of it."""

from collections.abc import Iterable

import orjson
import pytest

from perdure.partitions.activities import ActivityTask
from perdure.partitions.keys import ACTIVITY, ANCHOR, end_of
from perdure.partitions.memory import Fate, Faults, FaultScript, Reporting
from perdure.partitions.memory.faults import FINE, HISTORY
from perdure.partitions.owner import Phase
from perdure.partitions.partitioner import partition_of
from perdure.schemas import events as ev
from perdure.schemas.events import RescheduleReason
from perdure.schemas.messages import RaiseEvent, Resume, Start
from tests.partitions.cluster import Cluster, Member

NAMES = [next(f"a{n}" for n in range(99) if partition_of(f"a{n}", 4) == partition) for partition in range(4)]


class OneFate(Faults):
    """What is sent to the histories of `partitions` meets `fate`, for as long as they are named."""

    def __init__(self, fate: Fate = FINE) -> None:
        self.fate = fate
        self.partitions: set[int] = set()

    def take_fate(self, topic: str, partition: int) -> Fate:
        return self.fate if topic == HISTORY and partition in self.partitions else FINE


def out(member: Member) -> list[tuple[str, int]]:
    return [(task.instance_id, task.attempt) for task, _ in member.pool.dispatched]


def failure_of(cluster: Cluster, name: str) -> str | None:
    ends = [event for event in cluster.events(name) if isinstance(event, ev.ExecutionCompleted)]
    if not ends or ends[-1].failure is None:
        return None
    failure = ends[-1].failure
    return failure.cause.type if failure.cause is not None else failure.type


def reasons(cluster: Cluster, name: str) -> list[RescheduleReason]:
    return [event.reason for event in cluster.events(name) if isinstance(event, ev.TaskRescheduled)]


def suspected(faults: Faults | None = None) -> tuple[Cluster, Member]:
    """A process of four partitions with an activity on each that has not come back twice."""
    cluster = Cluster(4, faults=faults, automatic=False)
    member = cluster.join()
    for name in NAMES:
        cluster.send(name, Start("order", b"7"))
    cluster.until(lambda: len(out(member)) == 4, milliseconds=50)
    for number in (2, 3):
        cluster.kill(member)
        member = cluster.join(f"worker-{number}")
        expected = 4 if number == 2 else 1
        cluster.until(
            lambda member=member, expected=expected: len(out(member)) == expected,  # type: ignore[misc]
            milliseconds=10,
        )
    cluster.until(lambda: all(member.owns(partition) for partition in range(4)), milliseconds=10)
    cluster.settle()
    return cluster, member


def tried(member: Member) -> ActivityTask:
    """The suspect that is alone."""
    (task, _), *others = member.pool.dispatched
    assert not others
    return task


def test_what_did_not_come_back_twice_is_tried_one_at_a_time_in_a_process_whatever_its_partition() -> None:
    cluster, member = suspected()
    for number in range(1, 5):
        assert [3] * number == [attempt for _, attempt in out(member)]
        member.pool.finish()
        cluster.settle()
    cluster.check()


def test_a_suspect_that_lives_for_a_minute_holds_the_others_up_no_longer() -> None:
    cluster, member = suspected()
    assert 1 == len(out(member))
    cluster.clock.now_ms += 61_000
    cluster.settle()
    assert 2 == len(out(member))


def test_a_suspect_whose_owner_goes_leaves_its_place_to_another_partition() -> None:
    cluster, member = suspected()
    member.release(tried(member).partition)
    cluster.settle()
    assert 2 == len(out(member))


def test_no_suspect_is_tried_before_the_log_has_what_came_of_the_one_before_it() -> None:
    """Else the next one may kill the process while the innocent's result is on its way: the third dispatch that never came back."""
    faults = OneFate(Fate(delay=5_000))
    cluster, member = suspected(faults)
    task = tried(member)
    faults.partitions = {task.partition}
    member.pool.finish()
    cluster.settle()
    assert [(task.instance_id, 3)] == out(member)
    assert not cluster.ended()

    cluster.until(lambda: len(out(member)) == 2)
    assert task.instance_id in cluster.ended()


@pytest.mark.parametrize("killer", NAMES)
def test_a_killer_fails_and_none_of_those_that_it_took_with_it_however_slow_their_logs_are(killer: str) -> None:
    faults = OneFate(Fate(delay=500))
    cluster = Cluster(4, faults=faults, automatic=False)
    for name in NAMES:
        cluster.send(name, Start("order", b"7"))
    strikes, member = 0, cluster.join()
    while len(cluster.ended()) < 4:
        # The first two times it strikes when all are out, so that all of them are suspects.
        if killer in {name for name, _ in out(member)} and (strikes >= 2 or len(out(member)) == 4):
            strikes += 1
            cluster.kill(member)
            member = cluster.join(f"worker-{strikes + 1}")
        elif strikes == 2 and out(member):
            faults.partitions = set(range(4)) - {partition_of(killer, 4)}
            member.pool.finish()
        elif strikes == 3:
            member.pool.finish()
        cluster.step()
        cluster.clock.now_ms += 10

    assert 3 == strikes
    failed = [name for name in NAMES if failure_of(cluster, name) == "ActivityCrashed"]
    assert [killer] == failed
    cluster.check()


@pytest.mark.parametrize("killer", NAMES)
def test_a_killer_fails_alone_beside_those_that_were_killed_from_outside_before(killer: str) -> None:
    cluster = Cluster(4, automatic=False)
    innocent = [name for name in NAMES if name != killer]
    for name in innocent:
        cluster.send(name, Start("order", b"7"))
    member = cluster.join()
    cluster.until(lambda: len(out(member)) == 3, milliseconds=50)
    cluster.kill(member)
    member = cluster.join("worker-2")
    cluster.until(lambda: len(out(member)) == 3, milliseconds=10)
    cluster.send(killer, Start("order", b"7"))
    strikes = 0
    while len(cluster.ended()) < 4:
        if killer in {name for name, _ in out(member)}:
            strikes += 1
            cluster.kill(member)
            member = cluster.join(f"worker-{strikes + 2}")
        elif strikes and out(member):
            member.pool.finish()
        cluster.step()
        cluster.clock.now_ms += 10

    assert 3 == strikes
    assert [killer] == [name for name in NAMES if failure_of(cluster, name) == "ActivityCrashed"]
    cluster.check()


def test_what_was_lost_once_is_tried_together_and_never_beside_what_was_lost_twice() -> None:
    cluster, member = suspected()
    once = [f"once-{number}" for number in range(8)]
    for name in once:
        cluster.send(name, Start("order", b"7"))
    cluster.until(lambda: len(out(member)) == 9)
    cluster.kill(member)
    member = cluster.join("worker-4")
    seen = set[tuple[int, ...]]()
    while len(cluster.ended()) < 12:
        cluster.settle()
        seen.add(tuple(sorted(attempt for *_, attempt in member.pool.running_everywhere)))
        member.pool.finish()
        cluster.clock.now_ms += 10

    assert seen <= {(), (3,), *((2,) * number for number in range(1, 9))}
    assert any(len(attempts) > 1 for attempts in seen)
    cluster.check()


def test_what_was_lost_once_and_lives_for_a_minute_holds_the_suspects_up_no_longer() -> None:
    cluster, member = suspected()
    first = tried(member)
    for number in range(8):
        cluster.send(f"once-{number}", Start("order", b"7"))
    cluster.until(lambda: len(out(member)) == 9)
    cluster.kill(member)
    member = cluster.join("worker-4")
    for partition in range(4):
        if partition != first.partition:
            del member.owners[partition]
    cluster.until(lambda: out(member), milliseconds=10)
    assert {2} == {attempt for _, attempt in out(member)}
    member.assign(*(set(range(4)) - {first.partition}))
    cluster.until(lambda: all(member.owns(partition) for partition in range(4)), milliseconds=10)
    cluster.settle()
    assert {2} == {attempt for _, attempt in out(member)}

    cluster.clock.now_ms += 61_000
    cluster.settle()
    assert [3] == [attempt for _, attempt in out(member) if attempt > 2]


def test_what_was_lost_once_waits_for_one_suspect_and_not_for_all_those_of_another_partition() -> None:
    cluster = Cluster(4, automatic=False)
    twice = [name for name in (f"a{number}" for number in range(99)) if partition_of(name, 4) == 0][:3]
    once = NAMES[3]

    def die_with(member: Member, names: Iterable[str]) -> Member:
        cluster.until(lambda: {name for name, _ in out(member)} >= set(names), milliseconds=10)
        cluster.kill(member)
        return cluster.join(f"worker-{len(cluster.claims()) + 1}")

    for name in twice:
        cluster.send(name, Start("order", b"7"))
    member = die_with(die_with(cluster.join(), twice), twice)
    cluster.send(once, Start("order", b"7"))
    member = die_with(member, [once])
    del member.owners[3]
    cluster.until(lambda: out(member), milliseconds=10)
    assert [3] == [attempt for _, attempt in out(member)]

    member.assign(3)
    cluster.until(lambda: member.owns(3), milliseconds=10)
    cluster.settle()
    assert once not in {name for name, _ in out(member)}
    for _ in range(61):
        cluster.clock.now_ms += 1_000
        cluster.settle()
    assert (once, 2) == out(member)[1]
    assert 2 == len(out(member))

    member.pool.finish(once)
    cluster.settle()
    assert [3, 2, 3] == [attempt for _, attempt in out(member)]


def test_a_suspect_that_runs_on_when_its_epoch_ends_keeps_its_place_until_its_result_is_in_the_log() -> None:
    faults = OneFate(Fate(copies=0))
    cluster, member = suspected(faults)
    task = tried(member)
    faults.partitions = {task.partition}
    cluster.send(task.instance_id, RaiseEvent("go"))
    cluster.until(lambda: member[task.partition].counts.epochs_lost)
    faults.partitions = set()
    cluster.until(lambda: member.owns(task.partition), milliseconds=10)
    cluster.settle()
    assert task == tried(member)

    faults.fate, faults.partitions = Fate(delay=5_000), {task.partition}
    member.pool.finish()
    cluster.settle()
    assert task == tried(member)
    cluster.until(lambda: len(out(member)) == 2)
    assert task.instance_id in cluster.ended()


def test_a_suspect_whose_result_was_lost_on_its_way_keeps_its_place_until_the_log_has_it() -> None:
    faults = OneFate(Fate(copies=0))
    cluster, member = suspected(faults)
    task = tried(member)
    faults.partitions = {task.partition}
    member.pool.finish()
    cluster.until(lambda: member[task.partition].counts.epochs_lost)
    cluster.settle()
    assert task == tried(member)

    faults.partitions = set()
    cluster.until(lambda: len(out(member)) == 2, milliseconds=10)
    assert task.instance_id in cluster.ended()


def test_a_suspect_that_was_given_up_for_another_owner_leaves_its_place() -> None:
    cluster, member = suspected()
    task = tried(member)
    other = cluster.join("worker-4")
    for partition in set(range(4)) - {task.partition}:
        del other.owners[partition]
    cluster.until(lambda: other.owns(task.partition), milliseconds=10)
    member[task.partition].notice_others()
    cluster.until(lambda: member[task.partition].phase == Phase.STANDBY, milliseconds=10)
    cluster.settle()
    assert 2 == len(out(member))


def test_a_suspect_whose_partition_is_closed_by_a_fault_keeps_its_place_for_the_next_try_in_this_process() -> None:
    cluster, member = suspected()
    task = tried(member)
    member[task.partition].abandon()
    cluster.settle()
    member.assign(task.partition)
    cluster.until(lambda: member.owns(task.partition), milliseconds=10)
    cluster.settle()
    assert task == tried(member)

    member.pool.finish()
    cluster.settle()
    assert 2 == len(out(member))


@pytest.mark.parametrize("report", [Reporting.ERROR, Reporting.NONE])
def test_a_dispatch_that_stands_in_the_log_and_was_never_made_is_not_lost_while_its_process_lives(
    report: Reporting,
) -> None:
    """Its record landed, and its owner did not hear of it: the epoch ends, again and again, and nothing has died."""
    faults = OneFate(Fate(report=report))
    cluster = Cluster(4, faults=faults, automatic=False)
    member, name = cluster.join(append_seconds_max=1.0), NAMES[2]
    cluster.until(lambda: all(member.owns(partition) for partition in range(4)), milliseconds=10)
    for number in range(1, 6):
        faults.partitions = {2}
        if number == 1:
            cluster.send(name, Start("order", b"7"))
        cluster.until(lambda number=number: member[2].counts.epochs_lost == number, milliseconds=10)  # type: ignore[misc]
        assert [] == out(member)
        faults.partitions = set()
        cluster.until(lambda: member[2].phase == Phase.RECOVERING, milliseconds=10)
    cluster.until(lambda: out(member), milliseconds=10)
    member.pool.finish()
    cluster.until(lambda: name in cluster.ended())

    assert failure_of(cluster, name) is None
    assert {RescheduleReason.RELEASE} == set(reasons(cluster, name))
    cluster.check()


def test_a_dispatch_whose_record_was_confirmed_as_its_epoch_ended_is_not_lost_while_its_process_lives() -> None:
    cluster = Cluster(faults=FaultScript({HISTORY: [FINE, FINE, Fate(copies=0)]}), automatic=False)
    member = cluster.join()
    for name in ("a", "b"):
        cluster.send(name, Start("order", b"7"))
    cluster.until(lambda: member.counts.epochs_lost, milliseconds=10)
    assert [] == out(member)
    cluster.until(lambda: len(out(member)) == 2, milliseconds=10)

    assert [("a", 2), ("b", 1)] == sorted(out(member))
    assert [RescheduleReason.RELEASE] == reasons(cluster, "a")


def test_a_last_try_that_was_never_made_is_made_alone() -> None:
    faults = OneFate()
    cluster, member = suspected(faults)
    first = tried(member)
    faults.fate, faults.partitions = Fate(report=Reporting.ERROR), set(range(4)) - {first.partition}
    member.pool.finish()
    cluster.until(lambda: any(member[each].counts.epochs_lost for each in faults.partitions), milliseconds=10)
    faults.partitions = set()
    for number in range(2, 5):
        cluster.until(lambda number=number: len(out(member)) == number, milliseconds=10)  # type: ignore[misc]
        cluster.settle()
        assert number == len(out(member))
        member.pool.finish()
    cluster.until(lambda: len(cluster.ended()) == 4)

    assert not any(failure_of(cluster, name) for name in NAMES)
    cluster.check()


def test_suspects_that_were_given_up_in_an_orderly_stop_are_tried_alone_by_the_next_owner_too() -> None:
    cluster, member = suspected()
    member.release()
    cluster.settle()
    cluster.kill(member)
    member = cluster.join("worker-4")
    cluster.until(lambda: all(member.owns(partition) for partition in range(4)), milliseconds=10)
    cluster.settle()
    for number in range(1, 5):
        assert number == len(out(member))
        member.pool.finish()
        cluster.settle()

    assert [None] * 4 == [failure_of(cluster, name) for name in NAMES]
    cluster.check()


def test_a_loss_that_an_owner_found_is_not_forgiven_where_it_stops_in_order_before_its_turn() -> None:
    cluster, member = suspected()
    killer = next(name for name in NAMES if name != tried(member).instance_id)
    member.release()
    cluster.settle()
    cluster.kill(member)
    member = cluster.join("worker-4")
    while killer not in {name for name, _ in out(member)}:
        member.pool.finish()
        cluster.step()
        cluster.clock.now_ms += 10
    cluster.kill(member)
    cluster.join("worker-5")
    cluster.until(lambda: killer in cluster.ended(), milliseconds=10)

    assert "ActivityCrashed" == failure_of(cluster, killer)
    assert [RescheduleReason.RECOVERY] * 2 == reasons(cluster, killer)
    cluster.check()


def test_what_fails_as_a_killer_waits_for_no_place() -> None:
    cluster, member = suspected()
    task = tried(member)
    cluster.kill(member)
    member = cluster.join("worker-4")
    del member.owners[task.partition]
    cluster.until(lambda: len(out(member)) == 1, milliseconds=10)
    member.assign(task.partition)
    cluster.until(lambda: task.instance_id in cluster.ended(), milliseconds=10)

    assert "ActivityCrashed" == failure_of(cluster, task.instance_id)
    assert 1 == len(out(member))


def test_a_suspect_whose_activity_nobody_here_knows_leaves_its_place_and_is_tried_alone_once_it_is_resumed() -> None:
    cluster, member = suspected()
    others = set(NAMES) - {tried(member).instance_id}
    member.pool.known = ()
    member.pool.finish()
    cluster.settle()
    assert others == {name for name in NAMES if cluster.view(name).get("held")}

    member.pool.known = None
    for name in others:
        cluster.send(name, Resume())
    for number in range(2, 5):
        cluster.settle()
        assert number == len(out(member))
        member.pool.finish()
    cluster.until(lambda: len(cluster.ended()) == 4)
    cluster.check()


def test_an_activity_that_a_process_does_not_know_is_not_lost_whenever_an_epoch_of_it_ends() -> None:
    faults = OneFate(Fate(copies=0))
    cluster = Cluster(4, faults=faults, automatic=False)
    member, name = cluster.join(), NAMES[1]
    member.pool.known = ()
    cluster.send(name, Start("order", b"7"))
    for number in range(1, 5):
        cluster.until(lambda: member.owns(1) and cluster.view(name).get("held"), milliseconds=10)
        faults.partitions = {1}
        cluster.send(name, RaiseEvent("go"))
        cluster.until(lambda number=number: member[1].counts.epochs_lost == number, milliseconds=10)  # type: ignore[misc]
        faults.partitions = set()
    member.pool.known = None
    cluster.send(name, Resume())
    cluster.until(lambda: member.pool.finish(name), milliseconds=10)
    cluster.until(lambda: name in cluster.ended())

    assert failure_of(cluster, name) is None
    assert RescheduleReason.RECOVERY not in reasons(cluster, name)
    cluster.check()


def test_a_store_as_the_format_before_wrote_it_is_built_anew() -> None:
    """It does not say of what is out whether it was dispatched before a death."""
    cluster = Cluster(automatic=False)
    member = cluster.join()
    cluster.send("a", Start("order", b"7"))
    cluster.until(lambda: out(member))
    holdings = member[0].holdings
    assert holdings is not None
    store = holdings.store
    format_, *place = orjson.loads(store.get(ANCHOR) or b"")
    before = [format_ - 1, *place[:9], *place[10:]]
    shorter = [(key, value[:5]) for key, value in store.scan(ACTIVITY, end_of(ACTIVITY))]
    store.write([(ANCHOR, orjson.dumps(before)), *shorter])
    store.flush()
    cluster.kill(member)
    heir = cluster.join("worker-2", stores=member.stores)
    cluster.until(lambda: out(heir), milliseconds=10)

    assert 1 == len(shorter)
    assert heir[0].counts.recovered_records == cluster.claims()[-1] + 1
    assert [RescheduleReason.RECOVERY] == reasons(cluster, "a")
    cluster.check()
