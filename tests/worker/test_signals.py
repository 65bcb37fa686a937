"""A worker process that is told to stop lets its activities end, hands over, and exits 0."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, time
from pathlib import Path
from perdure.processes import stop_on_signals
from perdure.schemas.messages import Start
from tests.worker.engine import Engine, OneActivityApp

def slow(value):
    print("began", flush=True)
    time.sleep(float(sys.argv[2]))
    print("ended", flush=True)
    return value

engine = Engine(Path(sys.argv[1]), OneActivityApp(slow=slow))
stop_on_signals(engine.worker.ask_to_stop)
engine.ask("order", Start("slow"))
engine.worker.run()
print("stopped", flush=True)
engine.stores.close()
engine.log.close()
"""


def begin(directory: Path, seconds: float) -> "subprocess.Popen[str]":
    """A worker in an activity that takes so long."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), str(seconds)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "began\n":
            return process
    raise AssertionError("the activity did not begin")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(tmp_path: Path, number: signal.Signals) -> None:
    process = begin(tmp_path, 1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)

    assert 0 == process.returncode
    assert ["ended", "stopped"] == [line for line in output.splitlines() if line in {"ended", "stopped"}]


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    process = begin(tmp_path, 60)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    for line in process.stdout:
        if "worker.draining" in line:
            break
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)

    assert 128 + signal.SIGTERM == process.returncode
    assert "stopped" not in output
