"""The kill test's judge says no to everything that it is there for."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.kill.judge import Account, Effect, judge

GOOD = Account(
    started=Counter(["order"]),
    ended=Counter(["order"]),
    attempts={("order/1", 1), ("order/1", 2), ("order/2", 1)},
    completed=Counter([("order/1", 2), ("order/2", 1)]),
)
EFFECTS: list[Effect] = [("order/1", 1), ("order/1", 2), ("order/2", 1)]


def test_a_repeated_key_with_a_recorded_later_attempt_is_fine() -> None:
    assert [] == judge(["order"], GOOD, EFFECTS)


@pytest.mark.parametrize(
    ("account", "effects", "expected"),
    [
        (replace(GOOD, started=Counter()), EFFECTS, "was acknowledged and is not in the log"),
        (replace(GOOD, started=Counter(order=2)), EFFECTS, "began 2 times"),
        (replace(GOOD, ended=Counter()), EFFECTS, "ended 0 times"),
        (replace(GOOD, ended=Counter(order=2)), EFFECTS, "ended 2 times"),
        (replace(GOOD, bad_ends=["order ended as FAILED"]), EFFECTS, "ended as FAILED"),
        (GOOD, [*EFFECTS, ("order/2", 1)], "attempt 1 of order/2 ran 2 times"),
        (GOOD, [*EFFECTS, ("order/2", 2)], "attempt 2 of order/2 ran and is not recorded"),
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
