"""Each counter of a partition counts what its name says: one scenario for each, and none without."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
import structlog

from perdure import App, OrchestrationContext, RetryPolicy
from perdure.actors.app import App as AppType
from perdure.partitions.activities import ActivityResult
from perdure.partitions.durations import Durations
from perdure.partitions.holdings import Counts
from perdure.partitions.memory import Fate, FaultScript, Reporting
from perdure.schemas.codec import encode_inbound
from perdure.schemas.events import Failure
from perdure.schemas.messages import Inbound, Origin, RaiseEvent, Start
from tests.partitions.cluster import Cluster, Member
from tests.partitions.cluster import app as orders

app: AppType = App()
app.include(orders)


@app.activity(retry_policy=RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2))
def fragile(value: Any) -> Any:
    return value


@app.orchestration
async def careful(ctx: OrchestrationContext, value: Any) -> Any:
    return await ctx.call_activity(fragile, value)


def figures(counts: Counts) -> dict[str, float]:
    values = {field.name: getattr(counts, field.name) for field in fields(counts)}
    return {name: value.seconds if isinstance(value, Durations) else value for name, value in values.items()}


class Scene:
    """An owner of a hub with two partitions, and how its counters move."""

    def __init__(self, *fates: Fate, automatic: bool = True, **settings: Any) -> None:
        self.cluster = Cluster(2, faults=FaultScript({"history": fates}), code=app, automatic=automatic)
        self.member: Member = self.cluster.join(**settings)
        self.cluster.until(lambda: self.member.owns(0) and self.member.owns(1), milliseconds=10)
        names = (name for name in (f"order-{number}" for number in range(999)) if self.cluster.home_of(name) == 0)
        self.names: Iterator[str] = names
        self.before = figures(self.member.counts)

    def start(self, orchestration: str = "order", value: bytes = b"1") -> str:
        name = next(self.names)
        self.cluster.send(name, Start(orchestration, value))
        self.cluster.settle()
        return name

    def put(self, body: Any, sequence: int) -> None:
        """A message of partition 1."""
        origin = Origin(self.cluster.hub.identity.history_topic_id, 1, sequence)
        self.cluster.put(encode_inbound(Inbound(next(self.names), body, origin=origin)))
        self.cluster.settle()

    def wait(self, milliseconds: int) -> None:
        self.cluster.clock.now_ms += milliseconds
        self.cluster.settle()

    def moved(self) -> dict[str, float]:
        now = figures(self.member.counts)
        return {name: now[name] - before for name, before in self.before.items()}


def an_order() -> Scene:
    """One instance with one activity: a turn that starts it, and one that ends it."""
    scene = Scene()
    scene.start()
    return scene


def a_slow_append() -> Scene:
    scene = Scene()
    scene.member.log.stalled = True
    scene.start("idle")
    scene.wait(2_000)
    scene.member.log.stalled = False
    scene.cluster.settle()
    return scene


def a_late_timer() -> Scene:
    scene = Scene()
    scene.start("sleep", b"1000")
    scene.wait(1_250)
    return scene


def one_message_twice() -> Scene:
    scene = Scene()
    scene.put(RaiseEvent("go"), 1)
    scene.put(RaiseEvent("go"), 1)
    return scene


def a_message_too_early() -> Scene:
    scene = Scene()
    scene.put(RaiseEvent("go"), 7)
    return scene


def a_result_that_nobody_waits_for() -> Scene:
    scene = Scene(automatic=False)
    scene.start()
    (task, _), *_ = scene.member.pool.dispatched
    scene.member.pool.give_back([ActivityResult(replace(task, attempt=9))])
    scene.cluster.settle()
    return scene


def a_misplaced_start() -> Scene:
    scene = Scene()
    name = next(name for name in (f"other-{number}" for number in range(99)) if scene.cluster.home_of(name) == 1)
    scene.cluster.put(encode_inbound(Inbound(name, Start("order", b"1"))), 0)
    scene.cluster.settle()
    assert name in scene.cluster.ended()
    return scene


def noise() -> Scene:
    scene = Scene()
    scene.cluster.put(b"noise")
    scene.cluster.settle()
    return scene


def a_lost_epoch() -> Scene:
    scene = Scene(Fate(), Fate(), Fate(report=Reporting.ERROR))
    scene.start("idle")
    return scene


def an_activity_that_fails_once() -> Scene:
    scene = Scene(automatic=False)
    scene.start("careful")
    scene.member.pool.finish(failure=Failure("OSError", "not now"))
    scene.cluster.settle()
    scene.wait(1_000)
    assert 1 == scene.member.pool.finish()
    scene.cluster.settle()
    return scene


def a_checkpoint() -> Scene:
    scene = Scene(checkpoint_turns_max=2)
    scene.start()
    return scene


def a_snapshot() -> Scene:
    scene = Scene(checkpoint_turns_max=2, snapshot_records_min=1)
    scene.start()
    return scene


def a_retention() -> Scene:
    """An instance that lives on is carried, one that has ended is forgotten, and the log is trimmed."""
    scene = Scene(retention_seconds=10.0, checkpoint_seconds_max=2.0)
    scene.start("listen", b"1")
    scene.start("idle")
    for number in range(80):
        scene.wait(1_000)
        scene.cluster.send(f"later-{number}", Start("idle", b"1"))
    return scene


def a_recovery() -> Scene:
    scene = Scene()
    scene.start()
    scene.cluster.kill(scene.member)
    scene.member = scene.cluster.join("worker-2")
    scene.before = figures(Counts())
    scene.cluster.until(lambda: scene.member.owns(0), milliseconds=50)
    return scene


SCENES: dict[str, tuple[Callable[[], Scene], float | None]] = {
    "turns": (an_order, 2),
    "records": (an_order, 2),
    "confirmed": (an_order, 2),
    "append_times": (a_slow_append, 2.0),
    "turn_times": (an_order, None),
    "timers_fired": (a_late_timer, 1),
    "timer_lateness": (a_late_timer, 0.25),
    "duplicates": (one_message_twice, 1),
    "out_of_order": (a_message_too_early, 1),
    "results_dropped": (a_result_that_nobody_waits_for, 1),
    "forwarded": (a_misplaced_start, 1),
    "dead_letters": (noise, 1),
    "epochs_lost": (a_lost_epoch, 1),
    "activities_dispatched": (an_activity_that_fails_once, 2),
    "activities_failed": (an_activity_that_fails_once, 1),
    "activities_retried": (an_activity_that_fails_once, 1),
    "instances_started": (an_order, 1),
    "instances_ended": (an_order, 1),
    "checkpoints": (a_checkpoint, 1),
    "snapshots": (a_snapshot, 1),
    "expired": (a_retention, None),
    "carried": (a_retention, None),
    "bases": (a_retention, None),
    # The claim of its predecessor, the two turns, and its own claim.
    "recovered_records": (a_recovery, 4),
}
"""By counter: what moves it, and by how much; None: by something."""


@pytest.mark.parametrize("name", SCENES)
def test_a_counter_counts_what_its_name_says(name: str) -> None:
    make, by = SCENES[name]
    moved = make().moved()[name]

    assert moved > 0 if by is None else moved == pytest.approx(by)


def test_every_counter_has_a_scene() -> None:
    assert {field.name for field in fields(Counts)} == set(SCENES)


def test_what_does_not_happen_is_not_counted() -> None:
    moved = an_order().moved()
    still = {name for name, by in moved.items() if by == 0}

    assert set(SCENES) - still == {
        "turns", "records", "confirmed", "turn_times", "activities_dispatched", "instances_started", "instances_ended"
    }  # fmt: skip


def test_what_is_recovered_is_neither_counted_nor_done_again() -> None:
    """A new owner on an empty disk reads the whole history: no record but its claim, no dispatch, no send, no answer, no log line but its own."""
    cluster = Cluster(2, code=app)
    first = cluster.join()
    cluster.until(lambda: first.owns(0) and first.owns(1), milliseconds=10)
    for number in range(20):
        cluster.send(f"order-{number}", Start("order", b"1"))
        cluster.send(f"careful-{number}", Start("careful", b"1"))
    cluster.send("family", Start("family", b'["child-1","child-2","child-3"]'))
    cluster.until(lambda: len(cluster.ended()) == 44)
    first.release()
    cluster.settle()
    cluster.kill(first)
    ends = [cluster.client.span_history(partition).end for partition in range(2)]
    answers = cluster.hub.journal("replies", 0).end
    inboxes = [cluster.hub.journal("inbox", partition).end for partition in range(2)]
    heir = cluster.join("worker-2")
    with structlog.testing.capture_logs() as logs:
        cluster.until(lambda: heir.owns(0) and heir.owns(1), milliseconds=10)
        cluster.settle()

    counted = {name: value for name, value in figures(heir.counts).items() if value}
    assert {"recovered_records"} >= counted.keys()
    assert heir.counts.recovered_records > 40
    assert [] == heir.pool.dispatched
    assert [end + 1 for end in ends] == [cluster.client.span_history(partition).end for partition in range(2)]
    assert answers == cluster.hub.journal("replies", 0).end
    assert inboxes == [cluster.hub.journal("inbox", partition).end for partition in range(2)]
    assert {"partition.owned"} >= {entry["event"] for entry in logs}
