"""InstanceState: what one instance is, and `apply`, the only way in which it changes.

Rules of this file: `apply` is pure and total over the events of schemas/events.py; it knows nothing of the author's code, of
logs or of clocks. Two readers of the same events hold equal states (I4).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from rpds import HashTrieMap, Queue

from perdure.schemas import events as ev
from perdure.schemas.events import NEVER, NULL, Failure, HistoryEvent, RetryOptions, Status

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
    """The fold of an instance's events. `undelivered` are facts that the code has not seen yet."""

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
    requests: tuple[str, ...] = ()
    events_count: int = 0
    turns_count: int = 0

    @property
    def execution_id(self) -> str:
        return self.started.execution_id

    @property
    def visible_status(self) -> Status:
        """The status as a user sees it: a suspended instance is not RUNNING."""
        return Status.SUSPENDED if self.suspended and not self.status.terminal else self.status


class _Draft:
    """The one mutable copy inside `apply_turn`; never escapes it."""

    __slots__ = (*InstanceState.__dataclass_fields__, "delivering")

    def __init__(self, state: InstanceState, *, delivering: bool) -> None:
        for name in _FIELDS:
            setattr(self, name, getattr(state, name))
        self.delivering = delivering

    def freeze(self) -> InstanceState:
        return InstanceState(*[getattr(self, name) for name in _FIELDS])


_FIELDS = tuple(InstanceState.__dataclass_fields__)


def apply(state: InstanceState | None, event: HistoryEvent, *, instance_id: str = "", decided: bool = True) -> InstanceState:
    """One event's effect. Only ExecutionStarted applies to no state, and then `instance_id` names the new one."""
    return apply_turn(state, (event,), instance_id=instance_id, time_ms=state.updated_at_ms if state else 0, decided=decided, turns=0)


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
        state = _begin(instance_id, first, delivering=decided)
    draft = _Draft(state, delivering=decided)
    if time_ms > draft.updated_at_ms:
        draft.updated_at_ms = time_ms
    draft.turns_count += turns
    if decided:
        draft.undelivered = Queue()
        if draft.status == Status.PENDING:
            draft.status = Status.RUNNING
    for event in queue:
        draft.events_count += 1
        _APPLY[type(event)](draft, event)
    return draft.freeze()


def _begin(instance_id: str, started: ev.ExecutionStarted, *, delivering: bool) -> InstanceState:
    waiting: Queue[HistoryEvent] = Queue() if delivering else Queue([started])
    return InstanceState(instance_id, started, undelivered=waiting, requests=started.requests, events_count=1)


def _deliver(draft: Any, event: HistoryEvent) -> None:
    """A fact for the code: seen in this turn, or kept until a turn decides."""
    if not draft.delivering:
        draft.undelivered = draft.undelivered.enqueue(event)


def _remember(draft: Any, request_id: str) -> None:
    if request_id:
        draft.requests = (*draft.requests[-(REQUESTS_REMEMBERED - 1) :], request_id)


def _apply_execution_started(draft: Any, event: ev.ExecutionStarted) -> None:
    # A later execution of the instance: what it keeps is restated in the event, all else begins anew.
    fresh = _begin(draft.instance_id, event, delivering=False)
    for name in _FIELDS:
        if name not in ("updated_at_ms", "custom_status", "suspended"):
            setattr(draft, name, getattr(fresh, name))
    draft.turns_count = 1
    draft.delivering = False


def _apply_execution_completed(draft: Any, event: ev.ExecutionCompleted) -> None:
    _end(draft, event.status)
    draft.result, draft.failure = event.result, event.failure


def _apply_execution_terminated(draft: Any, event: ev.ExecutionTerminated) -> None:
    _end(draft, Status.TERMINATED)
    draft.result = event.reason
    _remember(draft, event.request_id)


def _end(draft: Any, status: Status) -> None:
    draft.status = status
    draft.tasks, draft.children, draft.timers = HashTrieMap(), HashTrieMap(), HashTrieMap()
    draft.undelivered = Queue()
    draft.suspended = False
    draft.delivering = True


def _apply_suspended(draft: Any, event: ev.ExecutionSuspended) -> None:
    draft.suspended = True
    _remember(draft, event.request_id)


def _apply_resumed(draft: Any, event: ev.ExecutionResumed) -> None:
    draft.suspended = False
    _remember(draft, event.request_id)


def _apply_cancel_requested(draft: Any, event: ev.ExecutionCancelRequested) -> None:
    _remember(draft, event.request_id)
    _deliver(draft, event)


def _apply_task_scheduled(draft: Any, event: ev.TaskScheduled) -> None:
    draft.tasks = draft.tasks.insert(event.task_id, PendingTask(event, draft.updated_at_ms))


def _apply_task_rescheduled(draft: Any, event: ev.TaskRescheduled) -> None:
    task: PendingTask = draft.tasks[event.task_id]
    lost = task.lost + 1 if event.reason == ev.RescheduleReason.RECOVERY else task.lost
    draft.tasks = draft.tasks.insert(event.task_id, replace(task, attempt=event.attempt, lost=lost, retry_at_ms=NEVER))


def _apply_task_completed(draft: Any, event: ev.TaskCompleted) -> None:
    draft.tasks = draft.tasks.remove(event.task_id)
    _deliver(draft, event)


def _apply_task_failed(draft: Any, event: ev.TaskFailed) -> None:
    if event.retry_at_ms == NEVER:
        draft.tasks = draft.tasks.remove(event.task_id)
        _deliver(draft, event)
        return
    task: PendingTask = draft.tasks[event.task_id]
    waiting = replace(task, failures=task.failures + 1, lost=0, retry_at_ms=event.retry_at_ms)
    draft.tasks = draft.tasks.insert(event.task_id, waiting)


def _apply_task_canceled(draft: Any, event: ev.TaskCanceled) -> None:
    draft.tasks = draft.tasks.discard(event.task_id)
    draft.children = draft.children.discard(event.task_id)


def _apply_child_created(draft: Any, event: ev.SubOrchestrationInstanceCreated) -> None:
    draft.children = draft.children.insert(event.task_id, PendingChild(event, draft.updated_at_ms))


def _apply_child_recreated(draft: Any, event: ev.SubOrchestrationInstanceRecreated) -> None:
    child: PendingChild = draft.children[event.task_id]
    draft.children = draft.children.insert(event.task_id, replace(child, attempt=event.attempt, retry_at_ms=NEVER))


def _apply_child_completed(draft: Any, event: ev.SubOrchestrationInstanceCompleted) -> None:
    draft.children = draft.children.remove(event.task_id)
    _deliver(draft, event)


def _apply_child_failed(draft: Any, event: ev.SubOrchestrationInstanceFailed) -> None:
    if event.retry_at_ms == NEVER:
        draft.children = draft.children.remove(event.task_id)
        _deliver(draft, event)
        return
    child: PendingChild = draft.children[event.task_id]
    waiting = replace(child, failures=child.failures + 1, retry_at_ms=event.retry_at_ms)
    draft.children = draft.children.insert(event.task_id, waiting)


def _apply_timer_created(draft: Any, event: ev.TimerCreated) -> None:
    draft.timers = draft.timers.insert(event.task_id, event.fire_at_ms)


def _apply_timer_fired(draft: Any, event: ev.TimerFired) -> None:
    draft.timers = draft.timers.remove(event.task_id)
    _deliver(draft, event)


def _apply_timer_canceled(draft: Any, event: ev.TimerCanceled) -> None:
    draft.timers = draft.timers.discard(event.task_id)


def _apply_event_raised(draft: Any, event: ev.EventRaised) -> None:
    _remember(draft, event.request_id)
    _deliver(draft, event)


def _apply_custom_status(draft: Any, event: ev.CustomStatusSet) -> None:
    draft.custom_status = event.value


def _apply_unknown(draft: Any, event: ev.UnknownEvent) -> None:
    # Kept for the code's executor, which refuses it by name: the instance is held, not the partition (R12).
    _deliver(draft, event)


def _apply_nothing(_draft: Any, _event: HistoryEvent) -> None:
    """Facts that only the code's replay and the outbox read."""


_APPLY = cast(
    "dict[type[HistoryEvent], Callable[[Any, Any], None]]",
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
