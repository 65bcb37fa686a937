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


# What each weakened rule comes to, as the model's judge says it: a flaw that fails for another reason shows nothing.
FAULTS: dict[Enum, str] = {
    ownership.Flaw.EPOCH_FROM_A_COUNTER: "turn 2 was decided on [1], but [] had happened",
    ownership.Flaw.EPOCH_WITHOUT_OFFSET: "turn 2 was decided on [1], but [] had happened",
    ownership.Flaw.OFFSET_WITHOUT_EPOCH: "turn 2 was decided on [1], but [] had happened",
    ownership.Flaw.NO_UNBROKEN_RUN: "turn 3 was decided on [2], but [] had happened",
    ownership.Flaw.REPORTS_OUT_OF_ORDER: "turn 2 acted on the world and is void",
    ownership.Flaw.EFFECTS_BEFORE_CONFIRMATION: "turn 1 acted on the world and is void",
    ownership.Flaw.END_READ_BEFORE_THE_CLAIM: "turn 2 was decided on [], but [1] had happened",
    ownership.Flaw.FIRST_PART_COUNTS: "turn 3 counts, and 1 of its 2 parts are there",
    messages.Flaw.HIGHEST_INSTEAD_OF_NEXT: "x was delivered [3], and was sent [1, 3]",
    messages.Flaw.SEQUENCES_NOT_DENSE: "all is quiet, [] was delivered, and [2] was sent",
    messages.Flaw.ONLY_THE_LOST_SENT_AGAIN: "all is quiet, [1] was delivered, and [1, 2] was sent",
    messages.Flaw.PUBLISHED_BEFORE_CONFIRMATION: "x was delivered [1], and was sent []",
    messages.Flaw.MARK_ALONE_AT_THE_HIGHEST: "all is quiet, [2] was delivered, and [1, 2] was sent",
    messages.Flaw.MARK_ALONE_AT_THE_LOWEST: "y was delivered [2, 2], and was sent [2]",
    messages.Flaw.SOURCE_AHEAD_OF_THE_MARK: "all is quiet, [1] was delivered, and [1, 2] was sent",
    tasks.Flaw.RESULT_WITHOUT_ATTEMPT: "attempt 2 of execution 1 ended, and it was attempt 1 of execution 1",
    tasks.Flaw.RESULT_WITHOUT_EXECUTION: "attempt 1 of execution 2 ended, and it was attempt 1 of execution 1",
    tasks.Flaw.DISPATCHED_AGAIN_UNRECORDED: "two dispatches were the same attempt",
    trimming.Flaw.CHECKPOINT_OF_THE_CONFIRMED_STATE: "of 1 sends acknowledged, and the truth is",
    trimming.Flaw.CARRIED_AS_OF_THE_WRONG_OFFSET: "the reader has {'x': 1}, and the truth is {'x': 2}",
    trimming.Flaw.TRIM_PAST_A_WANTED_HISTORY: "the reader has {}, and the truth is {'x': 1}",
    trimming.Flaw.TRIM_PAST_A_SEND: "a send that was not acknowledged is unknown to the reader",
    trimming.Flaw.TRIM_TO_NO_CHECKPOINT: "base 0 is a turn",
    trimming.Flaw.BASE_NAMED_UNCONFIRMED: "the log was trimmed, and names no base",
    trimming.Flaw.RESET_TO_LATEST: "the reader counts 0 of 0 sends acknowledged, and the truth is",
}


def flaws(kind: type[Enum]) -> Any:
    """Every weakened rule, as a test's parameter."""
    return pytest.mark.parametrize("flaw", [each for each in kind if each.name != "NONE"], ids=lambda each: each.name)


def story_of(model: Model[Any], flaw: Enum) -> tuple[str, ...]:
    """The shortest one that leads to the fault which this flaw is there for."""
    found = explored(model, flaw.name)
    assert FAULTS[flaw] in (found.fault or "")
    return found.story


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

    assert 3 < len(story_of(ownership.Ownership(bounds, flaw), flaw)) < 20


@flaws(messages.Flaw)
def test_messages_with_a_rule_weakened_fail(flaw: messages.Flaw) -> None:
    assert 3 < len(story_of(messages.Messages(messages.Bounds(), flaw), flaw)) < 25


@flaws(tasks.Flaw)
def test_tasks_with_a_rule_weakened_fail(flaw: tasks.Flaw) -> None:
    assert 0 < len(story_of(tasks.Tasks(tasks.Bounds(), flaw), flaw)) < 10


@flaws(trimming.Flaw)
def test_trimming_with_a_rule_weakened_fails(flaw: trimming.Flaw) -> None:
    bounds = trimming.Bounds(checkpoints=2, moves=0)

    assert 3 < len(story_of(trimming.Trimming(bounds, flaw), flaw)) < 25
