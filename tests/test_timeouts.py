"""A test whose time is over ends, whatever it was doing."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENDLESS = """
import time
from hypothesis import given, strategies as st
from tests.conftest import *

@given(st.integers())
def test_of_hypothesis(number):
    while True:
        time.sleep(0.01)
"""


def test_a_property_that_never_ends_is_ended_once_and_for_all(tmp_path: Path) -> None:
    """Hypothesis takes what pytest fails with for a finding, and would run it again to make it shorter: without an end."""
    (tmp_path / "test_endless.py").write_text(ENDLESS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        "timeout=2",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        ".",
    ]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=100)

    assert 1 == done.returncode, done.stdout + done.stderr
    assert "TooLong: Timeout (>2.0s)" in done.stdout
