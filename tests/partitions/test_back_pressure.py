"""Nothing in memory grows without a bound, and what is paused comes back by itself (R10, I11)."""

from collections.abc import Iterable
from itertools import pairwise

import orjson
import pytest

from perdure import App, OrchestrationContext
from perdure.actors.limits import DEFAULT_LIMITS
from perdure.partitions.activities import ActivityResult
from perdure.partitions.memory import Fate, Faults
from perdure.partitions.owner import Phase
from perdure.schemas.events import TaskCompleted
from perdure.schemas.messages import Start
from tests.partitions.cluster import Cluster, Member
from tests.partitions.cluster import app as orders


def owned(cluster: Cluster, **settings: object) -> Member:
    member = cluster.join(**settings)
    cluster.until(lambda: all(map(member.owns, range(cluster.partitions))), milliseconds=50)
    return member


def begin(cluster: Cluster, names: Iterable[str], orchestration: str = "order", value: object = 1) -> None:
    for name in names:
        cluster.send(name, Start(orchestration, orjson.dumps(value)))


def on(cluster: Cluster, partition: int, count: int, prefix: str = "order") -> list[str]:
    names = (f"{prefix}-{number}" for number in range(100 * count))
    return [name for name in names if cluster.home_of(name) == partition][:count]


def is_paused(member: Member, partition: int = 0) -> bool:
    return member[partition]._paused


def test_a_flood_of_starts_over_a_slow_pool_takes_bounded_memory_and_is_worked_off_by_itself() -> None:
    """Starts become facts, their first turns wait, and the results that free the pool come in all the while."""
    cluster = Cluster(automatic=False)
    member = owned(cluster, slots_max=20, round_messages_max=50)
    member.pool.running_max = 8
    names = [f"order-{number}" for number in range(600)]
    begin(cluster, names)
    cluster.until(lambda: member.holdings().intake.mark == 600)
    cluster.settle()
    # All is received, and little of it runs.
    assert 600 == len(list(member.holdings().store.scan(b"h", b"i")))
    assert member.pool.running_count(0) <= 8 + 50
    largest = 0
    while len(cluster.ended()) < 600:
        largest = max(largest, len(member.holdings().instances))
        assert len(member[0].tenure._mailbox.due_turns._deferred) <= 20  # type: ignore[union-attr]
        assert member.pool.running_count(0) <= 8 + 50
        member.pool.finish()
        cluster.step(2)

    assert largest <= 20 + 50
    assert set(names) == set(cluster.ended())
    assert {1} == set(cluster.ended().values())
    cluster.check()


def test_deferred_turns_that_are_not_in_memory_are_found_again_after_a_crash() -> None:
    cluster = Cluster(automatic=False)
    member = owned(cluster, slots_max=10)
    member.pool.running_max = 1
    names = [f"order-{number}" for number in range(100)]
    begin(cluster, names)
    cluster.settle()
    cluster.kill(member)
    again = cluster.join("worker-2", slots_max=10)
    again.pool.running_max = 1
    for _ in range(3_000):
        again.pool.finish()
        cluster.step()
        cluster.clock.now_ms += 10
        if len(cluster.ended()) == 100:
            break

    assert set(names) == set(cluster.ended())
    cluster.check()


class PartitionAway(Faults):
    """The leader of one inbox partition is away: nothing that is sent to it lands, and its senders are told."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.away = True

    def take_fate(self, topic: str, partition: int) -> Fate:
        lost = self.away and (topic, partition) == ("inbox", self.partition)
        return Fate(copies=0) if lost else Fate()


def test_a_target_that_is_away_pauses_the_inbox_and_not_the_results() -> None:
    faults = PartitionAway(1)
    cluster = Cluster(2, faults=faults, automatic=False)
    member = owned(cluster, outbox_depth_max=5, inbox_depth_max=10, round_messages_max=4)
    children = on(cluster, 1, 60, "child")
    parents = on(cluster, 0, 30, "parent")
    local = on(cluster, 0, 1, "local")
    begin(cluster, local)
    cluster.until(lambda: member.pool.running_count(0) == 1)
    for number, parent in enumerate(parents):
        begin(cluster, [parent], "family", children[2 * number : 2 * number + 2])
    cluster.until(lambda: is_paused(member), milliseconds=10)
    for _ in range(100):
        cluster.step()
        cluster.clock.now_ms += 100
    outbox, tenure = member.holdings().outbox, member[0].tenure
    assert tenure is not None
    assert 5 <= outbox.depth <= 5 + 2 * 4
    # At most what was read in one go beyond the limit.
    assert tenure.inbox_load <= 1 + 4 / 10
    # A result still comes in and is made durable.
    assert 1 == member.pool.finish(local[0])
    cluster.until(lambda: local[0] in cluster.ended())

    faults.away = False
    cluster.until(lambda: member.pool.finish() is not None and len(cluster.ended()) == 91, milliseconds=100)
    assert not is_paused(member)
    assert 0 == member.holdings().outbox.depth == member.holdings().outbox.bytes
    cluster.check()


def test_a_crowd_of_timers_whose_ends_nobody_takes_waits_until_somebody_does() -> None:
    """Each of them ends an instance that tells its parent, on a partition that is away by then."""
    faults = PartitionAway(1)
    faults.away = False
    cluster = Cluster(2, faults=faults)
    member = owned(cluster, outbox_depth_max=5, round_messages_max=4)
    parents, children = on(cluster, 1, 60, "parent"), on(cluster, 0, 60, "child")
    for parent, child in zip(parents, children, strict=True):
        begin(cluster, [parent], "lull", child)
    cluster.until(lambda: all(cluster.view(child) for child in children), milliseconds=10)
    faults.away = True
    cluster.clock.now_ms += 70_000
    for _ in range(50):
        cluster.step()
        cluster.clock.now_ms += 100
    assert 5 <= member.holdings().outbox.depth <= 5 + 4
    assert member[0].next_due_ms() is None

    faults.away = False
    cluster.until(lambda: len(cluster.ended()) == 120, milliseconds=100)
    cluster.check()


def test_a_full_local_queue_is_back_pressure_and_no_reason_to_end_the_epoch() -> None:
    """R4: nothing was sent, the expected offset stands."""
    cluster = Cluster()
    member = owned(cluster)
    cluster.hub.in_flight_max = 1
    names = [f"order-{number}" for number in range(40)]
    member.log.stalled = True
    begin(cluster, names)
    cluster.step(5)
    tenure = member[0].tenure
    assert tenure is not None
    assert tenure._epoch.full
    decided = member.counts.turns
    cluster.step(20)
    assert decided == member.counts.turns
    member.log.stalled = False
    cluster.until(lambda: len(cluster.ended()) == 40)

    assert 0 == member.counts.epochs_lost
    assert Phase.OWNING == member[0].phase
    cluster.check()


@pytest.mark.parametrize("settings", [{"appends_in_flight_max": 10}, {"appends_bytes_max": 20_000}], ids=str)
def test_nothing_more_is_decided_while_too_much_is_on_its_way(settings: dict[str, int]) -> None:
    cluster = Cluster()
    member = owned(cluster, round_messages_max=5, append_seconds_max=1_000.0, **settings)
    member.log.stalled = True
    begin(cluster, (f"order-{number}" for number in range(100)), value="x" * 1_000)
    cluster.step(50)
    epoch = member[0].tenure._epoch  # type: ignore[union-attr]

    assert 10 <= epoch.in_flight <= 25
    assert epoch.in_flight_bytes < 20_000 + 5 * 2_500
    member.log.stalled = False
    cluster.until(lambda: len(cluster.ended()) == 100)
    assert (0, 0) == (epoch.in_flight, epoch.in_flight_bytes)
    cluster.check()


def test_an_inbox_of_large_messages_is_paused_by_their_bytes() -> None:
    cluster = Cluster()
    member = owned(cluster, inbox_bytes_max=50_000, round_messages_max=2, appends_in_flight_max=1)
    member.log.stalled = True
    begin(cluster, (f"order-{number}" for number in range(100)), value="x" * 5_000)
    cluster.step(60)
    tenure = member[0].tenure
    assert tenure is not None

    assert is_paused(member)
    assert 1 <= tenure.inbox_load <= 1.3
    member.log.stalled = False
    cluster.until(lambda: len(cluster.ended()) == 100)
    assert 0 == tenure.inbox_load
    cluster.check()


def test_timers_that_are_all_due_at_once_are_taken_a_round_at_a_time_and_the_inbox_is_served_between() -> None:
    cluster = Cluster()
    member = owned(cluster, round_messages_max=20)
    begin(cluster, (f"sleeper-{number}" for number in range(300)), "sleep", 5_000)
    cluster.settle(60)
    cluster.clock.now_ms += 5_000
    begin(cluster, ["awake"])
    fired = [member.counts.timers_fired]
    while "awake" not in cluster.ended():
        cluster.step()
        fired.append(member.counts.timers_fired)

    assert max(after - before for before, after in pairwise(fired)) <= 20
    assert fired[-1] < 300
    cluster.until(lambda: len(cluster.ended()) == 301)
    cluster.check()


def test_a_draining_owner_with_work_that_it_may_not_begin_does_not_spin() -> None:
    cluster = Cluster(automatic=False)
    member = owned(cluster)
    begin(cluster, ["a"], "sleep", 10)
    cluster.settle()
    begin(cluster, ["b"])
    cluster.settle()
    member[0].drain()
    member.pool.finish()
    cluster.clock.now_ms += 1_000
    begin(cluster, ["c"])
    cluster.settle(5)

    assert member[0].next_due_ms() is None
    assert not member.step()


def test_an_orchestration_that_continues_as_new_without_end_leaves_the_others_their_turns() -> None:
    """One execution more in each of its turns, without any wait: it is one instance among others, and takes no more than its turn."""
    app = App()
    app.include(orders)

    @app.orchestration
    async def spin(ctx: OrchestrationContext, number: int) -> None:
        ctx.continue_as_new(number + 1)

    cluster = Cluster(code=app)
    member = owned(cluster)
    begin(cluster, ["spin-1", "spin-2"], "spin", 0)
    cluster.settle()
    names = [f"order-{number}" for number in range(50)]
    begin(cluster, names)
    rounds = 0
    while not cluster.ended().keys() >= set(names):
        cluster.step()
        rounds += 1

    assert rounds < 30
    generations = [cluster.view(f"spin-{number}")["generation"] for number in (1, 2)]
    assert min(generations) > 20
    assert len(member.holdings().instances) <= 52


def test_a_fan_out_of_as_many_tasks_as_may_be_pending_comes_to_its_end_and_is_recovered_in_the_middle() -> None:
    """In records no larger than a message, each result once; the owner dies when half of them are there."""
    cluster = Cluster(automatic=False)
    cluster.hub.record_bytes_max = 100_000
    count = DEFAULT_LIMITS.tasks_pending_max
    member = owned(cluster)
    begin(cluster, ["wide"], "wide", count)
    cluster.until(lambda: member.pool.running_count(0) == count)
    half = member.pool._running[: count // 2]
    member.pool.give_back([ActivityResult(task, task.input) for task in half])
    member.pool._running = member.pool._running[count // 2 :]
    cluster.settle()
    cluster.kill(member)
    heir = cluster.join("worker-2")
    cluster.until(lambda: heir.owns() and heir.pool.running_count(0) == count - len(half), milliseconds=10)
    heir.pool.finish()
    cluster.until(lambda: "wide" in cluster.ended())

    assert count == cluster.view("wide")["result"]
    results = [event.task_id for event in cluster.events("wide") if isinstance(event, TaskCompleted)]
    assert list(range(1, count + 1)) == sorted(results)
