"""The executor port: what runs an orchestration's code. In-process coroutines stand behind it today; remote work items may.

A decision is data: the facts that the code decided, in the order in which it decided them.
"""

from collections.abc import Iterable
from typing import Protocol

from perdure.schemas.events import HistoryEvent
from perdure.schemas.frozen import dataclass

REASON_CHARS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """One turn of an execution as history holds it. An undecided turn's events reach the code in the next decided one."""

    time_ms: int
    decided: bool
    events: tuple[HistoryEvent, ...]


@dataclass(frozen=True, slots=True)
class ContinueAsNew:
    """The code continued as new: the next execution's input, the external events that nobody took yet, oldest first, and the
    reason of a cancel that came too late for this execution's code to see it."""

    input: bytes
    events: tuple[tuple[str, bytes], ...]
    canceled: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """`events` are decision facts only (TaskScheduled, TimerCreated, ..., at most one ExecutionCompleted, which is last).
    `before_cancel` counts those that the code decided before a cancel reached it in this turn."""

    events: tuple[HistoryEvent, ...]
    continued: ContinueAsNew | None = None
    before_cancel: int = 0


class Executor(Protocol):
    """One execution's code, live. Dropped (`close`) and rebuilt from history at will; what it decides is the same."""

    def replay(self, turns: Iterable[RecordedTurn]) -> ContinueAsNew | None:
        """Bring new code to where history is, comparing each decision with it; return what it continued as new with, if the
        last turn did so. Raises InstanceHeld."""

    def decide(self, events: tuple[HistoryEvent, ...], now_ms: int) -> Decision:
        """Deliver `events` (facts only) and run until the code waits or ends. Raises InstanceHeld."""
        ...

    def close(self) -> None:
        """Let the code go; nothing that it does on its way out is recorded."""


class InstanceHeld(Exception):
    """The instance cannot decide with this code: non-determinism, an unknown name or event, a foreign await, a turn without
    end. Derived, never a fact: another owner, other code or `resume` tries again. `reason` teaches the author."""

    def __init__(self, reason: str, *, kind: str) -> None:
        # It may quote what the author's code made up, and is kept beside the instance.
        self.reason = reason[:REASON_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
        super().__init__(self.reason)
        self.kind = kind


UNKNOWN_EVENT = "unknown-event"
TURN_TOO_LONG = "turn-too-long"


def unknown_event(kind: int) -> InstanceHeld:
    """Why an instance is held of whose history a newer build wrote a part (R12)."""
    reason = f"its history has an event of kind {kind}, written by a newer build, that this one does not know"
    return InstanceHeld(reason, kind=UNKNOWN_EVENT)


def turn_too_long(seconds_max: float) -> InstanceHeld:
    """Why an instance whose turn was interrupted is held."""
    return InstanceHeld(
        f"the turn took longer than {seconds_max:g} s and was interrupted. Blocking calls, long computations and loops that "
        "wait for the clock belong in activities",
        kind=TURN_TOO_LONG,
    )
