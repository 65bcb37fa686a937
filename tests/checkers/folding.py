"""What an instance is, folded from its events by rules written down here a second time.

Rules of this file: nothing of `actors.instance` is used; what an event does is read off its definition in schemas/events.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from perdure.schemas import events as ev
from perdure.schemas.events import NEVER, NULL, Failure, HistoryEvent, Status
from perdure.schemas.records import TurnBody

REQUESTS_REMEMBERED = 32


@dataclass(slots=True)
class Activity:
    """An activity without a final result. `out`: an attempt is dispatched; else the next one begins at `retry_at_ms`."""

    scheduled: ev.TaskScheduled
    since_ms: int
    attempt: int = 1
    failures: int = 0
    lost: int = 0
    retry_at_ms: int = NEVER
    dispatched_at: int = -1

    @property
    def deadline_ms(self) -> int:
        limit = self.scheduled.schedule_to_close_ms
        return NEVER if limit == NEVER else self.since_ms + limit


@dataclass(slots=True)
class Child:
    created: ev.SubOrchestrationInstanceCreated
    since_ms: int
    attempt: int = 1
    failures: int = 0
    retry_at_ms: int = NEVER


@dataclass(slots=True)
class Life:
    """One instance: its newest execution, as of some record. `answered` are the tasks whose result the code had not seen before
    the turn of that record; it may have given them up before it came to their results. `begins_at`: from there on the log has the
    whole history of the execution; `carried_at`: and that is since it was appended again there (R15)."""

    instance_id: str
    started: ev.ExecutionStarted
    status: Status = Status.PENDING
    activities: dict[int, Activity] = field(default_factory=dict)
    children: dict[int, Child] = field(default_factory=dict)
    timers: dict[int, int] = field(default_factory=dict)
    unseen: list[HistoryEvent] = field(default_factory=list)
    suspended: bool = False
    custom_status: bytes = NULL
    result: bytes = NULL
    failure: Failure | None = None
    requests: tuple[str, ...] = ()
    updated_ms: int = 0
    events: int = 0
    turns: int = 0
    last_task: int = 0
    answered: set[int] = field(default_factory=set)
    begins_at: int = -1
    carried_at: int = -1

    @property
    def over(self) -> bool:
        return self.status in (Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.TERMINATED)

    @property
    def shown(self) -> Status:
        """The status that a reader is told."""
        if self.suspended and not self.over:
            return Status.SUSPENDED
        return Status.RUNNING if self.status == Status.PENDING and self.started.generation > 1 else self.status


Witness = Callable[["Life | None", HistoryEvent], None]


def _nobody(_life: "Life | None", _event: HistoryEvent) -> None:
    """Nobody looks on."""


class Folding:
    """One turn after another of one instance. `life` is None while there is none."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self.life: Life | None = None

    def take(self, turn: TurnBody, offset: int, witness: Witness = _nobody) -> None:
        """Apply a TURN record; `offset` is that of its first part. Its facts come first, and are seen if the code decided in
        it. `witness` is shown each event, and the instance right before it."""
        life, seeing = self.life, turn.decided
        events = list(turn.events)
        if life is not None:
            life.updated_ms = max(life.updated_ms, turn.time_ms)
            life.answered = {event.task_id for event in life.unseen if isinstance(event, ANSWERS)}
            if seeing:
                self._see(life)
        for number, event in enumerate(events):
            witness(life, event)
            if isinstance(event, ev.ExecutionStarted):
                # Of two executions in one record only the first one is decided in it.
                seeing = turn.decided and number == 0 and life is None
                life = self._begin(event, life, turn.time_ms, seeing=seeing)
                life.begins_at = offset
                continue
            assert life is not None, f"{self.instance_id} begins with {event}"
            life.events += 1
            self._apply(life, event, offset)
            if type(event) in FOR_THE_CODE and not seeing and not life.over and _is_final(event):
                life.unseen.append(event)
        if life is not None:
            life.turns += 1
        self.life = life

    def _see(self, life: Life) -> None:
        life.unseen.clear()
        if life.status == Status.PENDING:
            life.status = Status.RUNNING

    def _begin(self, event: ev.ExecutionStarted, before: Life | None, time_ms: int, *, seeing: bool) -> Life:
        updated = max(before.updated_ms, time_ms) if before else time_ms
        life = Life(self.instance_id, event, requests=event.requests, updated_ms=updated, events=1)
        if seeing:
            life.status = Status.RUNNING
        else:
            life.unseen.append(event)
        return life

    def _apply(self, life: Life, event: HistoryEvent, offset: int) -> None:
        apply = _APPLY.get(type(event))
        if apply is not None:
            apply(life, event)
        if isinstance(event, ev.TaskScheduled | ev.TaskRescheduled) and event.task_id in life.activities:
            life.activities[event.task_id].dispatched_at = offset
        if isinstance(event, ANSWERS):
            life.answered.add(event.task_id)
        if isinstance(event, NUMBERED):
            life.last_task = max(life.last_task, event.task_id)
        request = getattr(event, "request_id", "")
        if request:
            life.requests = (*life.requests, request)[-REQUESTS_REMEMBERED:]


def _end(life: Life, status: Status, result: bytes, failure: Failure | None) -> None:
    life.status, life.result, life.failure = status, result, failure
    life.activities, life.children, life.timers = {}, {}, {}
    life.unseen, life.suspended = [], False


def _completed(life: Life, event: ev.ExecutionCompleted) -> None:
    _end(life, event.status, event.result, event.failure)


def _terminated(life: Life, event: ev.ExecutionTerminated) -> None:
    _end(life, Status.TERMINATED, event.reason, None)


def _suspended(life: Life, _event: ev.ExecutionSuspended) -> None:
    life.suspended = True


def _resumed(life: Life, _event: ev.ExecutionResumed) -> None:
    life.suspended = False


def _status_set(life: Life, event: ev.CustomStatusSet) -> None:
    life.custom_status = event.value


def _timer_created(life: Life, event: ev.TimerCreated) -> None:
    life.timers[event.task_id] = event.fire_at_ms


def _timer_over(life: Life, event: ev.TimerFired | ev.TimerCanceled) -> None:
    life.timers.pop(event.task_id, None)


def _task_scheduled(life: Life, event: ev.TaskScheduled) -> None:
    life.activities[event.task_id] = Activity(event, life.updated_ms)


def _task_again(life: Life, event: ev.TaskRescheduled) -> None:
    activity = life.activities.get(event.task_id)
    if activity is not None:
        activity.attempt, activity.retry_at_ms = event.attempt, NEVER
        activity.lost += event.reason == ev.RescheduleReason.RECOVERY


def _task_over(life: Life, event: ev.TaskCompleted | ev.TaskCanceled) -> None:
    life.activities.pop(event.task_id, None)
    if isinstance(event, ev.TaskCanceled):
        life.children.pop(event.task_id, None)


def _task_failed(life: Life, event: ev.TaskFailed) -> None:
    _fail(life.activities, event.task_id, event.retry_at_ms)


def _child_created(life: Life, event: ev.SubOrchestrationInstanceCreated) -> None:
    life.children[event.task_id] = Child(event, life.updated_ms)


def _child_again(life: Life, event: ev.SubOrchestrationInstanceRecreated) -> None:
    child = life.children.get(event.task_id)
    if child is not None:
        child.attempt, child.retry_at_ms = event.attempt, NEVER


def _child_over(life: Life, event: ev.SubOrchestrationInstanceCompleted) -> None:
    life.children.pop(event.task_id, None)


def _child_failed(life: Life, event: ev.SubOrchestrationInstanceFailed) -> None:
    _fail(life.children, event.task_id, event.retry_at_ms)


def _fail(pending: "dict[int, Any]", task: int, retry_at_ms: int) -> None:
    if retry_at_ms == NEVER:
        pending.pop(task, None)
    elif task in pending:
        pending[task].failures += 1
        pending[task].retry_at_ms = retry_at_ms
        if isinstance(pending[task], Activity):
            pending[task].lost = 0


FOR_THE_CODE = frozenset(
    {
        ev.ExecutionStarted,
        ev.ExecutionCancelRequested,
        ev.TaskCompleted,
        ev.TaskFailed,
        ev.SubOrchestrationInstanceCompleted,
        ev.SubOrchestrationInstanceFailed,
        ev.TimerFired,
        ev.EventRaised,
        ev.UnknownEvent,
    }
)
ANSWERS = (
    ev.TaskCompleted,
    ev.TaskFailed,
    ev.SubOrchestrationInstanceCompleted,
    ev.SubOrchestrationInstanceFailed,
    ev.TimerFired,
)
NUMBERED = (ev.TaskScheduled, ev.SubOrchestrationInstanceCreated, ev.TimerCreated, ev.EventSent)


def _is_final(event: HistoryEvent) -> bool:
    """The code does not see a failure that is tried again."""
    if isinstance(event, ev.TaskFailed | ev.SubOrchestrationInstanceFailed):
        return event.retry_at_ms == NEVER
    return True


_APPLY = cast(
    "dict[type[HistoryEvent], Callable[[Life, Any], None]]",
    {
        ev.ExecutionCompleted: _completed,
        ev.ExecutionTerminated: _terminated,
        ev.ExecutionSuspended: _suspended,
        ev.ExecutionResumed: _resumed,
        ev.CustomStatusSet: _status_set,
        ev.TimerCreated: _timer_created,
        ev.TimerFired: _timer_over,
        ev.TimerCanceled: _timer_over,
        ev.TaskScheduled: _task_scheduled,
        ev.TaskRescheduled: _task_again,
        ev.TaskCompleted: _task_over,
        ev.TaskCanceled: _task_over,
        ev.TaskFailed: _task_failed,
        ev.SubOrchestrationInstanceCreated: _child_created,
        ev.SubOrchestrationInstanceRecreated: _child_again,
        ev.SubOrchestrationInstanceCompleted: _child_over,
        ev.SubOrchestrationInstanceFailed: _child_failed,
    },
)
