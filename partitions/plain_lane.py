"""Plain activity functions in threads, which take one after the other.

Rules of this file: a thread goes on until nothing waits, so a batch of short functions costs one hop; threads that are seen to
be in long ones get company, so those run side by side. What threads and engine share is a deque in each direction.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from time import monotonic
from typing import cast

from perdure.actors.failures import failure_of
from perdure.schemas.events import NULL, Failure

from .ports import Clock
from .run import FOREVER, Run

Finished = tuple[Run, bytes, Failure | None]
# A thread hop costs 50 to 120 us; a function that lasts longer than this is worth one more.
_ESCALATE_SECONDS = 0.0005
# Threads that have begun nothing for so long wait for the processor; more of them would not help, unless something is odd.
_STARVED_SECONDS = 0.05
_POLL_SECONDS = 0.001


class PlainLane:
    """Runs at most `running_max` functions at a time. `wake` is called from threads when results are there."""

    def __init__(self, wake: Callable[[], None], clock: Clock, running_max: int) -> None:
        self._wake = wake
        self._clock = clock
        self._running_max = running_max
        self._ready: deque[Run] = deque()
        self._finished: deque[Finished] = deque()
        self._idle: deque[SimpleQueue[None]] = deque()
        self._threads: list[SimpleQueue[None]] = []
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._lingers = False
        self._signalled = False
        self._closed = False
        # How many were ever added and not taken back, and how many ends the engine has seen.
        self._added = 0
        self._ended = 0
        # The last time that threads were woken: when, how many, and how many functions had been taken by then.
        self._woken_at = 0.0
        self._woken = 0
        self._taken_then = 0

    @property
    def queued(self) -> int:
        return len(self._ready)

    @property
    def running(self) -> int:
        """Functions that threads have taken and whose end the engine has not seen, abandoned ones included."""
        return self._added - len(self._ready) - self._ended

    def add(self, run: Run) -> None:
        self._ready.append(run)
        self._added += 1

    def forget_queued(self) -> list[Run]:
        """Take back what no thread has taken."""
        queued: list[Run] = []
        while self._ready:
            try:
                queued.append(self._ready.popleft())
            except IndexError:
                break
        self._added -= len(queued)
        return queued

    def take_finished(self) -> list[Finished]:
        """What has ended since the last call, in that order."""
        self._signalled = False  # before looking: whoever finishes from here on wakes us again
        out: list[Finished] = []
        while self._finished:
            out.append(self._finished.popleft())
        self._ended += len(out)
        return out

    def step(self) -> bool:
        """Wake threads for what waits; True if any was."""
        if not self._ready:
            return False
        wanted = self._wanted(monotonic())
        for _ in range(wanted):
            try:
                self._idle.popleft().put(None)
            except IndexError:
                if len(self._threads) >= self._running_max:
                    break
                self._start_thread()
        return wanted > 0

    def linger(self) -> bool:
        """Give functions that have just begun the moment that short ones last; True if any has ended."""
        if self._added == self._ended:
            return False
        self._lingers = True  # before looking, as in take_finished
        # A bell that rang for the wait before, which was over by then, says nothing of this one.
        while not self._finished and (left := self._woken_at + _ESCALATE_SECONDS - monotonic()) > 0:
            with suppress(Empty):
                self._bell.get(timeout=left)
        self._lingers = False
        return bool(self._finished)

    def wait_seconds(self) -> float:
        return _POLL_SECONDS if self._ready and not self._full else FOREVER

    def close(self) -> None:
        """Let idle threads end; those that run a function end with it, or with the process."""
        self._closed = True
        for thread in self._threads:
            thread.put(None)

    @property
    def _full(self) -> bool:
        return not self._idle and len(self._threads) >= self._running_max

    def _wanted(self, now: float) -> int:
        """How many threads to wake now: twice as many as before, once each of those has begun a function and is in it still."""
        taken = self._added - len(self._ready)
        begun, since = taken - self._taken_then, now - self._woken_at
        if len(self._idle) == len(self._threads):
            woken = 1
        elif begun == self._woken and since >= _ESCALATE_SECONDS:
            woken = max(2 * self._woken, 1)
        elif begun > self._woken:
            woken = 0  # they end soon
        elif since >= _STARVED_SECONDS:
            woken = 1
        else:
            return 0
        self._woken_at, self._taken_then = now, taken
        self._woken = min(woken, len(self._ready))
        return self._woken

    def _start_thread(self) -> None:
        inbox: SimpleQueue[None] = SimpleQueue()
        self._threads.append(inbox)
        inbox.put(None)
        name = f"perdure-activity-{len(self._threads)}"
        threading.Thread(target=self._work, args=(inbox,), name=name, daemon=True).start()

    def _work(self, inbox: "SimpleQueue[None]") -> None:
        while True:
            inbox.get()
            if self._closed:
                return
            while True:
                try:
                    run = self._ready.popleft()
                except IndexError:
                    break
                self._finished.append(_finish(run, self._clock))
                # While functions wait the engine looks by itself, so a batch of short ones wakes it once.
                if not self._ready or self._full:
                    self._signal()
            self._idle.append(inbox)
            if self._ready:  # added since the look above, by an engine that saw this thread at work
                self._signal()

    def _signal(self) -> None:
        if self._lingers:
            # The engine looks for what has ended once more when it lingers no longer, so it need not be woken too.
            self._lingers = False
            self._bell.put(None)
        elif not self._signalled:
            self._signalled = True
            self._wake()


def _finish(run: Run, clock: Clock) -> Finished:
    if not run.wanted:
        return run, NULL, None
    run.started = clock.monotonic()
    try:
        # A context of its own: what one activity sets there, the next one does not see.
        return run, cast("bytes", Context().run(run.invoke, run)), None
    except BaseException as error:  # noqa: BLE001 - an activity's SystemExit ends the activity, not the thread
        return run, NULL, failure_of(error)
