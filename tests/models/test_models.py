"""The rules of the log hold in every state that small models can reach; each rule weakened leads to a fault.

`make models` searches the wider bounds of `tests/models/__main__.py`.
"""

from enum import Enum
from typing import Any

import pytest

from tests.models import messages, ownership, tasks, trimming
from tests.models.search import Model, Searched, search

OWNERSHIP = (ownership.Bounds(), ownership.Bounds(turns=2, parts=2))
MESSAGES = (messages.Bounds(sends=2, crashes=2),)
TASKS = (tasks.Bounds(attempts=2), tasks.Bounds(executions=2))
TRIMMING = (trimming.Bounds(checkpoints=2), trimming.Bounds(instances="xy", checkpoints=1))


def flaws(kind: type[Enum]) -> Any:
    """Every weakened rule, as a test's parameter."""
    return pytest.mark.parametrize("flaw", [each for each in kind if each.name != "NONE"], ids=lambda each: each.name)


def explored(model: Model[Any], title: object) -> Searched[Any]:
    """Search, and show what it came to: with `pytest -s`, and where the test fails."""
    found = search(model)
    print(f"\n{type(model).__name__}, {title}: {found}")
    return found


@pytest.mark.parametrize("bounds", OWNERSHIP)
def test_no_owner_loses_or_doubles_a_turn(bounds: ownership.Bounds) -> None:
    found = explored(ownership.Ownership(bounds), bounds)

    assert (None, True) == (found.fault, found.complete)
    assert found.states > 50_000


@pytest.mark.parametrize("bounds", MESSAGES)
def test_every_message_is_delivered_once_and_in_order(bounds: messages.Bounds) -> None:
    found = explored(messages.Messages(bounds), bounds)

    assert (None, True) == (found.fault, found.complete)
    assert found.states > 50_000


@pytest.mark.parametrize("bounds", TASKS)
def test_a_result_is_that_of_the_attempt_that_history_names(bounds: tasks.Bounds) -> None:
    found = explored(tasks.Tasks(bounds), bounds)

    assert (None, True) == (found.fault, found.complete)
    assert found.states > 10_000


@pytest.mark.parametrize("bounds", TRIMMING)
def test_a_trimmed_log_tells_everything_that_is_wanted(bounds: trimming.Bounds) -> None:
    found = explored(trimming.Trimming(bounds), bounds)

    assert (None, True) == (found.fault, found.complete)
    assert found.states > 5_000


@flaws(ownership.Flaw)
def test_ownership_with_a_rule_weakened_fails(flaw: ownership.Flaw) -> None:
    bounds = ownership.Bounds(parts=2 if flaw is ownership.Flaw.FIRST_PART_COUNTS else 1)

    assert 3 < len(explored(ownership.Ownership(bounds, flaw), flaw.name).story) < 20


@flaws(messages.Flaw)
def test_messages_with_a_rule_weakened_fail(flaw: messages.Flaw) -> None:
    assert 3 < len(explored(messages.Messages(messages.Bounds(), flaw), flaw.name).story) < 25


@flaws(tasks.Flaw)
def test_tasks_with_a_rule_weakened_fail(flaw: tasks.Flaw) -> None:
    assert 0 < len(explored(tasks.Tasks(tasks.Bounds(), flaw), flaw.name).story) < 10


@flaws(trimming.Flaw)
def test_trimming_with_a_rule_weakened_fails(flaw: trimming.Flaw) -> None:
    bounds = trimming.Bounds(checkpoints=2, moves=0)

    assert 3 < len(explored(trimming.Trimming(bounds, flaw), flaw.name).story) < 25
