"""The checkers' numbers: the same in the code, in ARCHITECTURE.md and in whatever a checker reports."""

import re
from pathlib import Path

from .judge import CHECKERS

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r'(?:Violation|_report)\(\s*"(C\d+)"')


def test_every_checker_is_numbered_in_the_architecture() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^- \*\*(C\d+)\*\* (.*)$", text, re.MULTILINE))

    assert list(CHECKERS) == list(stated)
    for number, meaning in CHECKERS.items():
        assert stated[number].lower().startswith(meaning.lower())


def test_what_is_reported_has_a_number_that_exists_and_every_number_is_reported() -> None:
    folders = (ROOT / "tests" / "checkers", ROOT / "tests" / "simulation")
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py")]
    used = {number for source in sources for number in NUMBER.findall(source)}

    assert set(CHECKERS) == used
