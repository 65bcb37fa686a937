"""Code that kills its process, as a fault in a C extension or a use of all memory would (R13).

Rules of this file: it kills whichever process runs it, each time that it is run, until it has killed often enough; where no process
runs it, as in a checker's replay, it does nothing.
"""

from collections import Counter
from typing import Protocol


class ProcessDied(BaseException):
    """The process is gone; nothing of it runs any more."""


class Mortal(Protocol):
    """A process that code can kill. The engine may hold what kills it for an author's exception, and go on until its next call."""

    dead: bool

    @property
    def deaths(self) -> Counter[str]:
        """How often whom has killed a process, in the whole run."""
        ...

    def die_of(self, killer: str) -> None: ...


class Lethal:
    """`process` is the one that runs now."""

    def __init__(self) -> None:
        self.process: Mortal | None = None

    def strike(self, killer: str, times: int) -> None:
        """Kill the process that runs now, unless `killer` has done so `times` times. Raises ProcessDied."""
        process = self.process
        if process is None or process.deaths[killer] >= times:
            return
        process.deaths[killer] += 1
        process.die_of(killer)
        raise ProcessDied(killer)


LETHAL = Lethal()
