"""TurnWatchdog: interrupts a turn that blocks or never ends, so that the other instances go on, and names what else keeps the engine.

Rules of this file: author's code is interrupted by an exception raised inside it, which it cannot mistake for its own; nothing is
raised once the turn is over. What Python cannot interrupt (a call in C that does not return) is named in an alarm, and so is an
async activity that blocks: it may have done half of what it does, so nothing is raised in it.
"""

import contextlib
import ctypes
import faulthandler
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import TypeVar

import structlog

from perdure.actors.errors import TurnInterrupted

from .place import PLACE

T = TypeVar("T")

_log = structlog.get_logger(__name__)
# Its default action is to be ignored, and next to nothing else uses it: a stray one does no harm.
_SIGNAL = signal.SIGURG
_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc


class TurnWatchdog:
    """`watch` runs every turn, on the thread that made it. A turn longer than `seconds_max` ends with TurnInterrupted, whatever the
    code made of it; one that still runs after twice that is named in an alarm.

    With `dump_stacks` the stacks of all threads go to stderr when not even this thread can run (a call in C that keeps the GIL).
    """

    def __init__(self, seconds_max: float, *, dump_stacks: bool = False) -> None:
        self._seconds_max = seconds_max
        self._stderr = sys.stderr if dump_stacks else None
        self._engine = threading.get_ident()
        self._on_main = threading.current_thread() is threading.main_thread()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._began = 0.0  # 0: no turn is running
        self._turn = 0
        self._doomed = -1
        self._signalled = False  # a signal is on its way, or its handler has not begun
        self._previous_action = signal.signal(_SIGNAL, self._on_signal) if self._on_main else None
        self._postpone_dump()
        self._thread = threading.Thread(target=self._watch, name="perdure-turn-watchdog", daemon=True)
        self._thread.start()

    def watch(self, act: Callable[[], T]) -> T:
        """Run one turn.

        A call, and not a context: an interrupt that comes just when the turn ends is raised where `__exit__` begins, before anything
        in it could catch it. Here it is raised in `act`, or in `_leave`, and both are within.
        """
        turn, finished = self._turn, False
        self._began = monotonic()
        try:
            result = act()
            finished = True
        finally:
            try:
                self._leave(turn)
            except TurnInterrupted:
                self._leave(turn)  # it was raised just here; the next one is a quarter of the limit away
            if self._doomed == turn:
                self._end_doomed(finished=finished)
        return result

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._on_main:
            signal.signal(_SIGNAL, self._previous_action)

    def _leave(self, turn: int) -> None:
        with self._lock:
            self._began = 0.0
            self._turn = turn + 1

    def _end_doomed(self, *, finished: bool) -> None:
        """The turn was to be interrupted. Nothing may be raised after it, and it may not pass for a turn that was not."""
        if not self._on_main:
            # Under way, or not: after this call it is neither.
            with contextlib.suppress(TurnInterrupted):
                _raise_in_thread(ctypes.c_ulong(self._engine), None)
        if finished:
            raise TurnInterrupted

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        """On the engine's thread, between two of its instructions: the turn is running, or it is over."""
        self._signalled = False
        if self._began and self._doomed == self._turn:
            raise TurnInterrupted

    def _watch(self) -> None:
        alarmed, told = -1, 0.0
        while not self._stop.wait(self._seconds_max / 4):
            self._postpone_dump()
            told = self._look_at_activities(told)
            turn, began = self._turn, self._began
            lasted = monotonic() - began if began else 0.0
            if lasted < self._seconds_max:
                continue
            if lasted >= 2 * self._seconds_max and alarmed != turn:
                alarmed = turn
                self._alarm(lasted)
            self._interrupt(turn)
        if self._stderr is not None:
            faulthandler.cancel_dump_traceback_later()

    def _look_at_activities(self, told: float) -> float:
        """Tell once of async activities that keep the engine: return since when those do that were told of."""
        since = PLACE.loop_since
        lasted = monotonic() - since
        if not since or since == told or lasted < self._seconds_max:
            return told
        _log.error("activity.blocks_the_engine", seconds=round(lasted, 1), stack=self._stack())
        return since

    def _postpone_dump(self) -> None:
        """Dump the stacks unless this is called again in time: while the GIL is kept, only a thread in C can."""
        if self._stderr is not None:
            # Of the process's own, whatever an activity has put in its place; where that is no file there is no dump.
            with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):
                faulthandler.dump_traceback_later(2.25 * self._seconds_max, exit=False, file=self._stderr)

    def _interrupt(self, turn: int) -> None:
        with self._lock:
            if self._turn != turn or not self._began:
                return
            self._doomed = turn
            if not self._on_main:
                _raise_in_thread(ctypes.c_ulong(self._engine), ctypes.py_object(TurnInterrupted))
        if self._on_main and not self._signalled:
            # A signal ends a blocking call as well; the handler raises only while this turn lasts. One at a time: on a busy
            # machine they would come faster than their handlers, each of which would be interrupted before it begins.
            self._signalled = True
            signal.pthread_kill(self._engine, _SIGNAL)

    def _alarm(self, lasted: float) -> None:
        _log.error("turn.cannot_be_interrupted", seconds=round(lasted, 1), stack=self._stack(), **PLACE.fields())

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._engine)
        return "".join(traceback.format_stack(frame)) if frame is not None else "unknown"
