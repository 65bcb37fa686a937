"""A parent keeps worker processes running, passes signals on, and ends when they have ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = '''
import os, sys, time
from functools import partial
from pathlib import Path
from threading import Thread
from perdure.processes import run_processes, stop_on_signals

if __name__ != "__main__" and sys.argv[2] == "begins-late":
    Path(sys.argv[1], f"importing-{os.getpid()}").touch()
    time.sleep(3600)

def work(directory, how, slot):
    """Note in a file what happens, until told to stop."""
    path = Path(directory) / f"slot-{slot}"
    def note(text):
        with path.open("a") as file:
            file.write(f"{text} {os.getpid()}\\n")
    stopped = []
    def ask_to_stop():
        stopped.append(True)
        if how == "stubborn":
            note("told")
    stop_on_signals(ask_to_stop)
    note("started")
    if how == "usage":
        return 2
    if how == "dies" and slot == 0 and path.read_text().count("started") < 3:
        os._exit(7)
    while not stopped or how == "stubborn":
        time.sleep(0.01)
    if how == "leaves-a-thread":
        Thread(target=time.sleep, args=(3600,)).start()
    note("stopped")
    return 0

if __name__ == "__main__":
    sys.exit(run_processes(2, partial(work, sys.argv[1], sys.argv[2])))
'''


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Supervised:
    """A parent with two children, in a process of its own."""

    def __init__(self, directory: Path, how: str) -> None:
        (directory / "program.py").write_text(PROGRAM)
        self.directory = directory
        command = [sys.executable, str(directory / "program.py"), str(directory), how]
        self.parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def notes(self, slot: int) -> list[str]:
        path = self.directory / f"slot-{slot}"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self) -> set[int]:
        return {int(line.split()[1]) for slot in (0, 1) for line in self.notes(slot)}

    def until_started(self) -> None:
        until(lambda: all(self.notes(slot) for slot in (0, 1)))

    def words(self, slot: int) -> list[str]:
        return [line.split()[0] for line in self.notes(slot)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Supervised]]:
    running: list[Supervised] = []

    def begin(how: str) -> Supervised:
        running.append(Supervised(tmp_path, how))
        return running[0]

    yield begin
    for supervised in running:
        supervised.parent.kill()
        supervised.parent.wait()
        for pid in filter(alive, supervised.pids()):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_and_the_parent_ends_when_they_have(
    start: Callable[[str], Supervised], number: signal.Signals
) -> None:
    supervised = start("works")
    supervised.until_started()
    supervised.parent.send_signal(number)

    assert 0 == supervised.parent.wait(30)
    assert [["started", "stopped"]] * 2 == [supervised.words(slot) for slot in (0, 1)]


def test_one_that_dies_is_started_again_in_its_slot_and_the_others_go_on(start: Callable[[str], Supervised]) -> None:
    supervised = start("dies")
    until(lambda: supervised.words(0).count("started") == 3)
    supervised.until_started()
    supervised.parent.terminate()

    assert 0 == supervised.parent.wait(30)
    assert ["started", "started", "started", "stopped"] == supervised.words(0)
    assert ["started", "stopped"] == supervised.words(1)
    output = supervised.parent.stdout
    assert output is not None
    assert 2 == output.read().count("worker.died")


def test_children_that_are_stopped_before_they_have_begun_have_stopped_in_order(
    start: Callable[[str], Supervised], tmp_path: Path
) -> None:
    supervised = start("begins-late")
    until(lambda: len(list(tmp_path.glob("importing-*"))) == 2)
    supervised.parent.terminate()

    assert 0 == supervised.parent.wait(30)


def test_a_second_signal_ends_all_at_once(start: Callable[[str], Supervised]) -> None:
    supervised = start("stubborn")
    supervised.until_started()
    supervised.parent.terminate()
    until(lambda: all(supervised.words(slot) == ["started", "told"] for slot in (0, 1)))
    assert supervised.parent.poll() is None
    supervised.parent.terminate()

    assert 1 == supervised.parent.wait(30)
    assert not any(map(alive, supervised.pids()))


def test_a_usage_error_is_not_tried_again(start: Callable[[str], Supervised]) -> None:
    supervised = start("usage")

    assert 2 == supervised.parent.wait(30)
    # One of the two ends first, and the other is told to stop, maybe before it began.
    words = [supervised.words(slot) for slot in (0, 1)]
    assert ["started"] in words
    assert max(map(len, words)) == 1


def test_children_stop_in_order_when_their_parent_is_killed(start: Callable[[str], Supervised]) -> None:
    supervised = start("works")
    supervised.until_started()
    supervised.parent.kill()

    until(lambda: all(supervised.words(slot) == ["started", "stopped"] for slot in (0, 1)))


def test_a_thread_that_nobody_waits_for_keeps_no_process(start: Callable[[str], Supervised]) -> None:
    """As `asyncio.to_thread` leaves behind in an activity whose time is over."""
    supervised = start("leaves-a-thread")
    supervised.until_started()
    supervised.parent.terminate()

    assert 0 == supervised.parent.wait(30)
    assert [["started", "stopped"]] * 2 == [supervised.words(slot) for slot in (0, 1)]
