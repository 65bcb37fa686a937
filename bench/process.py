"""Running the `perdure` command, as a user would."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .measure import BenchmarkFailed

APP = "bench.jobs:app"
STATE = Path("build/bench")


def perdure(environment: Mapping[str, str], *words: str) -> str:
    """Run one command to its end; anything but exit 0 is the end of the benchmark."""
    command = [sys.executable, "-m", "perdure", *words]
    finished = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        said = f"{finished.stdout}{finished.stderr}".strip()
        raise BenchmarkFailed(f"`perdure {' '.join(words)}` ended with {finished.returncode}: {said[-2000:]}")
    return finished.stdout
