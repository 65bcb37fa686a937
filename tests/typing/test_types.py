"""mypy and pyright infer what a call comes to, and find every mistake in it; what `perdure` exports is fixed."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import perdure

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES, MISTAKES = (Path("tests/typing") / name for name in ("examples.py", "mistakes.py"))

Errors = dict[str, dict[int, str]]
"""By file, the line and the message of each error."""


@cache
def errors_of_mypy() -> Errors:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(EXAMPLES), str(MISTAKES)],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Errors = {EXAMPLES.name: {}, MISTAKES.name: {}}
    for path, line, message in re.findall(r"^(.+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        found[Path(path).name][int(line)] = message
    return found


@cache
def errors_of_pyright() -> Errors:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(EXAMPLES), str(MISTAKES)],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    found: Errors = {EXAMPLES.name: {}, MISTAKES.name: {}}
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            found[Path(each["file"]).name][each["range"]["start"]["line"] + 1] = each["message"]
    return found


CHECKERS = {"mypy": errors_of_mypy, "pyright": errors_of_pyright}


@pytest.mark.parametrize("checker", CHECKERS)
def test_correct_code_has_the_types_that_it_should(checker: str) -> None:
    assert {} == CHECKERS[checker]()[EXAMPLES.name]


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_mistake_is_found_and_nothing_else(checker: str) -> None:
    lines = (ROOT / MISTAKES).read_text(encoding="utf-8").splitlines()
    expected = {number for number, line in enumerate(lines, 1) if line.endswith("# mistake")}
    found = CHECKERS[checker]()[MISTAKES.name]

    assert {number: lines[number - 1].strip() for number in expected - found.keys()} == {}
    assert {number: message for number, message in found.items() if number not in expected} == {}


PUBLIC = """
    Activity ActivityContext App AsyncClient AsyncHandle CancellableTask Client ExternalTask Handle IfExists LimitExceeded Limits
    NonRetriableError Orchestration OrchestrationCanceled OrchestrationContext ReplaySafeLogger RetryPolicy Task TaskCanceledError
    TaskFailedError TimerTask ValueRefused WhenAllTask WhenAnyTask when_all when_any
"""


def test_what_perdure_exports_is_this_and_all_of_it_is_there() -> None:
    assert sorted(PUBLIC.split()) == sorted(perdure.__all__)
    assert [name for name in perdure.__all__ if not hasattr(perdure, name)] == []
    assert set(perdure.__all__) <= set(dir(perdure))
    assert (ROOT / "src" / "perdure" / "py.typed").exists()
