"""InstanceState: what one instance is, and `apply`, the only way in which it changes.

Rules of this file: `apply` is pure and total over the events of schemas/events.py; it knows nothing of the author's code, of
logs or of clocks. Two readers of the same events hold equal states (I4).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Any, cast

from rpds import HashTrieMap, Queue

from perdure.schemas import events as ev
from perdure.schemas.events import NEVER, NULL, Failure, HistoryEvent, Status
from perdure.schemas.frozen import dataclass

REQUESTS_REMEMBERED = 32


@dataclass(frozen=True, slots=True)
class PendingTask:
    """An activity that has no final result. `retry_at_ms` is NEVER while an attempt is out, else when the next one starts.

    `failures` counts attempts that failed, `lost` dispatches since then that never came back.
    """

    scheduled: ev.TaskScheduled
    scheduled_at_ms: int
    attempt: int = 1
    failures: int = 0
    lost: int = 0
    retry_at_ms: int = NEVER

    @property
    def deadline_ms(self) -> int:
        """When schedule-to-close ends, or NEVER."""
        limit = self.scheduled.schedule_to_close_ms
        return NEVER if limit == NEVER else self.scheduled_at_ms + limit


@dataclass(frozen=True, slots=True)
class PendingChild:
    """A sub-orchestration that has no final result; the fields mean what they mean in PendingTask."""

    created: ev.SubOrchestrationInstanceCreated
    created_at_ms: int
    attempt: int = 1
    failures: int = 0
    retry_at_ms: int = NEVER


@dataclass(frozen=True, slots=True)
class InstanceState:
    """The fold of an instance's events. `undelivered` are facts that the code has not seen yet; `unknown_kind` is that of an event
    which a newer build wrote and this one cannot read, 0 for none (R12); `carried_at` is where the history of this execution was appended
    again, or NEVER (R15)."""

    instance_id: str
    started: ev.ExecutionStarted
    status: Status = Status.PENDING
    updated_at_ms: int = 0
    custom_status: bytes = NULL
    result: bytes = NULL
    failure: Failure | None = None
    tasks: "HashTrieMap[int, PendingTask]" = HashTrieMap()
    children: "HashTrieMap[int, PendingChild]" = HashTrieMap()
    timers: "HashTrieMap[int, int]" = HashTrieMap()
    undelivered: "Queue[HistoryEvent]" = Queue()
    suspended: bool = False
    unknown_kind: int = 0
    requests: tuple[str, ...] = ()
    events_count: int = 0
    turns_count: int = 0
    carried_at: int = NEVER

    @property
    def execution_id(self) -> str:
        return self.started.execution_id

    @property
    def visible_status(self) -> Status:
        """The status as a user sees it: suspended is not RUNNING, and an execution that continues another is."""
        if self.suspended and not self.status.terminal:
            return Status.SUSPENDED
        return Status.RUNNING if self.status == Status.PENDING and self.started.generation > 1 else self.status


class Draft:
    """A mutable copy of a state inside one turn, so that a turn of many events copies once. Never outlives its turn."""

    __slots__ = (*InstanceState.__dataclass_fields__, "delivering")

    def __init__(self, state: InstanceState, time_ms: int, *, delivering: bool) -> None:
        self.instance_id = state.instance_id
        self.started = state.started
        self.status = state.status
        self.updated_at_ms = max(state.updated_at_ms, time_ms)
        self.custom_status = state.custom_status
        self.result = state.result
        self.failure = state.failure
        self.tasks = state.tasks
        self.children = state.children
        self.timers = state.timers
        self.undelivered: Queue[HistoryEvent] = state.undelivered
        self.suspended = state.suspended
        self.unknown_kind = state.unknown_kind
        self.requests = state.requests
        self.events_count = state.events_count
        self.turns_count = state.turns_count
        self.carried_at = state.carried_at
        self.delivering = delivering

    def apply(self, event: HistoryEvent) -> None:
        """One event after the first of an instance."""
        self.events_count += 1
        _APPLY[type(event)](self, event)

    def take_delivery(self) -> None:
        """The code sees what was undelivered; from here on the turn is a decided one."""
        self.undelivered = Queue()
        self.delivering = True
        if self.status == Status.PENDING:
            self.status = Status.RUNNING

    def freeze(self, *, turns: int = 1) -> InstanceState:
        self.turns_count += turns
        return InstanceState(*_values_of(self))


_FIELDS = tuple(InstanceState.__dataclass_fields__)
_values_of = attrgetter(*_FIELDS)


def apply(
    state: InstanceState | None, event: HistoryEvent, *, instance_id: str = "", decided: bool = True
) -> InstanceState:
    """One event's effect. Only ExecutionStarted applies to no state, and then `instance_id` names the new one."""
    return apply_turn(
        state, (event,), instance_id=instance_id, time_ms=state.updated_at_ms if state else 0, decided=decided, turns=0
    )


def apply_turn(
    state: InstanceState | None,
    events: Iterable[HistoryEvent],
    *,
    instance_id: str,
    time_ms: int,
    decided: bool,
    turns: int = 1,
) -> InstanceState:
    """The state after one turn. A decided turn delivers what was undelivered, and its own facts with it."""
    queue = iter(events)
    if state is None:
        first = next(queue, None)
        assert isinstance(first, ev.ExecutionStarted), f"an instance begins with ExecutionStarted, found {first!r}"
        state = begin(instance_id, first)
    draft = Draft(state, time_ms, delivering=False)
    if decided:
        draft.take_delivery()
    for event in queue:
        draft.apply(event)
    return draft.freeze(turns=turns)


def begin(instance_id: str, started: ev.ExecutionStarted) -> InstanceState:
    """A new instance of which the code has not seen the start."""
    return InstanceState(instance_id, started, undelivered=Queue([started]), requests=started.requests, events_count=1)


def _deliver(draft: Draft, event: HistoryEvent) -> None:
    """A fact for the code: seen in this turn, or kept until a turn decides."""
    if not draft.delivering:
        draft.undelivered = draft.undelivered.enqueue(event)


def remember(requests: tuple[str, ...], request_id: str) -> tuple[str, ...]:
    """The last requests that an instance took, with one more; one without an id is not remembered."""
    return (*requests[-(REQUESTS_REMEMBERED - 1) :], request_id) if request_id else requests


def _remember(draft: Draft, request_id: str) -> None:
    draft.requests = remember(draft.requests, request_id)


def _apply_execution_started(draft: Draft, event: ev.ExecutionStarted) -> None:
    # A later execution of the instance: what it keeps is restated in the event, all else begins anew.
    # The turn that begins an execution does not decide it, and is its turn 1.
    fresh = begin(draft.instance_id, event)
    for name in _FIELDS:
        if name != "updated_at_ms":
            setattr(draft, name, getattr(fresh, name))
    draft.delivering = False


def _apply_execution_completed(draft: Draft, event: ev.ExecutionCompleted) -> None:
    _end(draft, event.status)
    draft.result, draft.failure = event.result, event.failure


def _apply_execution_terminated(draft: Draft, event: ev.ExecutionTerminated) -> None:
    _end(draft, Status.TERMINATED)
    draft.result = event.reason
    _remember(draft, event.request_id)


def _end(draft: Draft, status: Status) -> None:
    draft.status = status
    draft.tasks, draft.children, draft.timers = HashTrieMap(), HashTrieMap(), HashTrieMap()
    draft.undelivered = Queue()
    draft.suspended = False
    draft.delivering = True


def _apply_suspended(draft: Draft, event: ev.ExecutionSuspended) -> None:
    draft.suspended = True
    _remember(draft, event.request_id)


def _apply_resumed(draft: Draft, event: ev.ExecutionResumed) -> None:
    draft.suspended = False
    _remember(draft, event.request_id)


def _apply_cancel_requested(draft: Draft, event: ev.ExecutionCancelRequested) -> None:
    _remember(draft, event.request_id)
    _deliver(draft, event)


def _apply_task_scheduled(draft: Draft, event: ev.TaskScheduled) -> None:
    draft.tasks = draft.tasks.insert(event.task_id, PendingTask(event, draft.updated_at_ms))


def _apply_task_rescheduled(draft: Draft, event: ev.TaskRescheduled) -> None:
    task: PendingTask | None = draft.tasks.get(event.task_id)
    if task is None:
        return
    lost = task.lost + 1 if event.reason == ev.RescheduleReason.RECOVERY else task.lost
    draft.tasks = draft.tasks.insert(event.task_id, replace(task, attempt=event.attempt, lost=lost, retry_at_ms=NEVER))


def _apply_task_completed(draft: Draft, event: ev.TaskCompleted) -> None:
    draft.tasks = draft.tasks.discard(event.task_id)
    _deliver(draft, event)


def _apply_task_failed(draft: Draft, event: ev.TaskFailed) -> None:
    if event.retry_at_ms == NEVER:
        draft.tasks = draft.tasks.discard(event.task_id)
        _deliver(draft, event)
        return
    task: PendingTask | None = draft.tasks.get(event.task_id)
    if task is None:
        return
    waiting = replace(task, failures=task.failures + 1, lost=0, retry_at_ms=event.retry_at_ms)
    draft.tasks = draft.tasks.insert(event.task_id, waiting)


def _apply_task_canceled(draft: Draft, event: ev.TaskCanceled) -> None:
    draft.tasks = draft.tasks.discard(event.task_id)
    draft.children = draft.children.discard(event.task_id)


def _apply_child_created(draft: Draft, event: ev.SubOrchestrationInstanceCreated) -> None:
    draft.children = draft.children.insert(event.task_id, PendingChild(event, draft.updated_at_ms))


def _apply_child_recreated(draft: Draft, event: ev.SubOrchestrationInstanceRecreated) -> None:
    child: PendingChild | None = draft.children.get(event.task_id)
    if child is None:
        return
    draft.children = draft.children.insert(event.task_id, replace(child, attempt=event.attempt, retry_at_ms=NEVER))


def _apply_child_completed(draft: Draft, event: ev.SubOrchestrationInstanceCompleted) -> None:
    draft.children = draft.children.discard(event.task_id)
    _deliver(draft, event)


def _apply_child_failed(draft: Draft, event: ev.SubOrchestrationInstanceFailed) -> None:
    if event.retry_at_ms == NEVER:
        draft.children = draft.children.discard(event.task_id)
        _deliver(draft, event)
        return
    child: PendingChild | None = draft.children.get(event.task_id)
    if child is None:
        return
    waiting = replace(child, failures=child.failures + 1, retry_at_ms=event.retry_at_ms)
    draft.children = draft.children.insert(event.task_id, waiting)


def _apply_timer_created(draft: Draft, event: ev.TimerCreated) -> None:
    draft.timers = draft.timers.insert(event.task_id, event.fire_at_ms)


def _apply_timer_fired(draft: Draft, event: ev.TimerFired) -> None:
    draft.timers = draft.timers.discard(event.task_id)
    _deliver(draft, event)


def _apply_timer_canceled(draft: Draft, event: ev.TimerCanceled) -> None:
    draft.timers = draft.timers.discard(event.task_id)


def _apply_event_raised(draft: Draft, event: ev.EventRaised) -> None:
    _remember(draft, event.request_id)
    _deliver(draft, event)


def _apply_custom_status(draft: Draft, event: ev.CustomStatusSet) -> None:
    draft.custom_status = event.value


def _apply_unknown(draft: Draft, event: ev.UnknownEvent) -> None:
    # The code's executor refuses it by name: the instance is held, not the partition (R12).
    draft.unknown_kind = event.kind
    _deliver(draft, event)


def _apply_nothing(_draft: Draft, _event: HistoryEvent) -> None:
    """Facts that only the code's replay and the outbox read."""


_APPLY = cast(
    "dict[type[HistoryEvent], Callable[[Draft, Any], None]]",
    {
        ev.ExecutionStarted: _apply_execution_started,
        ev.ExecutionCompleted: _apply_execution_completed,
        ev.ExecutionTerminated: _apply_execution_terminated,
        ev.ExecutionSuspended: _apply_suspended,
        ev.ExecutionResumed: _apply_resumed,
        ev.ExecutionCancelRequested: _apply_cancel_requested,
        ev.TaskScheduled: _apply_task_scheduled,
        ev.TaskRescheduled: _apply_task_rescheduled,
        ev.TaskCompleted: _apply_task_completed,
        ev.TaskFailed: _apply_task_failed,
        ev.TaskCanceled: _apply_task_canceled,
        ev.SubOrchestrationInstanceCreated: _apply_child_created,
        ev.SubOrchestrationInstanceRecreated: _apply_child_recreated,
        ev.SubOrchestrationInstanceCompleted: _apply_child_completed,
        ev.SubOrchestrationInstanceFailed: _apply_child_failed,
        ev.TimerCreated: _apply_timer_created,
        ev.TimerFired: _apply_timer_fired,
        ev.TimerCanceled: _apply_timer_canceled,
        ev.EventRaised: _apply_event_raised,
        ev.EventSent: _apply_nothing,
        ev.CustomStatusSet: _apply_custom_status,
        ev.PatchMarked: _apply_nothing,
        ev.UnknownEvent: _apply_unknown,
    },
)
