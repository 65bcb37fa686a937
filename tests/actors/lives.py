"""Random lives of one instance: turns taken by `take_turn`, with messages and decisions chosen by seeded dice.

The code is a script that decides what it is told, so a life reaches corners that no sensible orchestration would.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from perdure.actors.executor import ContinueAsNew, Decision, InstanceHeld, RecordedTurn
from perdure.actors.instance import InstanceState
from perdure.actors.limits import Limits
from perdure.actors.setting import Setting
from perdure.actors.turn import Turn, take_turn
from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.events import NEVER, Failure, HistoryEvent, RetryOptions, Status
from perdure.schemas.messages import Inbound

NAME = "i"
REPLY_TO = ms.ReplyTo("client", 0)
FAILURE = Failure("Boom", "it broke")
FATAL = Failure("Boom", "it broke for good", retriable=False)
RETRIES = (None, RetryOptions(1_000, 3, 2.0), RetryOptions(0, 2), RetryOptions(5, 9, 1.5, 20, 60, ("Fatal",)))
PARENT = ev.Parent("mother", "1-1", 4, 1)


class Told:
    """An executor that decides what it is told, and remembers what it saw."""

    def __init__(self) -> None:
        self.decision: Decision | InstanceHeld = Decision(())
        self.seen: list[HistoryEvent] = []

    def replay(self, turns: Iterable[RecordedTurn]) -> None:
        raise AssertionError("nothing here is replayed")

    def decide(self, events: tuple[HistoryEvent, ...], now_ms: int) -> Decision:
        if isinstance(self.decision, InstanceHeld):
            raise self.decision
        self.seen.extend(events)
        return self.decision

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True)
class Lived:
    """One turn of a life: the state before it, what came in, what the code saw, and what the turn is."""

    before: InstanceState | None
    inbox: tuple[Inbound, ...]
    seen: tuple[HistoryEvent, ...]
    now_ms: int
    offset: int
    turn: Turn


@dataclass
class Life:
    """A whole life so far. The same seed lives the same life."""

    seed: int
    name: str = NAME
    state: InstanceState | None = None
    now_ms: int = 1_000_000
    offset: int = 10
    next_task: int = 1
    code: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        self.dice = Random(self.seed)

    def live(self) -> Lived:
        """Take one turn."""
        dice = self.dice
        self.now_ms += dice.choice((0, 1, 1_000, 100_000))
        self.offset += dice.randint(1, 3)
        inbox = tuple(self.message() for _ in range(dice.randint(0, 4)))
        self.code.decision = self.decision()
        seen = len(self.code.seen)
        limits = Limits(history_events_max=dice.choice((50_000, 50_000, 30)))
        setting = Setting(self.now_ms, self.offset, lambda _, __: self.code, limits, dice.random() < 0.7)
        turn = take_turn(self.name, self.state, inbox, setting)
        lived = Lived(self.state, inbox, tuple(self.code.seen[seen:]), self.now_ms, self.offset, turn)
        self.state = turn.state
        return lived

    def message(self) -> Inbound:
        make = self.dice.choice((self.request, self.request, self.result, self.result, self.due))
        request_id = self.dice.choice(("", "", "r1", "r2", "r3"))
        return Inbound(self.name, make(), request_id, reply_to=self.dice.choice((None, REPLY_TO)))

    def request(self) -> ms.Body:
        dice = self.dice
        if dice.random() < 0.5:
            return ms.Start(
                "code",
                start_at_ms=dice.choice((0, 0, 0, self.now_ms + 1_500)),
                reuse=dice.choice(tuple(ms.ReusePolicy)),
                reuse_statuses=dice.choice(((), (), (Status.RUNNING, Status.PENDING, Status.COMPLETED))),
                parent=dice.choice((None, None, PARENT)),
                events=dice.choice(((), (("go", b"1"),))),
                tell_end=dice.random() < 0.5,
            )
        if dice.random() < 0.5:
            return ms.RaiseEvent(dice.choice(("go", "Go", "stop")))
        rare = (ms.Cancel("why not"), ms.Terminate(), ms.Suspend(), ms.Resume(), ms.Purge(), ms.Purge(force=True))
        return dice.choice(rare)

    def result(self) -> ms.Body:
        """A result, mostly of what is pending."""
        state, dice = self.state, self.dice
        pending: list[tuple[type[ms.TaskResult | ms.ChildResult], int, int]] = [
            (ms.TaskResult, 1, 1),
            (ms.ChildResult, 2, 1),
        ]
        if state is not None:
            pending += [(ms.TaskResult, number, task.attempt) for number, task in sorted(state.tasks.items())] * 3
            pending += [(ms.ChildResult, number, child.attempt) for number, child in sorted(state.children.items())] * 3
        kind, number, attempt = dice.choice(pending)
        execution = state.execution_id if state is not None and dice.random() < 0.8 else "stale"
        return kind(execution, number, attempt, failure=dice.choice((None, None, FAILURE, FATAL)))

    def due(self) -> ms.Body:
        """A due time or a lost dispatch, mostly of what is pending."""
        state = self.state
        bodies: list[ms.Body] = [ms.TimerDue("x", 1, ms.TimerPurpose.TIMER, 5), ms.TaskLost("x", 1, 1)]
        if state is not None:
            execution = state.execution_id
            bodies.append(ms.TimerDue(execution, 0, ms.TimerPurpose.START, state.started.start_at_ms))
            bodies += [
                ms.TimerDue(execution, number, ms.TimerPurpose.TIMER, at) for number, at in sorted(state.timers.items())
            ]
            for number, task in sorted(state.tasks.items()):
                bodies += [ms.TaskLost(execution, number, task.attempt, released) for released in (False, False, True)]
                bodies.append(ms.TimerDue(execution, number, ms.TimerPurpose.RETRY, task.retry_at_ms))
                bodies.append(ms.TimerDue(execution, number, ms.TimerPurpose.SCHEDULE_TO_CLOSE, task.deadline_ms))
            for number, child in sorted(state.children.items()):
                bodies.append(ms.TimerDue(execution, number, ms.TimerPurpose.CHILD_RETRY, child.retry_at_ms))
        return self.dice.choice(bodies)

    def decision(self) -> Decision | InstanceHeld:
        dice = self.dice
        kind = dice.choice(("wait",) * 8 + ("hold", "complete", "fail", "continue"))
        if kind == "hold":
            return InstanceHeld("it decides otherwise", kind="non-determinism")
        events = [self.decided() for _ in range(dice.randint(0, 3))]
        if kind == "complete":
            events.append(ev.ExecutionCompleted(Status.COMPLETED, b"42"))
        if kind == "fail":
            events.append(ev.ExecutionCompleted(Status.FAILED, failure=FAILURE))
        if kind != "continue":
            return Decision(tuple(events))
        events.append(ev.ExecutionCompleted(Status.CONTINUED_AS_NEW))
        return Decision(tuple(events), ContinueAsNew(b"7", dice.choice(((), (("go", b"2"), ("stop", b"3"))))))

    def decided(self) -> HistoryEvent:
        """A decision; what it gives up is of the right kind, pending or not. Ids: 3n activities, 3n+1 children, 3n+2 timers."""
        dice, number = self.dice, 3 * self.next_task
        self.next_task += 1
        known, retry = 3 * dice.randint(max(1, self.next_task - 6), self.next_task), dice.choice(RETRIES)
        if dice.random() < 0.3:
            return ev.TaskScheduled(number, "act", retry=retry, schedule_to_close_ms=dice.choice((NEVER, 900)))
        return dice.choice(
            (
                ev.SubOrchestrationInstanceCreated(number + 1, "child", f"{self.name}:{number}", retry=retry),
                ev.TimerCreated(number + 2, self.now_ms + dice.choice((0, 1, 5_000))),
                ev.EventSent(number, "other", "go"),
                ev.TaskCanceled(known + dice.choice((0, 1))),
                ev.TimerCanceled(known + 2),
                ev.CustomStatusSet(dice.choice((b'"a"', b"null"))),
                ev.PatchMarked("p"),
            )
        )
