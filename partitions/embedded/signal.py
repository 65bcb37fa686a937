"""A flag that a thread can wait for: a lock held while the flag is down, which is the cheapest wait that Python has."""

from threading import Lock


class Signal:
    """Any thread may set it; one thread waits."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def set(self) -> None:
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:
                return  # another thread was quicker

    def wait(self, timeout_seconds: float | None) -> None:
        """Block until it is set, and take it down."""
        self._lock.acquire(timeout=-1 if timeout_seconds is None else max(timeout_seconds, 0))
