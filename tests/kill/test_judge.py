"""The kill test's judge says no to everything that it is there for."""

from collections import Counter
from dataclasses import replace

import pytest

from perdure.schemas import events as ev
from tests.kill.interruptions import Kill, Toll, find_blamed, take_toll
from tests.kill.judge import Account, Effect, Epoch, judge

GOOD = Account(
    started=Counter(["order"]),
    ended=Counter(["order"]),
    attempts={("order/1", 1), ("order/1", 2), ("order/2", 1)},
    completed=Counter([("order/1", 2), ("order/2", 1)]),
)
EFFECTS = [Effect("order/1", 1, 7), Effect("order/1", 2, 8), Effect("order/2", 1, 7)]


def test_a_repeated_key_with_a_recorded_later_attempt_is_fine() -> None:
    assert [] == judge(["order"], GOOD, EFFECTS)


@pytest.mark.parametrize(
    ("account", "effects", "expected"),
    [
        (replace(GOOD, started=Counter()), EFFECTS, "was acknowledged and is not in the log"),
        (replace(GOOD, started=Counter(order=2)), EFFECTS, "began 2 times"),
        (replace(GOOD, ended=Counter()), EFFECTS, "ended 0 times"),
        (replace(GOOD, ended=Counter(order=2)), EFFECTS, "ended 2 times"),
        (replace(GOOD, bad_ends={"order": ev.Status.FAILED}), EFFECTS, "order ended as FAILED"),
        (
            replace(GOOD, bad_ends={"order": ev.Status.FAILED}, crashed={("other/1", 3)}),
            EFFECTS,
            "order ended as FAILED",
        ),
        (
            replace(GOOD, bad_ends={"order": ev.Status.TERMINATED}, crashed={("order/1", 3)}),
            EFFECTS,
            "order ended as TERMINATED",
        ),
        (GOOD, [*EFFECTS, Effect("order/2", 1, 8)], "attempt 1 of order/2 ran 2 times"),
        (GOOD, [*EFFECTS, Effect("order/2", 2, 8)], "attempt 2 of order/2 ran and is not recorded"),
        (GOOD, EFFECTS[:2], "attempt 1 of order/2 completed and never ran"),
        (replace(GOOD, completed=Counter([("order/1", 2)])), EFFECTS, "order/2 ran and never completed"),
        (
            replace(GOOD, completed=Counter([("order/1", 1), ("order/1", 2), ("order/2", 1)])),
            EFFECTS,
            "order/1 completed in 2 attempts",
        ),
    ],
)
def test_what_is_lost_or_doubled_is_named(account: Account, effects: list[Effect], expected: str) -> None:
    assert [] != [line for line in judge(["order"], account, effects) if expected in line]


# Three owners of one partition, each killed with the next attempt of order/1 out.
THRICE = [
    Epoch(pid, 100 * pid, {("order/1", pid - 6)}, {("order/1", pid - 7)} if pid > 7 else set()) for pid in (7, 8, 9)
]
KILLS = [Kill(pid, 100 * pid + 50) for pid in (7, 8, 9)]


def test_a_chain_may_fail_where_kills_met_an_activity_of_it_three_times_in_a_row() -> None:
    attempts = {("order/1", number) for number in (1, 2, 3)}
    account = replace(
        GOOD,
        attempts=attempts,
        completed=Counter(),
        crashed={("order/1", 3)},
        bad_ends={"order": ev.Status.FAILED},
        epochs=[THRICE],
    )
    effects = [Effect("order/1", number, number + 6) for number in (1, 2, 3)]

    assert [] == judge(["order"], account, effects)
    assert [] == find_blamed(KILLS, account)


@pytest.mark.parametrize("spared", range(3))
def test_an_activity_that_failed_though_one_of_its_owners_lived_is_named(spared: int) -> None:
    account = replace(GOOD, crashed={("order/1", 3)}, epochs=[THRICE])
    kills = [kill for number, kill in enumerate(KILLS) if number != spared]
    early = [*kills, replace(KILLS[spared], time_ms=100 * KILLS[spared].pid - 1)]

    assert find_blamed(kills, account) == find_blamed(early, account) != []


# Process 7 owned the partition from time 100 on and was killed at 200, in the midst of attempt 1 of order/1; 8 came after it.
KILL = Kill(7, 200)
VICTIM = Epoch(7, 100, {("order/1", 1), ("order/2", 1)})
HEIR = Epoch(8, 300, {("order/1", 2)}, {("order/1", 1)})
KILLED = replace(
    GOOD, epochs=[[VICTIM, HEIR]], began_ms={"order": 150, "late": 201, "early": 90}, ended_ms={"early": 200}
)


def test_a_kill_is_charged_with_the_attempt_that_it_interrupted() -> None:
    assert Toll(1, frozenset({("order/1", 1)})) == take_toll(KILL, KILLED, EFFECTS)


@pytest.mark.parametrize(
    ("kill", "account", "effects"),
    [
        pytest.param(Kill(9, 200), KILLED, EFFECTS, id="another process"),
        pytest.param(Kill(7, 301), KILLED, EFFECTS, id="the partition was another's by then"),
        pytest.param(KILL, KILLED, EFFECTS[1:], id="the attempt never ran"),
        pytest.param(KILL, KILLED, [replace(EFFECTS[0], pid=6), *EFFECTS[1:]], id="the attempt ran elsewhere"),
        pytest.param(
            KILL, replace(KILLED, epochs=[[VICTIM, replace(HEIR, gave_up=set())]]), EFFECTS, id="nothing was given up"
        ),
        pytest.param(
            KILL,
            replace(KILLED, epochs=[[replace(VICTIM, dispatched=set()), HEIR]]),
            EFFECTS,
            id="not dispatched by it",
        ),
        pytest.param(
            KILL, replace(KILLED, completed=Counter([("order/1", 1)])), EFFECTS, id="the attempt completed all the same"
        ),
    ],
)
def test_a_kill_that_interrupted_nothing_does_not_count(kill: Kill, account: Account, effects: list[Effect]) -> None:
    assert frozenset() == take_toll(kill, account, effects).interrupted


def test_a_kill_counts_only_under_enough_unfinished_instances() -> None:
    assert [False, True, False] == [
        Toll(199, frozenset({("a", 1)})).counts,
        Toll(200, frozenset({("a", 1)})).counts,
        Toll(200, frozenset()).counts,
    ]
