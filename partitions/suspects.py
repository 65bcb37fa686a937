"""Suspects: activities that did not come back, tried again so that a killer of processes takes no innocent one to its third loss.

What was lost once is tried together, what was lost twice alone, and neither beside the other: in a process, not in a partition, since what
kills the process takes the other partitions' activities with it.

Rules of this file: who has a place keeps it from before its dispatch is decided until the log says what came of it, over the end of its
owner's epoch where it runs on; after a minute it is let be.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from perdure.actors.accept import LOST_MAX
from perdure.schemas.messages import Inbound, TaskLost

SUSPECT_SECONDS_MAX = 60.0
"""Who has lived for so long is let be, and the next ones start beside it."""


class Lost:
    """Dispatches that are to be made again: without regard to others, together with others, or alone."""

    __slots__ = ("alone", "at_once", "together")

    def __init__(self) -> None:
        self.at_once: list[Inbound] = []
        self.together: list[Inbound] = []
        self.alone: list[Inbound] = []

    def add(self, instance_id: str, lost: TaskLost, lost_before: int) -> None:
        """`lost_before`: how many dispatches of this task never came back before this one. What fails now waits for nobody."""
        count = lost_before + (not lost.released)
        innocent_or_over = count == 0 or count >= LOST_MAX
        line = self.at_once if innocent_or_over else self.alone if count == LOST_MAX - 1 else self.together
        line.append(Inbound(instance_id, lost))


@dataclass(frozen=True, slots=True)
class _Try:
    """`lost` says that the dispatch before it was lost; it is let be at `until`."""

    lost: Inbound
    until: float
    alone: bool


class Solitude:
    """Who is tried in a process; all its partitions share it, on one thread."""

    __slots__ = ("_tries", "_waiting")

    def __init__(self) -> None:
        self._tries: dict[int, deque[_Try]] = {}
        # Partitions where some wait to be tried together, and until when that counts.
        self._waiting: dict[int, float] = {}

    def admits(self, now: float, *, alone: bool) -> bool:
        """Whether one more may be tried now: alone beside nobody, and when nobody waits to be tried together; else beside nobody that is
        alone."""
        if alone and any(now < until for until in self._waiting.values()):
            return False
        newest = (tries[-1] for tries in self._tries.values() if tries)
        return not any(now < each.until and (alone or each.alone) for each in newest)

    def wait(self, partition: int, now: float, *, together: bool) -> None:
        """Whether some of `partition` wait to be tried together; said again in each round."""
        if together:
            self._waiting[partition] = now + SUSPECT_SECONDS_MAX
        else:
            self._waiting.pop(partition, None)

    def add(self, partition: int, lost: Inbound, now: float, *, alone: bool) -> None:
        self._tries.setdefault(partition, deque()).append(_Try(lost, now + SUSPECT_SECONDS_MAX, alone))

    def settle(self, partition: int, now: float, is_out: Callable[[Inbound], bool]) -> None:
        """Forget who is let be, and who is out no more: the oldest ones, up to one that is."""
        tries = self._tries.get(partition)
        while tries and not (now < tries[0].until and is_out(tries[0].lost)):
            tries.popleft()

    def keep(self, partition: int, runs: Callable[[Inbound], bool]) -> None:
        """Forget all that do not run."""
        self._waiting.pop(partition, None)
        if tries := self._tries.pop(partition, None):
            self._tries[partition] = deque(each for each in tries if runs(each.lost))

    def leave(self, partition: int) -> None:
        """None of them runs here any more."""
        self._waiting.pop(partition, None)
        self._tries.pop(partition, None)


class Suspects:
    """Those of one partition. What an earlier owner of it tried in this process, and what runs on, has its place still."""

    def __init__(self, lost: Lost, solitude: Solitude, partition: int) -> None:
        self._together = deque(lost.together)
        self._alone = deque(lost.alone)
        self._solitude = solitude
        self._partition = partition

    def add(self, lost: Lost) -> None:
        """Some more."""
        self._together.extend(lost.together)
        self._alone.extend(lost.alone)

    def take(self, now: float, count_max: int, is_out: Callable[[Inbound], bool]) -> list[Inbound]:
        """The next ones to try; `is_out` says whether the log lacks what came of the dispatch after a lost one."""
        self._solitude.settle(self._partition, now, is_out)
        taken: list[Inbound] = []
        for line, alone in ((self._together, False), (self._alone, True)):
            if line and not taken and self._solitude.admits(now, alone=alone):
                taken = [line.popleft() for _ in range(1 if alone else min(len(line), count_max))]
                for lost in taken:
                    self._solitude.add(self._partition, lost, now, alone=alone)
        self._solitude.wait(self._partition, now, together=bool(self._together))
        return taken
