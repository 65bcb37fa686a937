"""Partition time never runs backwards and never stands still, over owners whose clocks are off (R11)."""

from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.partitions.holdings import PartitionTime
from perdure.partitions.memory import MemoryLog
from perdure.partitions.owner import Phase
from perdure.partitions.recovery import PartitionRefused
from perdure.partitions.skew import ADMISSION_SECONDS, Admission, ClockOff
from perdure.schemas.messages import Start
from tests.partitions.cluster import Clock, Cluster, Member, SkewedClock

HOUR_MS = 3_600_000


@given(
    st.lists(st.tuples(st.integers(1, 10_000), st.integers(-HOUR_MS, HOUR_MS)), min_size=1, max_size=30),
    st.integers(0, HOUR_MS),
)
def test_time_goes_on_at_least_as_fast_as_the_monotonic_clock(steps: list[tuple[int, int]], ahead_ms: int) -> None:
    """Whatever somebody does to the wall clock between two looks."""
    true = Clock()
    clock = SkewedClock(true)
    time = PartitionTime(clock, true.wall_ms() + ahead_ms)
    seen = [time.now_ms()]
    passed = []
    for milliseconds, skew_ms in steps:
        true.now_ms += milliseconds
        clock.skew_ms = skew_ms
        passed.append(milliseconds)
        seen.append(time.now_ms())

    assert all(after - before >= least for (before, after), least in zip(pairwise(seen), passed, strict=True))


def test_a_clock_that_jumps_ahead_and_back_does_not_stop_time() -> None:
    true = Clock()
    clock = SkewedClock(true)
    time = PartitionTime(clock, 0)
    clock.skew_ms = HOUR_MS
    ahead = time.now_ms()
    clock.skew_ms = 0
    true.now_ms += 1_000

    assert ahead + 1_000 == time.now_ms()


def owner(cluster: Cluster, name: str = "worker-1", skew_ms: int = 0) -> Member:
    member = cluster.join(name)
    member.clock.skew_ms = skew_ms
    return member


def times(cluster: Cluster) -> list[int]:
    """Partition time of every record that counts, in order."""
    return [body.time_ms for _, body in cluster.histories[0].turns()]


def test_time_goes_on_over_owners_whose_clocks_are_off() -> None:
    """Each owner's clock is behind that of the one before it."""
    cluster = Cluster()
    for number, skew_ms in enumerate((50_000, 0, -50_000)):
        member = owner(cluster, f"worker-{number}", skew_ms)
        cluster.until(member.owns, milliseconds=10)
        for order in range(3):
            cluster.send(f"order-{number}-{order}", Start("order", b"1"))
            cluster.settle(5)
            cluster.clock.now_ms += 100
        cluster.kill(member)
    seen = times(cluster)

    assert sorted(seen) == seen
    # Never still: from the first record of an owner to its last, 200 ms went by.
    firsts = [seen.index(time) for time in seen]
    assert seen[-1] - seen[0] >= 600
    assert len(set(firsts)) > 6
    cluster.check()


@pytest.mark.parametrize("skew_ms", [61_000, -61_000])
def test_a_worker_whose_clock_is_far_off_refuses_before_it_claims(skew_ms: int) -> None:
    """The healthy owner beside it loses nothing."""
    cluster = Cluster()
    healthy = owner(cluster)
    cluster.until(healthy.owns)
    cluster.send("a", Start("order", b"1"))
    cluster.settle()
    end = cluster.hub.journal("history", 0).end
    off = owner(cluster, "worker-2", skew_ms)

    with pytest.raises(
        PartitionRefused, match=f"{skew_ms} ms (ahead of|behind) the log's .* at most 60000 ms .* set the clock"
    ):
        off.step()
    assert end == cluster.hub.journal("history", 0).end
    assert 0 == healthy.counts.epochs_lost


def test_a_clock_that_is_set_right_is_taken_at_its_word() -> None:
    cluster = Cluster()
    member = owner(cluster, skew_ms=HOUR_MS)
    with pytest.raises(PartitionRefused):
        member.step()
    member.clock.skew_ms = 0
    cluster.until(member.owns)


def test_one_answer_of_the_log_does_for_claims_that_are_made_together_and_for_no_later_one() -> None:
    cluster = Cluster(3)
    member = cluster.join()
    with patch.object(MemoryLog, "read_clock_ms", autospec=True, side_effect=MemoryLog.read_clock_ms) as asked:
        cluster.until(lambda: all(map(member.owns, range(3))))
        assert 1 == asked.call_count
        cluster.clock.now_ms += int(ADMISSION_SECONDS * 1000)
        member[0].abandon()
        member.assign(0)
        cluster.until(member.owns)
        assert 2 == asked.call_count


@pytest.mark.parametrize("leap_ms", [61_000, -61_000])
def test_a_clock_that_leaps_between_two_claims_is_found_off_at_the_second(leap_ms: int) -> None:
    cluster = Cluster()
    clock, log, admission = SkewedClock(cluster.clock), MemoryLog(cluster.hub), Admission()
    clock.skew_ms = 50_000
    admission.ask(log, clock, 60_000)
    clock.skew_ms += 9_000
    admission.ask(log, clock, 60_000)
    clock.skew_ms = leap_ms

    for _ in range(2):
        with pytest.raises(ClockOff, match=f"{leap_ms} ms"):
            admission.ask(log, clock, 60_000)


def test_timers_fire_by_partition_time_and_never_early() -> None:
    """An owner whose clock is a minute ahead set the timer; the next one, whose clock is right, keeps its time."""
    cluster = Cluster()
    ahead = owner(cluster, skew_ms=50_000)
    cluster.until(ahead.owns)
    cluster.send("a", Start("sleep", b"10000"))
    cluster.settle()
    cluster.kill(ahead)
    right = owner(cluster, "worker-2")
    cluster.until(right.owns)
    cluster.clock.now_ms += 9_000
    cluster.settle()
    assert "a" not in cluster.ended()
    cluster.clock.now_ms += 1_100
    cluster.settle()

    assert "a" in cluster.ended()
    cluster.check()


def test_a_clock_that_leaps_ahead_is_not_believed_and_no_timer_comes_early() -> None:
    """What an owner shows as time is in the log for ever: nothing would ever be on time again."""
    cluster = Cluster()
    member = owner(cluster)
    cluster.until(member.owns)
    cluster.send("a", Start("sleep", b"10000"))
    cluster.settle()
    member.clock.skew_ms = 365 * 24 * HOUR_MS
    cluster.until(lambda: not member.owns())
    with pytest.raises(PartitionRefused, match="set the clock"):
        cluster.until(member.owns, milliseconds=10)
    assert 1 == member.counts.epochs_lost
    assert "has leapt 31536000000 ms ahead" in member[0].epoch_ended_by
    assert "a" not in cluster.ended()

    member.clock.skew_ms = 0
    cluster.until(member.owns, milliseconds=10)
    cluster.clock.now_ms += 10_000
    cluster.settle()
    assert "a" in cluster.ended()
    assert max(times(cluster)) <= cluster.clock.now_ms
    cluster.check()


def test_a_clock_that_leaps_ahead_while_its_owner_recovers_is_not_believed_either() -> None:
    """The log was asked for the time before the claim, and not since."""
    cluster = Cluster()
    first = owner(cluster)
    cluster.until(first.owns)
    cluster.send("a", Start("sleep", b"10000"))
    cluster.settle()
    cluster.kill(first)
    heir = owner(cluster, "worker-2")
    cluster.until(lambda: heir[0].phase == Phase.RECOVERING)
    heir.clock.skew_ms = HOUR_MS
    with pytest.raises(PartitionRefused, match="set the clock"):
        cluster.until(heir.owns, milliseconds=10)
    assert f"has leapt {HOUR_MS} ms ahead" in heir[0].epoch_ended_by

    heir.clock.skew_ms = 0
    cluster.until(heir.owns, milliseconds=10)
    assert max(times(cluster)) <= cluster.clock.now_ms
    cluster.check()


def test_a_machine_that_was_suspended_claims_again_and_its_timers_fire() -> None:
    """Its monotonic clock stood still meanwhile, and the log's did not."""
    cluster = Cluster()
    member = owner(cluster)
    cluster.until(member.owns)
    cluster.send("a", Start("sleep", b"10000"))
    cluster.settle()
    cluster.clock.suspend(8 * HOUR_MS)
    cluster.until(lambda: "a" in cluster.ended(), milliseconds=10)

    assert 1 == member.counts.epochs_lost
    cluster.check()
