"""Values of the core are frozen: at run time where the environment asks for the guard, and equal and hashed by value everywhere.

That type checkers refuse an assignment to a field, guard or not, is shown by tests/typing.
"""

import os
import subprocess
import sys

import pytest

from perdure.schemas.frozen import GUARD_VARIABLE

PROGRAM = """
from dataclasses import FrozenInstanceError
from perdure.schemas.events import TaskCompleted

one, same, other = TaskCompleted(1, 1), TaskCompleted(1, 1), TaskCompleted(2, 1)
assert one == same != other
assert {one: "one", other: "other"}[same] == "one"
assert not hasattr(one, "__dict__")
try:
    one.attempt = 2
    print("changed")
except FrozenInstanceError:
    print("guarded")
"""


@pytest.mark.parametrize(("guard", "outcome"), [("1", "guarded"), ("", "changed")])
def test_values_are_equal_by_value_and_guarded_on_demand(guard: str, outcome: str) -> None:
    environment = {**os.environ, GUARD_VARIABLE: guard}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert (outcome, "") == (done.stdout.strip(), done.stderr)
