"""Durable timers: in memory those that come soon, in the store all of them, and each fires once (partitions/timers.py)."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.partitions.keys import TimerKey, timer_key
from perdure.partitions.memory import MemoryStores
from perdure.partitions.ports import Change, Store
from perdure.partitions.timers import HORIZON_MS, TimerQueue
from perdure.schemas.messages import TimerPurpose

NOW_MS = 1_790_000_000_000
YEAR_MS = 365 * 86_400_000
MANY = 1_000


def timer(due_ms: int, name: str = "sleeper") -> TimerKey:
    return TimerKey(due_ms, name, "1-1", 1, TimerPurpose.TIMER)


def add(store: Store, queue: TimerQueue, *timers: TimerKey) -> None:
    changes: list[Change] = [(timer_key(each), b"") for each in timers]
    store.write(changes)
    queue.confirm(changes)


def fresh() -> tuple[Store, TimerQueue]:
    store = MemoryStores().open(0)
    return store, TimerQueue(store, NOW_MS)


def test_timers_fire_soonest_first_and_not_before_their_time() -> None:
    store, queue = fresh()
    add(store, queue, timer(NOW_MS + 30), timer(NOW_MS + 10), timer(NOW_MS + 20))

    assert NOW_MS + 10 == queue.next_due_ms()
    assert [] == queue.take_due(NOW_MS + 9, MANY)
    assert [NOW_MS + 10, NOW_MS + 20] == [each.due_ms for each in queue.take_due(NOW_MS + 20, MANY)]
    assert [NOW_MS + 30] == [each.due_ms for each in queue.take_due(NOW_MS + 99, MANY)]
    assert [] == queue.take_due(NOW_MS + 99, MANY)


def test_no_more_are_taken_than_asked_for_and_the_rest_is_still_due() -> None:
    store, queue = fresh()
    add(store, queue, *(timer(NOW_MS, f"sleeper-{number}") for number in range(10)))

    assert 4 == len(queue.take_due(NOW_MS, 4))
    assert NOW_MS == queue.next_due_ms()
    assert 6 == len(queue.take_due(NOW_MS, MANY))


def test_a_timer_that_was_cancelled_does_not_fire() -> None:
    store, queue = fresh()
    add(store, queue, timer(NOW_MS + 10))
    gone: list[Change] = [(timer_key(timer(NOW_MS + 10)), None)]
    store.write(gone)
    queue.confirm(gone)

    assert [] == queue.take_due(NOW_MS + 10, MANY)


def test_a_timer_far_away_costs_nothing_until_it_comes_near() -> None:
    store, queue = fresh()
    add(store, queue, *(timer(NOW_MS + YEAR_MS, f"sleeper-{number}") for number in range(100)))
    assert queue.next_due_ms() is None

    assert [] == queue.take_due(NOW_MS + YEAR_MS - HORIZON_MS // 4, MANY)
    assert NOW_MS + YEAR_MS == queue.next_due_ms()
    assert 100 == len(queue.take_due(NOW_MS + YEAR_MS, MANY))


def test_timers_that_were_due_while_nobody_was_there_are_found_at_the_start() -> None:
    store = MemoryStores().open(0)
    store.write([(timer_key(timer(NOW_MS - YEAR_MS)), b""), (timer_key(timer(1)), b"")])
    queue = TimerQueue(store, NOW_MS)

    assert [1, NOW_MS - YEAR_MS] == [each.due_ms for each in queue.take_due(NOW_MS, MANY)]


def test_a_timer_that_is_over_when_it_is_confirmed_fires_at_once() -> None:
    store, queue = fresh()
    queue.take_due(NOW_MS + 500, MANY)
    add(store, queue, timer(NOW_MS + 100))

    assert 1 == len(queue.take_due(NOW_MS + 500, MANY))


def test_a_crowd_of_timers_that_are_due_at_once_stays_in_the_store_and_all_of_them_fire() -> None:
    """As after an outage, or at nine in the morning: what is in memory is bounded, whether they were there or are written now."""
    store = MemoryStores().open(0)
    crowd = [timer(NOW_MS + 5_000 - number, f"sleeper-{number}") for number in range(1_000)]
    store.write([(timer_key(each), b"") for each in crowd[:500]])
    queue = TimerQueue(store, NOW_MS, timers_max=20)
    sizes = [len(queue)]
    for start in range(500, 1_000, 50):
        add(store, queue, *crowd[start : start + 50])
        sizes.append(len(queue))
    fired: list[TimerKey] = []
    while (soonest := queue.next_due_ms()) is not None:
        for each in queue.take_due(soonest, 7):
            assert each.due_ms <= soonest
            fired.append(each)
            store.write([(timer_key(each), None)])
        sizes.append(len(queue))

    assert list(reversed(crowd)) == fired
    assert max(sizes) <= 2 * 20


@given(st.integers(0, 1 << 32), st.sampled_from([1, 2, 5, MANY]))
@settings(max_examples=150)
def test_each_timer_fires_once_and_never_early_over_restarts(seed: int, timers_max: int) -> None:
    """Timers come and go at random, time leaps, the owner is replaced; what fires leaves the store as its turn is confirmed."""
    dice = Random(seed)
    store = MemoryStores().open(0)
    now_ms = NOW_MS
    queue = TimerQueue(store, now_ms, timers_max)
    pending: dict[TimerKey, None] = {}
    fired: list[TimerKey] = []
    for number in range(80):
        act = dice.random()
        if act < 0.4:
            added = timer(now_ms + dice.choice([-5, 1, 1_000, 50_000, 70_000, 500_000]), f"sleeper-{number}")
            add(store, queue, added)
            pending[added] = None
        elif act < 0.5 and pending:
            gone = dice.choice(list(pending))
            store.write([(timer_key(gone), None)])
            del pending[gone]
        elif act < 0.6:
            queue = TimerQueue(store, now_ms, timers_max)
        else:
            now_ms += dice.choice([0, 1, 900, 30_000, 45_000, 400_000])
            for each in queue.take_due(now_ms, dice.choice([1, 3, MANY])):
                assert each.due_ms <= now_ms
                assert each in pending
                del pending[each]
                fired.append(each)
                store.write([(timer_key(each), None)])
    last = queue.take_due(now_ms, MANY)

    assert len(fired) == len(set(fired))
    assert {each for each in pending if each.due_ms <= now_ms} == set(last)
    assert len(last) == len(set(last))
