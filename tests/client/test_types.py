"""The types of the public face: what they infer, and what they refuse."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_results_are_typed_by_their_definitions_and_wrong_inputs_are_refused() -> None:
    """Every `assert_type` holds, and every line that is wrong on purpose is an error: an ignore that is not needed is one too."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/client/typed.py"], cwd=ROOT, capture_output=True, text=True, timeout=250
    )

    assert 0 == done.returncode, done.stdout + done.stderr
