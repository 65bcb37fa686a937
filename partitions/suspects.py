"""Suspects: activities that did not come back twice, tried one at a time, so that a killer of processes is alone when it strikes.

One at a time in a process, not in a partition: what kills the process takes the other partitions' activities with it, and an
innocent one that was hit twice must not be near when it strikes for the third time.
"""

from collections import deque
from collections.abc import Callable, Iterable

from perdure.schemas.messages import Inbound

SUSPECT_SECONDS_MAX = 60.0
"""Who has lived for so long is let be, and the next one starts beside it."""


class Solitude:
    """The place for one suspect in a process; all its partitions share it, on one thread."""

    __slots__ = ("_holder", "_until")

    def __init__(self) -> None:
        self._holder: int | None = None
        self._until = 0.0

    def take(self, partition: int, now: float) -> bool:
        """True if `partition` has the place now."""
        if self._holder not in (None, partition) and now < self._until:
            return False
        self._holder, self._until = partition, now + SUSPECT_SECONDS_MAX
        return True

    def leave(self, partition: int) -> None:
        if self._holder == partition:
            self._holder = None


class Suspects:
    """Those of one partition."""

    def __init__(self, waiting: Iterable[Inbound], solitude: Solitude, partition: int) -> None:
        self._waiting = deque(waiting)
        self._solitude = solitude
        self._partition = partition
        self._tried: Inbound | None = None
        self._until = 0.0

    def take(self, now: float, is_out: Callable[[Inbound], bool]) -> Inbound | None:
        """The next one to try, or None; `is_out` says whether the dispatch that a message led to is still out."""
        if self._tried is not None and now < self._until and is_out(self._tried):
            return None
        self._tried = None
        if not self._waiting:
            self.leave()
            return None
        if not self._solitude.take(self._partition, now):
            return None
        self._tried, self._until = self._waiting.popleft(), now + SUSPECT_SECONDS_MAX
        return self._tried

    def leave(self) -> None:
        """Let other partitions have the place."""
        self._solitude.leave(self._partition)
