"""Running the code again: each execution's decisions, its inputs included, compared with those in the log."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from perdure.actors.executor import ContinueAsNew, Executor, InstanceHeld, RecordedTurn
from perdure.schemas import events as ev
from perdure.schemas.events import HistoryEvent
from perdure.schemas.records import TurnBody

from .report import Blame


class ReplayedCode(Protocol):
    """Where live code comes from: `perdure.actors.app.App`. Strict: every field of a decision counts, inputs too."""

    def executor(self, instance_id: str, started: ev.ExecutionStarted, *, strict: bool = False) -> Executor: ...


class Decisions:
    """The executions of one partition. `found` holds offset, message and blame of each that the code would not repeat."""

    def __init__(self, code: ReplayedCode) -> None:
        self._code = code
        self._executions: dict[str, _Execution] = {}
        self.found: list[tuple[int, str, Blame]] = []
        self.replayed = 0

    def take(self, instance_id: str, offset: int, body: TurnBody | None) -> None:
        """Add one turn; None: the instance is forgotten. An execution is replayed when it is over."""
        if body is None:
            self._close(instance_id)
            return
        segments = split_executions(body.decided, body.events)
        for number, (decided, events) in enumerate(segments):
            started = events[0] if events else None
            if isinstance(started, ev.ExecutionStarted):
                self._close(instance_id)
                self._executions[instance_id] = _Execution(started, offset)
            execution = self._executions.get(instance_id)
            if execution is not None:
                execution.turns.append((offset, RecordedTurn(body.time_ms, decided, events)))
                if any(_ends(event) for event in events):
                    following = segments[number + 1][1] if number + 1 < len(segments) else ()
                    self._close(instance_id, following)

    def finish(self) -> None:
        """Replay what is not over."""
        for instance_id in list(self._executions):
            self._close(instance_id)

    def _close(self, instance_id: str, following: Sequence[HistoryEvent] = ()) -> None:
        execution = self._executions.pop(instance_id, None)
        if execution is None or not execution.decided:
            return
        self.replayed += 1
        executor = None
        try:
            executor = self._code.executor(instance_id, execution.started, strict=True)
            continued = executor.replay(execution.feed())
            if continued is not None and continued != _continuation(following):
                message = f"continued as new with {continued}, history has {_continuation(following)}"
                self.found.append((execution.offset, f"{instance_id}: {message}", Blame.DECISION))
        except InstanceHeld as held:
            blame = Blame.CODE if held.kind.startswith("unknown") else Blame.DECISION
            self.found.append((execution.offset, f"{instance_id}: {held.reason}", blame))
        finally:
            if executor is not None:
                executor.close()


class _Execution:
    """One execution's turns with their offsets. `offset` is that of the turn that was fed last."""

    def __init__(self, started: ev.ExecutionStarted, offset: int) -> None:
        self.started = started
        self.turns: list[tuple[int, RecordedTurn]] = []
        self.offset = offset

    @property
    def decided(self) -> bool:
        """Whether code ever decided anything for it. A start whose name is mistyped waits for code that never was."""
        return any(turn.decided for _, turn in self.turns)

    def feed(self) -> Iterator[RecordedTurn]:
        for offset, turn in self.turns:
            self.offset = offset
            yield turn


def split_executions(decided: bool, events: Sequence[HistoryEvent]) -> list[tuple[bool, tuple[HistoryEvent, ...]]]:
    """A record's events by execution: one that begins after another in the same record is not decided in it."""
    cuts = [index for index, event in enumerate(events) if index and isinstance(event, ev.ExecutionStarted)]
    bounds = [0, *cuts, len(events)]
    return [(decided and not start, tuple(events[start:end])) for start, end in pairwise(bounds)]


def _ends(event: HistoryEvent) -> bool:
    return isinstance(event, ev.ExecutionCompleted | ev.ExecutionTerminated)


def _continuation(events: Sequence[HistoryEvent]) -> ContinueAsNew | None:
    """What an execution began with that another one continued as."""
    if not events or not isinstance(events[0], ev.ExecutionStarted):
        return None
    kept = tuple((event.name, event.input) for event in events if isinstance(event, ev.EventRaised))
    canceled = next((event.reason for event in events if isinstance(event, ev.ExecutionCancelRequested)), None)
    return ContinueAsNew(events[0].input, kept, canceled)
