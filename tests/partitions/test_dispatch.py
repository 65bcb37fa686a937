"""An activity from its dispatch to the one result that counts, over owners that die, stop and lose their epoch."""

import orjson

from perdure.partitions.activities import ActivityResult, ActivityTask
from perdure.schemas import events as ev
from perdure.schemas.events import Failure, RescheduleReason, Status
from perdure.schemas.messages import ReusePolicy, Start, Terminate
from tests.partitions.cluster import Cluster, Member


def owned(cluster: Cluster, name: str = "worker-1") -> Member:
    member = cluster.join(name)
    cluster.until(member.owns, milliseconds=50)
    return member


def begun() -> tuple[Cluster, Member]:
    """An order whose activity runs."""
    cluster = Cluster(automatic=False)
    member = owned(cluster)
    cluster.send("a", Start("order", b"7"))
    cluster.until(lambda: member.pool.running_count(0) == 1)
    return cluster, member


def out(member: Member) -> list[tuple[str, int]]:
    return [(task.instance_id, task.attempt) for task, _ in member.pool.dispatched]


def rescheduled(cluster: Cluster) -> list[tuple[int, RescheduleReason]]:
    events = cluster.events("a")
    return [(event.attempt, event.reason) for event in events if isinstance(event, ev.TaskRescheduled)]


def failure_of(cluster: Cluster, name: str = "a") -> Failure | None:
    ends = [event for event in cluster.events(name) if isinstance(event, ev.ExecutionCompleted)]
    return ends[-1].failure if ends else None


def test_a_dispatch_that_its_owner_took_to_its_grave_is_recorded_and_made_again_with_a_higher_attempt() -> None:
    cluster, first = begun()
    cluster.kill(first)
    second = owned(cluster, "worker-2")
    cluster.until(lambda: second.pool.running_count(0) == 1, milliseconds=10)

    assert [("a", 2)] == out(second)
    assert [(2, RescheduleReason.RECOVERY)] == rescheduled(cluster)
    # What the function is told apart by stays the same.
    (before, _), (after, _) = first.pool.dispatched[0], second.pool.dispatched[0]
    assert before.key[:3] == after.key[:3]
    second.pool.finish()
    cluster.until(lambda: "a" in cluster.ended())
    cluster.check()


def test_what_was_given_up_in_an_orderly_stop_is_not_lost_however_often() -> None:
    cluster, member = begun()
    for number in range(2, 7):
        member[0].release()
        cluster.settle()
        cluster.kill(member)
        member = owned(cluster, f"worker-{number}")
        cluster.until(lambda member=member: member.pool.running_count(0) == 1, milliseconds=10)  # type: ignore[misc]

    assert [(attempt, RescheduleReason.RELEASE) for attempt in range(2, 7)] == rescheduled(cluster)
    member.pool.finish()
    cluster.until(lambda: "a" in cluster.ended())
    assert failure_of(cluster) is None
    cluster.check()


def test_three_dispatches_that_never_came_back_fail_as_a_crashed_activity() -> None:
    cluster, member = begun()
    for number in range(2, 5):
        cluster.kill(member)
        member = owned(cluster, f"worker-{number}")
        cluster.until(lambda member=member: out(member) or "a" in cluster.ended(), milliseconds=200)  # type: ignore[misc]
    failure = failure_of(cluster)

    assert failure is not None
    assert "ActivityCrashed" in (failure.type, failure.cause.type if failure.cause else "")
    assert [(2, RescheduleReason.RECOVERY), (3, RescheduleReason.RECOVERY)] == rescheduled(cluster)
    cluster.check()


def result(task: ActivityTask, **changes: object) -> ActivityResult:
    fields = {
        name: getattr(task, name) for name in ("partition", "instance_id", "execution_id", "task_id", "attempt", "name")
    }
    return ActivityResult(ActivityTask(**{**fields, **changes}), b'"late"')  # type: ignore[arg-type]


def test_a_result_counts_only_for_the_very_attempt_that_is_pending() -> None:
    cluster, member = begun()
    (task, _), *_ = member.pool.dispatched
    strangers = [
        result(task, instance_id="b"),
        result(task, execution_id="77-1"),
        result(task, task_id=task.task_id + 1),
        result(task, attempt=task.attempt + 1),
    ]
    member.pool.give_back(strangers)
    cluster.settle()
    assert "a" not in cluster.ended()
    assert 4 == member.counts.results_dropped
    member.pool.finish()
    cluster.until(lambda: "a" in cluster.ended())

    assert 7 == cluster.view("a")["result"]
    cluster.check()


def test_the_late_result_of_an_attempt_that_was_made_again_is_dropped() -> None:
    """The first owner is a zombie: its function ends after the partition moved."""
    cluster, first = begun()
    cluster.members.remove(first)
    second = owned(cluster, "worker-2")
    cluster.until(lambda: second.pool.running_count(0) == 1, milliseconds=10)
    (task, _), *_ = first.pool.dispatched
    second.pool.give_back([result(task)])
    cluster.settle()
    assert "a" not in cluster.ended()
    second.pool.finish()
    cluster.until(lambda: "a" in cluster.ended())

    assert 7 == cluster.view("a")["result"]
    assert 1 == second.counts.results_dropped


def test_the_activities_of_an_instance_that_ends_are_cancelled() -> None:
    cluster, member = begun()
    cluster.send("wide", Start("wide", b"5"))
    cluster.until(lambda: member.pool.running_count(0) == 6)
    cluster.send("wide", Terminate(orjson.dumps("enough")))
    cluster.until(lambda: "wide" in cluster.ended())
    cluster.settle()

    assert {"a"} == {name for name, *_ in member.pool.running(0)}
    assert "wide" in {name for name, *_ in member.pool.canceled}
    assert Status.TERMINATED.name == cluster.view("wide")["status"]


def test_an_instance_that_is_replaced_gives_its_activities_up_and_counts_none_of_their_results() -> None:
    cluster, member = begun()
    (old, _), *_ = member.pool.dispatched
    replace = Start("order", b"8", reuse=ReusePolicy.REPLACE, reuse_statuses=(int(Status.RUNNING),))
    cluster.send("a", replace)
    cluster.until(lambda: len(member.pool.dispatched) == 2)
    assert {8} == {orjson.loads(task.input) for task in member.pool._running}
    member.pool.give_back([result(old)])
    cluster.settle()
    assert 1 == member.counts.results_dropped
    member.pool.finish()
    cluster.until(lambda: cluster.ended()["a"] == 2)

    assert 8 == cluster.view("a")["result"]
    cluster.check()
