"""One instance as its log tells it, held to the invariants event by event.

Rules of this file: a check looks at the state before its event; the event is applied whatever the check says, so that one
wrong event is one finding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from perdure.actors.accept import execution_id_at, next_attempt_ms
from perdure.actors.instance import Draft, InstanceState, begin
from perdure.actors.turn import may_decide
from perdure.partitions.instances import execution_part
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_turn, extend_digest
from perdure.schemas.events import NEVER, HistoryEvent, RescheduleReason, Status
from perdure.schemas.records import LEVEL, NO_DIGEST, CarriedHistory, TurnBody

DECISIONS = (
    ev.TaskScheduled,
    ev.TaskCanceled,
    ev.SubOrchestrationInstanceCreated,
    ev.TimerCreated,
    ev.TimerCanceled,
    ev.EventSent,
    ev.CustomStatusSet,
    ev.PatchMarked,
    ev.ExecutionCompleted,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn stands: the offset of its (first) record, and the epoch. `encoded` and `format` are its body's."""

    offset: int
    epoch: int
    format: int = LEVEL
    encoded: bytes = b""


@dataclass(slots=True)
class AuditedInstance:
    """What an audit remembers of an instance. `state` is None before its start and once it is forgotten. `partial`: it has turns
    whose beginning was trimmed away. `begins_at` and `chain` are the offset and the digest of its execution's history."""

    instance_id: str
    state: InstanceState | None = None
    first_epoch: int = NEVER
    last_epoch: int = NEVER
    last_task_id: int = 0
    dispatched_in: dict[int, int] = field(default_factory=dict)
    partial: bool = False
    begins_at: int = NEVER
    last_offset: int = NEVER
    chain: bytes = NO_DIGEST

    @property
    def spans_claims(self) -> bool:
        """Whether it has turns on both sides of a later claim."""
        return self.first_epoch != self.last_epoch

    def take_turn(self, body: TurnBody, place: Place, *, trimmed: bool = False) -> Iterator[str]:
        """Apply one turn; say what is wrong with it. `trimmed`: what was before it may be gone."""
        if self.first_epoch == NEVER:
            self.first_epoch = place.epoch
        self.last_epoch = place.epoch
        self._extend(place, body)
        if self.state is None and trimmed and not _begins_with_start(body):
            decided, events = execution_part(body.decided, body.events)
            body = replace(body, decided=decided, events=events)
        events = body.events
        if self.state is None:
            if not _begins_with_start(body):
                self.partial = self.partial or trimmed
                if not trimmed:
                    yield "a turn of an instance that was never started"
                return
            yield from self._begin(events[0], place, trimmed=trimmed)
            events = events[1:]
        assert self.state is not None
        turn = _Turn(self, Draft(self.state, body.time_ms, delivering=False), body, place)
        yield from turn.take(events)
        self.state = turn.draft.freeze()

    def _begin(self, started: HistoryEvent, place: Place, *, trimmed: bool) -> Iterator[str]:
        assert isinstance(started, ev.ExecutionStarted)
        yield from _check_started(started.generation if trimmed else 1, started, place)
        self.last_task_id = 0
        self.dispatched_in.clear()
        self.partial = False
        self.state = begin(self.instance_id, started)

    def _extend(self, place: Place, body: TurnBody) -> None:
        """The history of the newest execution, as a digest."""
        if any(isinstance(event, ev.ExecutionStarted) for event in body.events):
            self.begins_at, self.chain = place.offset, NO_DIGEST
        self.last_offset = place.offset
        self.chain = extend_digest(self.chain, b"%d %d " % (place.offset, place.format) + place.encoded)

    def take_carried(self, carried: CarriedHistory, offset: int) -> Iterator[str]:
        """Its history was appended again (R15): the same as before, or all that is left of it."""
        if self.state is None:
            yield from self._take_whole(carried)
        else:
            again = NO_DIGEST
            for turn in carried.turns:
                again = extend_digest(again, b"%d %d " % (turn.offset, turn.format) + turn.body)
            if again != self.chain:
                yield "the history that was carried forward is not the one that the log has"
        if not self.last_offset <= carried.as_of < offset:
            yield f"its history was carried as of {carried.as_of}, its last turn is at {self.last_offset}"
        self.begins_at = offset

    def _take_whole(self, carried: CarriedHistory) -> Iterator[str]:
        last_offset = self.last_offset
        for number, turn in enumerate(carried.turns):
            body = decode_turn(turn.body, turn.format)
            if not number:
                decided, events = execution_part(body.decided, body.events)
                body = replace(body, decided=decided, events=events)
            # Which epochs these turns were of is gone with the log; each of an own one contradicts nothing.
            place = Place(turn.offset, NEVER - 1 - number, turn.format, turn.body)
            yield from self.take_turn(body, place, trimmed=True)
        if last_offset > self.last_offset:
            yield f"its history was carried without its turn at {last_offset}"

    def forget(self, *, trimmed: bool = False) -> Iterator[str]:
        """It was purged."""
        self.partial = False
        if self.state is None and not trimmed:
            yield "an instance is forgotten that does not exist"
        self.state = None


def _begins_with_start(body: TurnBody) -> bool:
    return bool(body.events) and isinstance(body.events[0], ev.ExecutionStarted)


class _Turn:
    """One turn of an instance: facts first, then what the code decided, then at most the start of the next execution.

    `answered` are the tasks whose results reach the code in this turn. It sees one fact after the other, so it may have given up a
    task before it came to its result.
    """

    def __init__(self, instance: AuditedInstance, draft: Draft, body: TurnBody, place: Place) -> None:
        self.instance = instance
        self.draft = draft
        self.body = body
        self.place = place
        self.deciding = False
        self.begun = False
        self.answered: frozenset[int] = frozenset()

    def take(self, events: tuple[HistoryEvent, ...]) -> Iterator[str]:
        for event in events:
            yield from self._check_place(event)
            check = _CHECKS.get(type(event))
            if check is not None:
                yield from check(self, event)
            self._note(event)
            self.draft.apply(event)
        if self.body.decided and not self.deciding and not self.begun:
            yield from self._begin_deciding()
        if self.draft.status == Status.CONTINUED_AS_NEW:
            yield "the execution continued as new, and no next one was started"

    def _begin_deciding(self) -> Iterator[str]:
        self.deciding = True
        if not may_decide(self.draft, self.body.time_ms):
            yield f"the code decided where it could see nothing new, was suspended, had ended or was not due ({self.draft.status.name})"
        self.answered = frozenset(getattr(event, "task_id", NEVER) for event in self.draft.undelivered)
        self.draft.take_delivery()

    def _check_place(self, event: HistoryEvent) -> Iterator[str]:
        """Facts come first, decisions after them; after the end of an execution only another one comes."""
        name = type(event).__name__
        starts = isinstance(event, ev.ExecutionStarted)
        if (self.draft.status.terminal or self.draft.status == Status.CONTINUED_AS_NEW) and not starts:
            yield f"{name} after the execution had ended as {self.draft.status.name}"
        if isinstance(event, DECISIONS) and not self.begun:
            if self.body.decided:
                if not self.deciding:
                    yield from self._begin_deciding()
            elif not self._is_canceled_before_start(event):
                yield f"{name} is a decision, but the code did not decide in this turn"
        elif self.deciding and not starts and not self.begun:
            yield f"{name} is a fact, but stands after a decision"

    def _is_canceled_before_start(self, event: HistoryEvent) -> bool:
        return isinstance(event, ev.ExecutionCompleted) and (event.status, self.draft.status) == (
            Status.CANCELED,
            Status.PENDING,
        )

    def _note(self, event: HistoryEvent) -> None:
        instance = self.instance
        if isinstance(event, ev.ExecutionStarted):
            self.begun = True
            instance.last_task_id = 0
            instance.dispatched_in.clear()
        elif isinstance(event, ev.TaskScheduled | ev.TaskRescheduled):
            instance.dispatched_in[event.task_id] = self.place.epoch


def _check_started(generation: int, event: ev.ExecutionStarted, place: Place) -> Iterator[str]:
    if event.generation != generation:
        yield f"execution {event.execution_id} is generation {event.generation}, expected {generation}"
    expected = execution_id_at(place.offset, event.generation)
    if event.execution_id != expected:
        yield f"execution id {event.execution_id}, expected {expected}"


def _check_next_start(turn: _Turn, event: ev.ExecutionStarted) -> Iterator[str]:
    draft = turn.draft
    if not draft.status.terminal and draft.status != Status.CONTINUED_AS_NEW:
        yield f"an execution was started while {draft.started.execution_id} was {draft.status.name}"
    if draft.status == Status.CONTINUED_AS_NEW:
        kept = (draft.started.name, draft.started.parent, draft.started.tags, draft.started.created_at_ms)
        if kept != (event.name, event.parent, event.tags, event.created_at_ms):
            yield "what continue-as-new keeps is not what it was"
    yield from _check_started(draft.started.generation + 1, event, turn.place)


def _check_completed(_turn: _Turn, event: ev.ExecutionCompleted) -> Iterator[str]:
    if not event.status.terminal and event.status != Status.CONTINUED_AS_NEW:
        yield f"an execution cannot complete as {event.status.name}"
    if (event.status in (Status.FAILED, Status.CANCELED)) == (event.failure is None):
        yield f"completed as {event.status.name} {'without' if event.failure is None else 'with'} a failure"


def _check_new_task(turn: _Turn, event: Any) -> Iterator[str]:
    last = turn.instance.last_task_id
    turn.instance.last_task_id = max(last, event.task_id)
    if event.task_id <= last:
        yield f"{type(event).__name__} has task id {event.task_id}, but {last} was given already"


def _check_task_completed(turn: _Turn, event: ev.TaskCompleted) -> Iterator[str]:
    task = turn.draft.tasks.get(event.task_id)
    if task is None or task.attempt != event.attempt or task.retry_at_ms != NEVER:
        yield f"a result of task {event.task_id}, attempt {event.attempt}, which was not pending"


def _check_task_failed(turn: _Turn, event: ev.TaskFailed) -> Iterator[str]:
    task, now_ms = turn.draft.tasks.get(event.task_id), turn.body.time_ms
    if task is None or task.attempt != event.attempt:
        yield f"a failure of task {event.task_id}, attempt {event.attempt}, which was not pending"
        return
    timed_out = task.deadline_ms != NEVER and now_ms >= task.deadline_ms
    if task.retry_at_ms != NEVER and not timed_out:
        yield f"a failure of task {event.task_id}, attempt {event.attempt}, which waits for its retry"
    retry_at = next_attempt_ms(task.scheduled.retry, task.failures + 1, task.scheduled_at_ms, now_ms, event.failure)
    if task.deadline_ms != NEVER and retry_at >= task.deadline_ms:
        retry_at = NEVER
    if event.retry_at_ms != retry_at:
        yield f"task {event.task_id} is to be tried again at {event.retry_at_ms}, its policy says {retry_at}"


def _check_task_rescheduled(turn: _Turn, event: ev.TaskRescheduled) -> Iterator[str]:
    task = turn.draft.tasks.get(event.task_id)
    if task is None:
        yield f"task {event.task_id} was dispatched again and was not pending"
        return
    if event.attempt != task.attempt + 1:
        yield f"attempt {event.attempt} of task {event.task_id} after attempt {task.attempt}"
    if event.reason == RescheduleReason.RETRY:
        yield from _check_due(turn, task.retry_at_ms, f"task {event.task_id} was tried again")
    elif task.retry_at_ms != NEVER:
        yield f"task {event.task_id} was dispatched again while it waited for its retry"
    elif (
        event.reason == RescheduleReason.RECOVERY and turn.instance.dispatched_in.get(event.task_id) == turn.place.epoch
    ):
        yield f"task {event.task_id} was dispatched again as lost, but no claim came since its dispatch"


def _check_due(turn: _Turn, due_ms: int, what: str) -> Iterator[str]:
    if due_ms == NEVER:
        yield f"{what} and was not to be"
    elif turn.body.time_ms < due_ms:
        yield f"{what} at {turn.body.time_ms}, {due_ms - turn.body.time_ms} ms early"


def _check_canceled(turn: _Turn, event: ev.TaskCanceled) -> Iterator[str]:
    draft, task_id = turn.draft, event.task_id
    if draft.tasks.get(task_id) is None and draft.children.get(task_id) is None and task_id not in turn.answered:
        yield f"task {event.task_id} was canceled and was not pending"


def _check_child_ended(turn: _Turn, event: Any) -> Iterator[str]:
    child = turn.draft.children.get(event.task_id)
    if child is None or child.attempt != event.attempt or child.retry_at_ms != NEVER:
        yield f"a result of sub-orchestration {event.task_id}, attempt {event.attempt}, which was not pending"
    elif isinstance(event, ev.SubOrchestrationInstanceFailed):
        retry_at = next_attempt_ms(
            child.created.retry, child.failures + 1, child.created_at_ms, turn.body.time_ms, event.failure
        )
        if event.retry_at_ms != retry_at:
            yield f"sub-orchestration {event.task_id} is to be tried again at {event.retry_at_ms}, its policy says {retry_at}"


def _check_child_recreated(turn: _Turn, event: ev.SubOrchestrationInstanceRecreated) -> Iterator[str]:
    child = turn.draft.children.get(event.task_id)
    if child is None or event.attempt != child.attempt + 1:
        yield f"attempt {event.attempt} of sub-orchestration {event.task_id} was not the next one"
    else:
        yield from _check_due(turn, child.retry_at_ms, f"sub-orchestration {event.task_id} was started again")


def _check_timer_fired(turn: _Turn, event: ev.TimerFired) -> Iterator[str]:
    if turn.draft.timers.get(event.task_id) != event.fire_at_ms:
        yield f"timer {event.task_id} fired and was not pending for {event.fire_at_ms}"
    else:
        yield from _check_due(turn, event.fire_at_ms, f"timer {event.task_id} fired")


def _check_timer_canceled(turn: _Turn, event: ev.TimerCanceled) -> Iterator[str]:
    if turn.draft.timers.get(event.task_id) is None and event.task_id not in turn.answered:
        yield f"timer {event.task_id} was canceled and was not pending"


_CHECKS = cast(
    "dict[type[Any], Callable[[_Turn, Any], Iterator[str]]]",
    {
        ev.ExecutionStarted: _check_next_start,
        ev.ExecutionCompleted: _check_completed,
        ev.TaskScheduled: _check_new_task,
        ev.TimerCreated: _check_new_task,
        ev.EventSent: _check_new_task,
        ev.SubOrchestrationInstanceCreated: _check_new_task,
        ev.TaskCompleted: _check_task_completed,
        ev.TaskFailed: _check_task_failed,
        ev.TaskRescheduled: _check_task_rescheduled,
        ev.TaskCanceled: _check_canceled,
        ev.SubOrchestrationInstanceCompleted: _check_child_ended,
        ev.SubOrchestrationInstanceFailed: _check_child_ended,
        ev.SubOrchestrationInstanceRecreated: _check_child_recreated,
        ev.TimerFired: _check_timer_fired,
        ev.TimerCanceled: _check_timer_canceled,
    },
)
