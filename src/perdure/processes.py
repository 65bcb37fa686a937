"""Worker processes: how one ends on a signal, and a parent that keeps several of them running."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from time import monotonic
from types import FrameType
from typing import NoReturn

import structlog

_log = structlog.get_logger("perdure.processes")
RESTART_PAUSE_SECONDS = 0.5
RESTART_PAUSE_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0
LEAVE_SECONDS = 1.0
USAGE_ERROR = 2
"""The exit code of a process that would end in the same way again: it is not restarted."""


def stop_on_signals(ask_to_stop: Callable[[], None]) -> None:
    """SIGTERM or SIGINT asks; a second one ends the process at once, which loses nothing: the log has it all."""
    asked = False

    def act(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        ask_to_stop()

    signal.signal(signal.SIGTERM, act)
    # A terminal sends SIGINT to parent and children alike; the parent's SIGTERM is what counts for a child.
    signal.signal(signal.SIGINT, act if multiprocessing.parent_process() is None else signal.SIG_IGN)


def run_processes(count: int, run: Callable[[int], int]) -> int:
    """Run `run(slot)` in `count` processes, slots 0 to count - 1, until they are told to stop; restart those that die.

    `run` is pickled: a function of a module, or a `functools.partial` of one. What it returns is the exit code; 0 means that the
    process was told to stop, USAGE_ERROR that there is no point in another try. Returns 0 if all ended in order.
    """
    return _Supervisor(count, run).run()


@dataclass(slots=True)
class _Slot:
    """One child's place. `start_at` is when the next one starts there; None while one runs, or when none is wanted."""

    process: SpawnProcess | None = None
    start_at: float | None = 0.0
    started_at: float = 0.0
    deaths_in_a_row: int = 0


class _Supervisor:
    """Starts, watches and stops the children. Lives on the main thread."""

    def __init__(self, count: int, run: Callable[[int], int]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._run_slot = run
        self._slots = {number: _Slot() for number in range(count)}
        self._signals = 0
        self._signals_passed_on = 0
        self._worst = 0

    def run(self) -> int:
        before = {number: signal.signal(number, self._note_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while True:
                self._pass_on_signals()
                self._start_due()
                running = [slot.process.sentinel for slot in self._slots.values() if slot.process is not None]
                if not running and all(slot.start_at is None for slot in self._slots.values()):
                    return self._worst
                connection.wait(running, timeout=0.2)
                self._reap()
        finally:
            for number, action in before.items():
                signal.signal(number, action)

    def _note_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _pass_on_signals(self) -> None:
        if self._signals_passed_on == self._signals:
            return
        for slot in self._slots.values():
            slot.start_at = None
            if slot.process is not None:
                # The second one: at once, as in the children.
                slot.process.kill() if self._signals > 1 else slot.process.terminate()
        self._signals_passed_on = self._signals

    def _start_due(self) -> None:
        for number, slot in self._slots.items():
            if slot.start_at is not None and monotonic() >= slot.start_at:
                slot.process = self._context.Process(
                    target=_run_child, args=(self._run_slot, number), name=f"worker-{number}"
                )
                slot.process.start()
                slot.start_at, slot.started_at = None, monotonic()

    def _reap(self) -> None:
        for number, slot in self._slots.items():
            if slot.process is None or slot.process.exitcode is None:
                continue
            code, slot.process = slot.process.exitcode, None
            if code == 0 or self._signals:
                # One that SIGTERM ends had not begun: from then on it has an answer to it.
                self._worst = max(self._worst, int(code not in (0, -signal.SIGTERM)))
            elif code == USAGE_ERROR:
                self._worst = USAGE_ERROR
                self._signals = max(self._signals, 1)
            else:
                self._plan_restart(number, slot, code)

    def _plan_restart(self, number: int, slot: _Slot, code: int) -> None:
        now = monotonic()
        slot.deaths_in_a_row = 1 if now - slot.started_at > STEADY_SECONDS else slot.deaths_in_a_row + 1
        pause = min(RESTART_PAUSE_SECONDS * 2 ** (slot.deaths_in_a_row - 1), RESTART_PAUSE_SECONDS_MAX)
        slot.start_at = now + pause
        _log.error("worker.died", slot=number, exit_code=code, again_in_seconds=pause)


def end_process(code: int) -> NoReturn:
    """Exit, also where threads go on that nobody waits for: an activity's `asyncio.to_thread` has no other end than its function's,
    and Python would wait for it. librdkafka's threads call into Python as long as a handle of it lives, and an interpreter that is
    being taken down can die of that, so where it was loaded the process ends without being taken down."""
    main, until = threading.main_thread(), monotonic() + LEAVE_SECONDS
    others = [thread for thread in threading.enumerate() if thread is not main and not thread.daemon]
    for thread in others:
        thread.join(max(until - monotonic(), 0))
    left = [thread.name for thread in others if thread.is_alive()]
    if left:
        _log.warning("process.threads_left", threads=left)
    if left or "confluent_kafka" in sys.modules:
        logging.shutdown()
        with suppress(OSError):  # who read it may be gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run_child(run: Callable[[int], int], slot: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, name="perdure-follow-parent", daemon=True).start()
    end_process(run(slot))


def _follow_parent() -> None:
    """Stop in order when the parent is gone: nobody would restart us, and its successor wants our store directory."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
