"""docs/RELIABILITY.md has a row for every invariant and every fault; each names tests, checkers and faults that exist, or says why it
does not apply. Checked by reading, not by running."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.chaos.storm import storms
from tests.checkers.judge import CHECKERS
from tests.documents import ROOT, TEST_ID, missing_tests, rows_of
from tests.simulation.faults import Fault

TEXT = (ROOT / "docs" / "RELIABILITY.md").read_text(encoding="utf-8")
NUMBERS = [f"I{number}" for number in range(1, 47)] + [f"F{number}" for number in range(1, 46)]
SIMULATED = {fault.name for fault in Fault}
RAGING = {name for weather in storms(1, 1.0) for name in weather.planned}
_REASON = re.compile(r"Does not apply: .{20,}\.$")
_CHECKER = re.compile(r"\bC\d+\b")
_SIMULATED = re.compile(r"`([A-Z_]{3,})`")
_RAGING = re.compile(r"`([a-z]+\.[a-z-]+)`")


def flaws_of(text: str) -> Iterator[str]:
    """Everything that is wrong with the document."""
    rows = [row for row in rows_of(text) if row[0] in NUMBERS]
    numbers = [row[0] for row in rows]
    yield from (f"{number} has {numbers.count(number)} rows" for number in NUMBERS if numbers.count(number) != 1)
    yield from (f"{row[0]} says nothing" for row in rows if not all(row[1:2]))
    yield from (f"{row[0]} has neither a test nor a reason" for row in rows if not _is_held(row[-1]))
    yield from (f"there is no {test_id}" for test_id in missing_tests(text))
    cited, simulated = set(_CHECKER.findall(text)), set(_SIMULATED.findall(text))
    yield from (f"there is no checker {number}" for number in cited - set(CHECKERS))
    yield from (f"the simulator has no fault {name}" for name in simulated - SIMULATED)
    judged = {number for row in rows for number in _CHECKER.findall(row[2])}
    yield from (f"no row has the checker {number}" for number in set(CHECKERS) - judged)
    yield from (f"no row has the simulator's {name}" for name in SIMULATED - simulated)
    raging = set(_RAGING.findall("".join(row[-1] for row in rows)))
    yield from (f"make chaos has no fault {name}" for name in raging - RAGING)
    yield from (f"no row has {name} of make chaos" for name in RAGING - raging)


def _is_held(cell: str) -> bool:
    return bool(TEST_ID.search(cell)) or bool(_REASON.match(cell))


def test_every_row_names_what_exists_or_says_why_it_does_not_apply() -> None:
    assert [] == list(flaws_of(TEXT))


def row(number: str) -> str:
    (line,) = (line for line in TEXT.splitlines() if line.startswith(f"| {number} |"))
    return line


@pytest.mark.parametrize(
    ("old", "new", "flaw"),
    [
        (row("I7") + "\n", "", "I7 has 0 rows"),
        (row("F9"), f"{row('F9')}\n{row('F9')}", "F9 has 2 rows"),
        (row("I1"), TEST_ID.sub("", row("I1")), "I1 has neither a test nor a reason"),
        (
            row("F10"),
            row("F10").replace("Does not apply: ", "").replace("`", ""),
            "F10 has neither a test nor a reason",
        ),
        (
            "::test_a_hole_in_a_run_is_broken",
            "::test_a_hole",
            "there is no tests/partitions/test_reader.py::test_a_hole",
        ),
        ("tests/test_kill.py::", "tests/test_killed.py::", "there is no tests/test_killed.py::"),
        ("| C20 |", "| C99 |", "there is no checker C99"),
        ("| C20 |", "| |", "no row has the checker C20"),
        ("`CRASH`", "`CRASHED`", "the simulator has no fault CRASHED"),
        ("`CRASH`", "", "no row has the simulator's CRASH"),
        ("`worker.zombie`", "`worker.ghost`", "make chaos has no fault worker.ghost"),
        ("`worker.zombie`", "", "no row has worker.zombie of make chaos"),
    ],
)
def test_a_row_that_is_missing_doubled_empty_or_untrue_is_found(old: str, new: str, flaw: str) -> None:
    assert any(found.startswith(flaw) for found in flaws_of(TEXT.replace(old, new)))


def test_every_commit_of_the_record_can_be_checked_out() -> None:
    """A stranger is to run any line again."""
    if not (ROOT / ".git").exists():
        pytest.skip("no history here")
    commits = set(re.findall(r"`([0-9a-f]{7,40})`", TEXT))
    known = subprocess.run(["git", "log", "--format=%H", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert [] == [commit for commit in commits if f"\n{commit}" not in f"\n{known.stdout}"]
