"""Plain activity functions in threads, handed over in batches.

Rules of this file: a thread takes one function after the other, so a batch of short ones costs one hop; while functions wait
and a moment has passed, more threads are woken, so long ones run side by side. What threads and engine share is a deque in
each direction.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from time import monotonic
from typing import cast

from perdure.actors.failures import failure_of
from perdure.schemas.events import NULL, Failure

from .ports import Clock
from .run import FOREVER, Run

Finished = tuple[Run, bytes, Failure | None]
# A thread hop costs 50 to 120 us; a function that lasts longer than this is worth one more.
_ESCALATE_SECONDS = 0.0005
_POLL_SECONDS = 0.001


class PlainLane:
    """Runs at most `running_max` functions at a time. `wake` is called from threads when results are there."""

    def __init__(self, wake: Callable[[], None], clock: Clock, running_max: int) -> None:
        self._wake = wake
        self._clock = clock
        self._running_max = running_max
        self._ready: deque[Run] = deque()
        self._handed: deque[Run] = deque()
        self._finished: deque[Finished] = deque()
        self._idle: deque[SimpleQueue[None]] = deque()
        self._threads: list[SimpleQueue[None]] = []
        self._outstanding = 0
        self._signalled = False
        self._closed = False
        self._wake_next = 1
        self._woken_at = 0.0

    @property
    def queued(self) -> int:
        return len(self._ready)

    @property
    def running(self) -> int:
        """Functions handed over whose end the engine has not seen, abandoned ones included."""
        return self._outstanding

    def add(self, run: Run) -> None:
        self._ready.append(run)

    def forget_queued(self) -> list[Run]:
        """Take back what was not handed over."""
        queued = list(self._ready)
        self._ready.clear()
        return queued

    def take_finished(self) -> list[Finished]:
        """What has ended since the last call, in that order."""
        self._signalled = False  # before looking: whoever finishes from here on wakes us again
        out: list[Finished] = []
        while self._finished:
            out.append(self._finished.popleft())
        self._outstanding -= len(out)
        return out

    def step(self) -> bool:
        """Hand over what may run; True if there was any."""
        handed = 0
        while self._ready and self._outstanding < self._running_max:
            run = self._ready.popleft()
            if run.wanted:
                self._handed.append(run)
                self._outstanding += 1
                handed += 1
        if self._handed:
            self._escalate()
        else:
            self._wake_next = 1
        return handed > 0

    def wait_seconds(self) -> float:
        return _POLL_SECONDS if self._handed else FOREVER

    def close(self) -> None:
        """Let idle threads end; those that run a function end with it, or with the process."""
        self._closed = True
        for thread in self._threads:
            thread.put(None)

    def _escalate(self) -> None:
        now = monotonic()
        if self._wake_next > 1 and now - self._woken_at < _ESCALATE_SECONDS:
            return
        for _ in range(min(self._wake_next, len(self._handed))):
            try:
                self._idle.popleft().put(None)
            except IndexError:
                if len(self._threads) >= self._running_max:
                    break
                self._start_thread()
        self._wake_next *= 2
        self._woken_at = now

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
                    run = self._handed.popleft()
                except IndexError:
                    break
                self._finished.append(_finish(run, self._clock))
                # While functions wait the engine looks by itself, so a batch of short ones wakes it once.
                if not self._handed and not self._signalled:
                    self._signalled = True
                    self._wake()
            self._idle.append(inbox)


def _finish(run: Run, clock: Clock) -> Finished:
    if not run.wanted:
        return run, NULL, None
    run.started = clock.monotonic()
    try:
        # A context of its own: what one activity sets there, the next one does not see.
        return run, cast("bytes", Context().run(run.invoke, run)), None
    except BaseException as error:  # noqa: BLE001 - an activity's SystemExit ends the activity, not the thread
        return run, NULL, failure_of(error)
