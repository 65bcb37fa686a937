"""The ledger: what one confirmed record changes in the store. Pure; used live and in recovery alike, so both give one store.

Rules of this file: changes follow from the state before, the events and the state after; the header and the index are the
caller's, once for each instance and batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from perdure.actors.instance import InstanceState
from perdure.actors.turn import may_decide
from perdure.schemas import events as ev
from perdure.schemas.events import NEVER
from perdure.schemas.frozen import dataclass
from perdure.schemas.messages import TimerPurpose
from perdure.schemas.records import TurnBody

from .keys import (
    TimerKey,
    activity_prefix,
    beginning_key,
    carried_key,
    due_turn_key,
    history_key,
    local_key,
    outbox_key,
    timer_key,
)
from .ports import Change


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One accepted TURN, PARTITION or FORGOTTEN record with its instance before and after it."""

    instance_id: str
    offset: int
    format: int
    body: TurnBody
    encoded: bytes
    before: InstanceState | None
    after: InstanceState | None


class DueActivity(NamedTuple):
    """An activity that is out: its attempt, how many before it never came back, and the offset of the turn that asks for it."""

    attempt: int
    lost: int
    offset: int


def encode_due_activity(due: DueActivity) -> bytes:
    return b"%b%c%b" % (due.attempt.to_bytes(4, "big"), due.lost, due.offset.to_bytes(8, "big"))


def decode_due_activity(value: bytes) -> DueActivity:
    return DueActivity(int.from_bytes(value[:4], "big"), value[4], int.from_bytes(value[5:], "big"))


def encode_stored_turn(offset: int, level: int, encoded: bytes) -> bytes:
    return b"%b%b%b" % (offset.to_bytes(8, "big"), level.to_bytes(2, "big"), encoded)


def decode_stored_turn(value: bytes) -> tuple[int, int, bytes]:
    """Offset, format and body."""
    return int.from_bytes(value[:8], "big"), int.from_bytes(value[8:10], "big"), value[10:]


def begins_at(state: InstanceState) -> int:
    """The offset from which on the log has the whole history of the instance's execution (R15)."""
    if state.carried_at != NEVER:
        return state.carried_at
    # An execution is named after the offset of the turn that began it (actors.accept.execution_id_at).
    return int(state.execution_id.partition("-")[0], 16)


def take_changes(turn: Confirmed, partition: int) -> list[Change]:
    """Everything that `turn` changes but header and index, in an order that later entries win."""
    body = turn.body
    out: list[Change] = [(local_key(sequence), None) for sequence in body.locals]
    for send in body.sends:
        if send.target == partition:
            out.append((local_key(send.sequence), send.message))
        else:
            out.append((outbox_key(send.target, send.sequence), send.message))
    if turn.instance_id:
        out += instance_changes(turn)
    return out


def instance_changes(turn: Confirmed) -> list[Change]:
    """What `turn` changes of its instance but header and index."""
    out: list[Change] = []
    _Pending(turn, out).take()
    return out


def carry_changes(before: InstanceState, offset: int) -> list[Change]:
    """What it changes that the instance's history was appended again at `offset` (R15)."""
    name = before.instance_id
    return [
        (beginning_key(begins_at(before), name), None),
        (beginning_key(offset, name), b""),
        (carried_key(name), offset.to_bytes(8, "big")),
    ]


class _Pending:
    """The tables of what an instance waits for, brought from before to after."""

    __slots__ = (
        "_activities",
        "_dropped",
        "_due",
        "_execution",
        "_instance",
        "_out",
        "_stored",
        "_tasks",
        "_time",
        "_timers",
        "_turn",
    )

    def __init__(self, turn: Confirmed, out: list[Change]) -> None:
        self._turn, self._out, self._instance = turn, out, turn.instance_id
        before = turn.before
        self._begin_execution(before.started.execution_id if before else "")
        self._time = max(turn.body.time_ms, before.updated_at_ms if before else 0)
        # Timers and activities that this turn adds; those of `_stored` are in the store, but for what was dropped since.
        self._timers: dict[int, list[TimerKey]] = {}
        self._tasks: set[int] = set()
        self._dropped: set[int] = set()
        # A first attempt that this turn asks for is the same for all its tasks.
        self._due = b""

    def _begin_execution(self, execution_id: str) -> None:
        before = self._turn.before
        self._stored = before if before is not None and before.started.execution_id == execution_id else None
        self._execution = execution_id
        self._activities = activity_prefix(self._instance, execution_id)

    def take(self) -> None:
        turn, before, after = self._turn, self._turn.before, self._turn.after
        if (
            turn.body.decided
            and before is not None
            and before.status == ev.Status.PENDING
            and before.started.start_at_ms
        ):
            self._drop_timers(0)
        for event in turn.body.events:
            visit = _VISIT.get(type(event))
            if visit is not None:
                visit(self, event)
        old_turns = before.turns_count if before else 0
        new_turns = after.turns_count if after else 0
        if new_turns <= old_turns:
            self._out.extend((history_key(self._instance, number), None) for number in range(1, old_turns + 1))
        self._begin(before, after)
        if after is None:
            self._end(None)
            self._out.append((due_turn_key(self._instance), None))
            return
        self._out.append(
            (history_key(self._instance, new_turns), encode_stored_turn(turn.offset, turn.format, turn.encoded))
        )
        was, now = _waits_for_code(before), _waits_for_code(after)
        if was != now:
            self._out.append((due_turn_key(self._instance), b"" if now else None))

    def _begin(self, before: InstanceState | None, after: InstanceState | None) -> None:
        """Note where the history begins, when there is another one than before."""
        if before is not None and after is not None and before.started is after.started:
            return
        was, now = begins_at(before) if before else None, begins_at(after) if after else None
        if was == now:
            return
        if before is not None and was is not None:
            self._out.append((beginning_key(was, self._instance), None))
            if before.carried_at != NEVER:
                self._out.append((carried_key(self._instance), None))
        if now is not None:
            self._out.append((beginning_key(now, self._instance), b""))

    def _timer(self, due_ms: int, task_id: int, purpose: TimerPurpose) -> None:
        key = TimerKey(due_ms, self._instance, self._execution, task_id, purpose)
        self._timers.setdefault(task_id, []).append(key)
        self._out.append((timer_key(key), b""))

    def _drop_timers(self, task_id: int) -> None:
        if self._timers:
            self._out.extend((timer_key(key), None) for key in self._timers.pop(task_id, ()))
        for key in stored_timers(self._stored, task_id):
            self._out.append((timer_key(key), None))

    def _activity(self, task_id: int, due: bytes) -> None:
        self._tasks.add(task_id)
        self._out.append((self._activities + task_id.to_bytes(4, "big"), due))

    def _drop_activity(self, task_id: int) -> None:
        self._tasks.discard(task_id)
        self._out.append((self._activities + task_id.to_bytes(4, "big"), None))

    def _started(self, event: ev.ExecutionStarted) -> None:
        if self._execution:
            self._end(event)
        self._begin_execution(event.execution_id)
        if event.start_at_ms > self._time:
            self._timer(event.start_at_ms, 0, TimerPurpose.START)

    def _end(self, _event: Any) -> None:
        """The execution is over: nothing of it waits any more."""
        stored = self._stored
        if stored is not None:
            for task_id in {0, *stored.tasks, *stored.children, *stored.timers} - self._dropped:
                self._drop_timers(task_id)
            for task_id in set(stored.tasks) - self._dropped:
                self._drop_activity(task_id)
        for task_id in list(self._timers):
            self._drop_timers(task_id)
        for task_id in list(self._tasks):
            self._drop_activity(task_id)

    def _task_scheduled(self, event: ev.TaskScheduled) -> None:
        self._due = self._due or encode_due_activity(DueActivity(1, 0, self._turn.offset))
        self._activity(event.task_id, self._due)
        if event.schedule_to_close_ms != NEVER:
            self._timer(self._time + event.schedule_to_close_ms, event.task_id, TimerPurpose.SCHEDULE_TO_CLOSE)

    def _task_rescheduled(self, event: ev.TaskRescheduled) -> None:
        after = self._turn.after
        task = after.tasks.get(event.task_id) if after else None
        self._drop_retry(event.task_id)
        due = DueActivity(event.attempt, task.lost if task else 0, self._turn.offset)
        self._activity(event.task_id, encode_due_activity(due))

    def _drop_retry(self, task_id: int) -> None:
        before = self._turn.before
        task = before.tasks.get(task_id) if before else None
        if task is not None and task.retry_at_ms != NEVER:
            key = TimerKey(task.retry_at_ms, self._instance, self._execution, task_id, TimerPurpose.RETRY)
            self._out.append((timer_key(key), None))

    def _task_over(self, event: ev.TaskCompleted | ev.TaskCanceled) -> None:
        self._drop_activity(event.task_id)
        self._drop_timers(event.task_id)
        if self._stored is not None:
            self._dropped.add(event.task_id)

    def _task_failed(self, event: ev.TaskFailed) -> None:
        self._drop_activity(event.task_id)
        if event.retry_at_ms == NEVER:
            self._drop_timers(event.task_id)
        else:
            self._timer(event.retry_at_ms, event.task_id, TimerPurpose.RETRY)

    def _child_failed(self, event: ev.SubOrchestrationInstanceFailed) -> None:
        if event.retry_at_ms != NEVER:
            self._timer(event.retry_at_ms, event.task_id, TimerPurpose.CHILD_RETRY)

    def _timers_over(self, event: Any) -> None:
        self._drop_timers(event.task_id)

    def _timer_created(self, event: ev.TimerCreated) -> None:
        self._timer(event.fire_at_ms, event.task_id, TimerPurpose.TIMER)


def stored_timers(state: InstanceState | None, task_id: int) -> list[TimerKey]:
    """The durable timers that `state` has for one task; task 0 stands for the start."""
    if state is None:
        return []
    task = state.tasks.get(task_id)
    if task is not None and task.retry_at_ms == NEVER and task.deadline_ms == NEVER:
        return []  # of most
    name, execution = state.instance_id, state.started.execution_id
    if task_id == 0:
        at = state.started.start_at_ms
        return [TimerKey(at, name, execution, 0, TimerPurpose.START)] if at else []
    out: list[TimerKey] = []
    if state.timers and (fire_at := state.timers.get(task_id)) is not None:
        out.append(TimerKey(fire_at, name, execution, task_id, TimerPurpose.TIMER))
    if task is not None:
        if task.retry_at_ms != NEVER:
            out.append(TimerKey(task.retry_at_ms, name, execution, task_id, TimerPurpose.RETRY))
        if (deadline_ms := task.deadline_ms) != NEVER:
            out.append(TimerKey(deadline_ms, name, execution, task_id, TimerPurpose.SCHEDULE_TO_CLOSE))
    if state.children and (child := state.children.get(task_id)) is not None and child.retry_at_ms != NEVER:
        out.append(TimerKey(child.retry_at_ms, name, execution, task_id, TimerPurpose.CHILD_RETRY))
    return out


def _waits_for_code(state: InstanceState | None) -> bool:
    """True if a turn is due without any message: what recovery must find again. A start that lies ahead has its timer."""
    if state is None or not state.undelivered:
        return False
    return may_decide(state, max(state.updated_at_ms, state.started.created_at_ms))


_VISIT = cast(
    "dict[type[Any], Callable[[_Pending, Any], None]]",
    {
        ev.ExecutionStarted: _Pending._started,
        ev.ExecutionCompleted: _Pending._end,
        ev.ExecutionTerminated: _Pending._end,
        ev.TaskScheduled: _Pending._task_scheduled,
        ev.TaskRescheduled: _Pending._task_rescheduled,
        ev.TaskCompleted: _Pending._task_over,
        ev.TaskCanceled: _Pending._task_over,
        ev.TaskFailed: _Pending._task_failed,
        ev.SubOrchestrationInstanceRecreated: _Pending._timers_over,
        ev.SubOrchestrationInstanceFailed: _Pending._child_failed,
        ev.TimerCreated: _Pending._timer_created,
        ev.TimerFired: _Pending._timers_over,
        ev.TimerCanceled: _Pending._timers_over,
    },
)

__all__ = [
    "Confirmed",
    "begins_at",
    "carry_changes",
    "decode_due_activity",
    "decode_stored_turn",
    "encode_due_activity",
    "instance_changes",
    "stored_timers",
    "take_changes",
]
