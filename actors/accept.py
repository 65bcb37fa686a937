"""From messages to facts: what each kind of message means to an instance in each state, before the code sees anything.

Rules of this file: pure; every message ends as facts, as an answer, as unroutable (dead-lettered with its reason), or as dropped
and counted because it names an execution, task and attempt that is not pending (R7). A request that was taken before is
answered again, not done again.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas.events import NEVER, Failure, HistoryEvent, RescheduleReason, RetryOptions, Status
from perdure.schemas.messages import Inbound, ReplyCode, ReusePolicy, TimerPurpose

from .instance import Draft, InstanceState, PendingChild, PendingTask, begin, remember
from .limits import ENGINE_REQUEST
from .outgoing import (
    Answer,
    Outgoing,
    cancel_child,
    child_result,
    start_child,
    task_request,
    tell_parent,
    terminate_child,
)
from .setting import Setting

LOST_MAX = 3
DELAY_MS_MAX = 10**13


class Intake:
    """What the messages of one turn came to so far. `draft` is None while the instance does not exist."""

    __slots__ = (
        "answers",
        "draft",
        "dropped",
        "events",
        "forgotten",
        "instance_id",
        "now_ms",
        "replaced",
        "sends",
        "setting",
        "unroutable",
        "watchers",
    )

    def __init__(self, instance_id: str, state: InstanceState | None, setting: Setting) -> None:
        self.instance_id = instance_id
        self.setting = setting
        self.now_ms = setting.now_ms
        self.draft: Draft | None = Draft(state, setting.now_ms, delivering=False) if state is not None else None
        self.events: list[HistoryEvent] = []
        self.sends: list[Outgoing] = []
        self.answers: list[Answer] = []
        self.unroutable: list[tuple[Inbound, str]] = []
        self.watchers: list[Inbound] = []
        self.dropped = 0
        self.forgotten = False
        self.replaced = False

    def accept(self, message: Inbound) -> None:
        """Take one message."""
        _ACCEPT[type(message.body)](self, message)

    def add(self, event: HistoryEvent) -> None:
        """Record one fact."""
        self.events.append(event)
        if self.draft is None:
            assert isinstance(event, ev.ExecutionStarted)
            self.draft = Draft(begin(self.instance_id, event), self.now_ms, delivering=False)
        else:
            self.draft.apply(event)

    def answer(self, message: Inbound, code: ReplyCode, text: str = "", *, created: bool = False) -> None:
        if message.reply_to is not None:
            execution = self.draft.started.execution_id if self.draft is not None else ""
            identity = (self.instance_id, execution)
            self.answers.append(Answer(message.reply_to, message.request_id, code, text, created, *identity))

    def running(self, message: Inbound) -> Draft | None:
        """The instance if it can still take requests; else the requester is told why not."""
        if self.draft is None:
            self.refuse(message, ReplyCode.NOT_FOUND, f"no instance {self.instance_id!r}")
            return None
        if message.request_id and message.request_id in self.draft.requests:
            self.answer(message, ReplyCode.OK)
            return None
        if self.draft.status.terminal:
            text = f"instance {self.instance_id!r} is {self.draft.status.name}"
            self.refuse(message, ReplyCode.ALREADY_FINISHED, text)
            return None
        return self.draft

    def refuse(self, message: Inbound, code: ReplyCode, text: str) -> None:
        """Tell the requester; where there is none, the dead letters keep what somebody may miss. What the engine itself asks of an
        instance that is over needs no answer, but an event has been sent by an author."""
        self.answer(message, code, text)
        asked_by_engine = message.request_id.startswith(ENGINE_REQUEST) and not isinstance(message.body, ms.RaiseEvent)
        if message.reply_to is None and not asked_by_engine:
            self.unroutable.append((message, text))


def execution_id_at(offset: int, generation: int) -> str:
    """The id of an execution: unique on its partition, since a history offset is."""
    return f"{offset:x}-{generation}"


def _accept_start(intake: Intake, message: Inbound) -> None:
    start: ms.Start = cast("ms.Start", message.body)
    old = intake.draft
    if old is not None:
        if _same_request(old, message, start):
            intake.answer(message, ReplyCode.OK, created=True)
            _watch(intake, message, start)
            return
        if start.reuse == ReusePolicy.RETURN:
            intake.answer(message, ReplyCode.OK)
            _watch(intake, message, start)
            return
        if not _may_replace(old, start):
            _refuse_start(intake, message, start, old)
            return
        _end_replaced(intake, old)
    generation = old.started.generation + 1 if old is not None else 1
    intake.add(_started(intake, message, start, generation))
    for name, payload in start.events:
        intake.add(ev.EventRaised(name, payload))
    intake.answer(message, ReplyCode.OK, created=True)
    _watch(intake, message, start)


def _in_order(draft: Draft) -> list[PendingChild]:
    """The children in the order in which they were made; a map's own order is another one in every process."""
    return [child for _, child in sorted(draft.children.items())]


def _same_request(old: Draft, message: Inbound, start: ms.Start) -> bool:
    if start.parent is not None:
        return old.started.parent == start.parent
    return bool(message.request_id) and message.request_id in old.requests


def _watch(intake: Intake, message: Inbound, start: ms.Start) -> None:
    if start.tell_end and message.reply_to is not None:
        intake.watchers.append(message)


def _may_replace(old: Draft, start: ms.Start) -> bool:
    if start.reuse != ReusePolicy.REPLACE:
        return False
    return int(old.status) in start.reuse_statuses if start.reuse_statuses else old.status.terminal


def _refuse_start(intake: Intake, message: Inbound, start: ms.Start, old: Draft) -> None:
    text = f"instance {intake.instance_id!r} exists and is {old.status.name}"
    intake.refuse(message, ReplyCode.ALREADY_EXISTS, text)
    if start.parent is not None:
        failure = Failure("InstanceAlreadyExists", text, retriable=False)
        intake.sends.append(child_result(intake.instance_id, start.parent, failure=failure))


def _end_replaced(intake: Intake, old: Draft) -> None:
    """A replaced instance that still runs is terminated first."""
    intake.replaced = True
    if not old.status.terminal:
        end = ev.ExecutionTerminated(b'"replaced by a new start"')
        _tell_family(intake, old, end)
        intake.add(end)


def _tell_family(intake: Intake, draft: Draft, end: ev.ExecutionTerminated) -> None:
    """Nobody that waits for an instance which is ended from outside, or works for it, is left behind."""
    intake.sends.extend(terminate_child(draft, child.created, end.reason) for child in _in_order(draft))
    intake.sends.extend(tell_parent(intake.instance_id, draft.started.parent, end))


def _started(intake: Intake, message: Inbound, start: ms.Start, generation: int) -> ev.ExecutionStarted:
    return ev.ExecutionStarted(
        execution_id=execution_id_at(intake.setting.offset, generation),
        name=start.name,
        input=start.input,
        created_at_ms=intake.now_ms,
        start_at_ms=start.start_at_ms,
        generation=generation,
        parent=start.parent,
        tags=start.tags,
        flags=intake.setting.flags,
        # Those of the instance that it replaces too, so that a late repeat of one is not done again.
        requests=remember(intake.draft.requests if intake.draft is not None else (), message.request_id),
    )


def _accept_raise(intake: Intake, message: Inbound) -> None:
    body = cast("ms.RaiseEvent", message.body)
    if intake.draft is None:
        intake.answer(message, ReplyCode.NOT_FOUND, f"no instance {intake.instance_id!r}")
        intake.unroutable.append((message, f"event {body.name!r} for an instance that does not exist"))
        return
    draft, limit = intake.running(message), intake.setting.limits.history_events_max
    if draft is None:
        return
    if len(draft.undelivered) >= limit:
        reason = f"event {body.name!r}: {limit} events wait for instance {intake.instance_id!r}, and no more are kept"
        intake.unroutable.append((message, reason))
        intake.answer(message, ReplyCode.REFUSED, reason)
        return
    intake.add(ev.EventRaised(body.name, body.input, message.request_id))
    intake.answer(message, ReplyCode.OK)


def _is_anothers(intake: Intake, draft: Draft, message: Inbound) -> bool:
    """A parent ends its own children only: it may have asked for an id that somebody else has, and not know that yet."""
    if not message.request_id.startswith(ENGINE_REQUEST):
        return False
    parent = draft.started.parent
    task = task_request(parent.instance_id, parent.execution_id, parent.task_id) if parent else None
    if message.request_id.rpartition("/")[0] == task:
        return False
    intake.dropped += 1
    return True


def _accept_cancel(intake: Intake, message: Inbound) -> None:
    draft = intake.running(message)
    if draft is None or _is_anothers(intake, draft, message):
        return
    reason = cast("ms.Cancel", message.body).reason
    if draft.status == Status.PENDING and draft.started.start_at_ms > intake.now_ms:
        # Its code never ran, so there is nothing to compensate.
        end = ev.ExecutionCompleted(Status.CANCELED, failure=Failure("OrchestrationCanceled", reason, retriable=False))
        intake.sends.extend(tell_parent(intake.instance_id, draft.started.parent, end))
        intake.add(end)
    else:
        intake.sends.extend(cancel_child(draft, child.created, reason) for child in _in_order(draft))
        intake.add(ev.ExecutionCancelRequested(reason, message.request_id))
    intake.answer(message, ReplyCode.OK)


def _accept_terminate(intake: Intake, message: Inbound) -> None:
    draft = intake.running(message)
    if draft is not None and not _is_anothers(intake, draft, message):
        body = cast("ms.Terminate", message.body)
        if body.recursive:
            intake.sends.extend(terminate_child(draft, child.created, body.reason) for child in _in_order(draft))
        end = ev.ExecutionTerminated(body.reason, message.request_id)
        intake.sends.extend(tell_parent(intake.instance_id, draft.started.parent, end))
        intake.add(end)
        intake.answer(message, ReplyCode.OK)


def _accept_suspend(intake: Intake, message: Inbound) -> None:
    if intake.running(message) is not None:
        intake.add(ev.ExecutionSuspended(cast("ms.Suspend", message.body).reason, message.request_id))
        intake.answer(message, ReplyCode.OK)


def _accept_resume(intake: Intake, message: Inbound) -> None:
    if intake.running(message) is not None:
        intake.add(ev.ExecutionResumed(cast("ms.Resume", message.body).reason, message.request_id))
        intake.answer(message, ReplyCode.OK)


def _accept_purge(intake: Intake, message: Inbound) -> None:
    if intake.draft is None:
        intake.answer(message, ReplyCode.NOT_FOUND, f"no instance {intake.instance_id!r}")
    elif not intake.draft.status.terminal and not cast("ms.Purge", message.body).force:
        text = f"instance {intake.instance_id!r} is {intake.draft.status.name}; terminate it first, or purge with force"
        intake.answer(message, ReplyCode.REFUSED, text)
    else:
        # Facts taken before it in this turn go with it; a start that comes after it begins anew in the next turn.
        if not intake.draft.status.terminal:
            _tell_family(intake, intake.draft, ev.ExecutionTerminated(b'"purged"'))
        intake.draft, intake.forgotten = None, True
        intake.events.clear()
        intake.answer(message, ReplyCode.OK)


def _accept_task_result(intake: Intake, message: Inbound) -> None:
    body = message.body
    assert isinstance(body, ms.TaskResult)
    draft = _of_execution(intake, body.execution_id)
    task = draft.tasks.get(body.task_id) if draft is not None else None
    if task is None or task.attempt != body.attempt or task.retry_at_ms != NEVER:
        intake.dropped += 1
    elif body.failure is not None:
        _fail_task(intake, task, body.failure)
    elif len(body.result) > (limit := intake.setting.limits.payload_bytes_max):
        text = (
            f"activity {task.scheduled.name!r}, result: {len(body.result)} bytes of JSON, and at most {limit} are allowed; "
            "put large data where others can reach it, and return a reference"
        )
        _fail_task(intake, task, Failure("ValueRefused", text, retriable=False))
    else:
        intake.add(ev.TaskCompleted(body.task_id, body.attempt, body.result))


def _fail_task(intake: Intake, task: PendingTask, failure: Failure) -> None:
    scheduled = task.scheduled
    retry_at = next_attempt_ms(scheduled.retry, task.failures + 1, task.scheduled_at_ms, intake.now_ms, failure)
    if task.deadline_ms != NEVER and retry_at >= task.deadline_ms:
        retry_at = NEVER
    intake.add(ev.TaskFailed(scheduled.task_id, task.attempt, failure, retry_at))


def next_attempt_ms(policy: RetryOptions | None, failures: int, since_ms: int, now_ms: int, failure: Failure) -> int:
    """When a task that failed `failures` times is tried again, or NEVER. Source: Durable Task's RetryPolicy."""
    if (
        policy is None
        or not failure.retriable
        or failures >= policy.attempts_max
        or _is_named(failure.type, policy.non_retriable)
    ):
        return NEVER
    longest = DELAY_MS_MAX if policy.interval_max_ms == NEVER else policy.interval_max_ms
    at = now_ms + int(min(_backoff_ms(policy, failures), longest))
    return NEVER if policy.timeout_ms != NEVER and at > since_ms + policy.timeout_ms else at


def _backoff_ms(policy: RetryOptions, failures: int) -> float:
    try:
        return min(DELAY_MS_MAX, policy.first_interval_ms * policy.backoff ** (failures - 1))
    except OverflowError:
        return DELAY_MS_MAX if policy.first_interval_ms else 0


def _is_named(kind: str, names: Sequence[str]) -> bool:
    return kind in names or kind.rpartition(".")[2] in names


def _of_execution(intake: Intake, execution_id: str) -> Draft | None:
    draft = intake.draft
    return draft if draft is not None and draft.started.execution_id == execution_id else None


def _accept_child_result(intake: Intake, message: Inbound) -> None:
    body = cast("ms.ChildResult", message.body)
    draft = _of_execution(intake, body.execution_id)
    child = draft.children.get(body.task_id) if draft is not None else None
    if child is None or child.attempt != body.attempt or child.retry_at_ms != NEVER:
        intake.dropped += 1
    elif body.failure is None:
        intake.add(ev.SubOrchestrationInstanceCompleted(body.task_id, body.attempt, body.result))
    else:
        retry_at = next_attempt_ms(
            child.created.retry, child.failures + 1, child.created_at_ms, intake.now_ms, body.failure
        )
        intake.add(ev.SubOrchestrationInstanceFailed(body.task_id, body.attempt, body.failure, retry_at))


def _accept_timer_due(intake: Intake, message: Inbound) -> None:
    due = cast("ms.TimerDue", message.body)
    draft = _of_execution(intake, due.execution_id)
    if draft is None or not _TIMER_DUE[due.purpose](intake, draft, due):
        intake.dropped += 1


def _fire_timer(intake: Intake, draft: Draft, due: ms.TimerDue) -> bool:
    if draft.timers.get(due.task_id) != due.fire_at_ms:
        return False
    intake.add(ev.TimerFired(due.task_id, due.fire_at_ms))
    return True


def _begin_scheduled(_intake: Intake, draft: Draft, due: ms.TimerDue) -> bool:
    # No fact: the due time is in ExecutionStarted, and the turn that follows decides.
    return draft.started.start_at_ms == due.fire_at_ms


def _retry_task(intake: Intake, draft: Draft, due: ms.TimerDue) -> bool:
    task = draft.tasks.get(due.task_id)
    if task is None or task.retry_at_ms != due.fire_at_ms:
        return False
    intake.add(ev.TaskRescheduled(due.task_id, task.attempt + 1, RescheduleReason.RETRY))
    return True


def _time_task_out(intake: Intake, draft: Draft, due: ms.TimerDue) -> bool:
    task = draft.tasks.get(due.task_id)
    if task is None or task.deadline_ms != due.fire_at_ms:
        return False
    text = f"activity {task.scheduled.name!r} was not finished {task.scheduled.schedule_to_close_ms} ms after it was scheduled"
    intake.add(ev.TaskFailed(due.task_id, task.attempt, Failure("ActivityTimedOut", text, retriable=False)))
    return True


def _retry_child(intake: Intake, draft: Draft, due: ms.TimerDue) -> bool:
    child = draft.children.get(due.task_id)
    if child is None or child.retry_at_ms != due.fire_at_ms:
        return False
    intake.add(ev.SubOrchestrationInstanceRecreated(due.task_id, child.attempt + 1))
    intake.sends.append(start_child(draft, child.created, child.attempt + 1))
    return True


def _accept_task_lost(intake: Intake, message: Inbound) -> None:
    lost = cast("ms.TaskLost", message.body)
    draft = _of_execution(intake, lost.execution_id)
    task = draft.tasks.get(lost.task_id) if draft is not None else None
    if task is None or task.attempt != lost.attempt or task.retry_at_ms != NEVER:
        intake.dropped += 1
    elif lost.released:
        intake.add(ev.TaskRescheduled(lost.task_id, task.attempt + 1, RescheduleReason.RELEASE))
    elif task.lost + 1 >= LOST_MAX:
        text = f"{LOST_MAX} dispatches of activity {task.scheduled.name!r} never came back: it seems to kill the process that runs it"
        intake.add(ev.TaskFailed(lost.task_id, task.attempt, Failure("ActivityCrashed", text, retriable=False)))
    else:
        intake.add(ev.TaskRescheduled(lost.task_id, task.attempt + 1, RescheduleReason.RECOVERY))


_TIMER_DUE: dict[TimerPurpose, Callable[[Intake, Draft, ms.TimerDue], bool]] = {
    TimerPurpose.TIMER: _fire_timer,
    TimerPurpose.START: _begin_scheduled,
    TimerPurpose.RETRY: _retry_task,
    TimerPurpose.SCHEDULE_TO_CLOSE: _time_task_out,
    TimerPurpose.CHILD_RETRY: _retry_child,
}

_ACCEPT: dict[type[Any], Callable[[Intake, Inbound], None]] = {
    ms.Start: _accept_start,
    ms.RaiseEvent: _accept_raise,
    ms.Cancel: _accept_cancel,
    ms.Terminate: _accept_terminate,
    ms.Suspend: _accept_suspend,
    ms.Resume: _accept_resume,
    ms.Purge: _accept_purge,
    ms.TaskResult: _accept_task_result,
    ms.ChildResult: _accept_child_result,
    ms.TimerDue: _accept_timer_due,
    ms.TaskLost: _accept_task_lost,
}
