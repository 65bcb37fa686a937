"""Decisions do not depend on the process that makes them: the seed of its hashes, its time zone, its locale."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PLACES = [
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kolkata", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "4711", "TZ": "America/New_York", "LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
    {"PYTHONHASHSEED": "random", "TZ": "Pacific/Apia", "LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"},
]


def test_what_is_recorded_is_the_same_byte_for_byte_wherever_it_runs() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.actors.decide"], cwd=ROOT, env={**os.environ, **place}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for place in PLACES
    ]  # fmt: skip
    outputs = [process.communicate(timeout=200) for process in running]

    assert [(0, b"")] * len(PLACES) == [
        (process.returncode, errors) for process, (_, errors) in zip(running, outputs, strict=True)
    ]
    printed = [output.decode("utf-8").splitlines() for output, _ in outputs]
    assert len(printed[0]) > 300
    for other in printed[1:]:
        differing = [pair for pair in zip(printed[0], other, strict=True) if pair[0] != pair[1]]
        assert [] == differing[:1]
