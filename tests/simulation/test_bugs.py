"""Planted bugs: each is caught by the checker that is there for it, in a run that passes without it.

With `-s` each tells its shortest story; `make bugs` looks longer for a shorter one.
"""

import os

import pytest

from tests.checkers.judge import CHECKERS

from .bugs.catalogue import BUGS
from .bugs.planting import Bug, BugRotten, Edit, planted, scenario_of
from .shrink import shrink
from .story import tell
from .verdict import Verdict, try_scenario

TRIES = int(os.environ.get("SIMULATION_TRIES", "8"))


def first_caught(bug: Bug) -> Verdict | None:
    """The first run with the bug in which one of its checkers finds something."""
    for seed in range(bug.seeds):
        verdict = try_scenario(scenario_of(bug, seed))
        if verdict.checkers & set(bug.caught_by):
            return verdict
    return None


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name.replace(" ", "-") for bug in BUGS])
def test_a_planted_bug_is_caught_by_its_checker(bug: Bug) -> None:
    with planted(bug):
        caught = first_caught(bug)
        assert caught is not None, f"{bug.name}: none of {bug.caught_by} found anything in {bug.seeds} runs"
        shortest = shrink(caught, TRIES, frozenset(bug.caught_by))
        found = [str(each) for each in shortest.violations if each.checker in bug.caught_by]
        print(f"\n{bug.name}: {found[0]}", tell(shortest.scenario), sep="\n")

    assert () == try_scenario(caught.scenario).violations
    assert () == try_scenario(shortest.scenario).violations


def test_there_are_enough_of_them() -> None:
    assert len({bug.name for bug in BUGS}) == len({bug.edits for bug in BUGS}) == len(BUGS) >= 40


def test_every_checker_has_a_bug_that_it_catches() -> None:
    assert set(CHECKERS) == {number for bug in BUGS for number in bug.caught_by}


def test_a_bug_whose_code_has_changed_says_so() -> None:
    rotten = Bug("rotten", ("C1",), (Edit("partitions.reader:_judge", "what was never there", "False"),))
    gone = Bug("gone", ("C1",), (Edit("partitions.reader:_was_never_there", "x", "y"),))

    for bug in (rotten, gone):
        with pytest.raises(BugRotten), planted(bug):
            pass


def test_what_was_planted_is_taken_out_again() -> None:
    before = {edit.where: code_of(edit) for bug in BUGS for edit in bug.edits}
    for bug in BUGS:
        with planted(bug):
            assert all(code_of(edit) is not before[edit.where] for edit in bug.edits)

    assert before == {edit.where: code_of(edit) for bug in BUGS for edit in bug.edits}


def code_of(edit: Edit) -> object:
    from .bugs.planting import find

    return find(edit.where).__code__
