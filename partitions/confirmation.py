"""Confirmation: what happens once records are durable, in this order: one write batch, then effects, then replies (R5).

Rules of this file: nothing here runs for a record that is not confirmed; who has an answer can read what it says.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import field

import orjson

from perdure.actors.executor import UNKNOWN_EVENT, InstanceHeld
from perdure.actors.instance import InstanceState
from perdure.actors.outgoing import Answer
from perdure.schemas import events as ev
from perdure.schemas.events import NEVER, Failure, Status
from perdure.schemas.frozen import dataclass
from perdure.schemas.messages import Inbound, ReplyCode, TaskLost, TaskResult
from perdure.schemas.records import FIRST_LEVEL, Checkpoint, RecordKind, Send, TurnBody

from .activities import ActivityResult, ActivityTask
from .epoch import Appended, Epoch
from .header import InstanceHeader, encode_standing, header_of, read_header, stands
from .holdings import Holdings
from .index import index_changes, read_held
from .instances import Slot
from .keys import activity_key
from .ledger import Confirmed, decode_due_activity
from .state import NO_BASE
from .suspects import Lost

LATE_TIMES = 2
_DISPATCHING = (ev.TaskScheduled, ev.TaskRescheduled)
_CANCELING = (ev.TaskCanceled, ev.TaskFailed)
# The same to look up: each event of each turn is, and half of them are none of those that are acted on.
_DISPATCHES = frozenset(_DISPATCHING)
_ACTED_ON = frozenset((*_DISPATCHING, *_CANCELING, ev.ExecutionStarted))


@dataclass(slots=True)
class Decided:
    """One record on its way, and what its confirmation means."""

    kind: RecordKind
    instance_id: str = ""
    body: TurnBody | None = None
    before: InstanceState | None = None
    after: InstanceState | None = None
    slot: Slot | None = None
    answers: Sequence[Answer] = ()
    watchers: Sequence[Inbound] = ()
    sends: Sequence[tuple[str, Send]] = ()
    checkpoint: Checkpoint | None = None
    attempt: Sequence[str] | None = None
    level: int | None = None
    dispatches: int = 0
    encoded: bytes = b""
    format: int = FIRST_LEVEL
    appended_at: float = field(default=0.0)


class ResultsOut:
    """Results of activities that were taken and may not be in a confirmed record."""

    def __init__(self) -> None:
        # Each batch with the offset after the records that it went into; that of the newest is not known yet.
        self._sealed: deque[tuple[int, Sequence[ActivityResult]]] = deque()
        self._newest: Sequence[ActivityResult] = ()

    def take(self, results: Sequence[ActivityResult], next_offset: int, confirmed_offset: int) -> None:
        """A round begins with these; the one before it appended up to `next_offset`."""
        if self._newest:
            self._sealed.append((next_offset, self._newest))
        self._newest = results
        while self._sealed and self._sealed[0][0] <= confirmed_offset + 1:
            self._sealed.popleft()

    def unconfirmed(self, confirmed_offset: int) -> list[ActivityResult]:
        batches = [batch for end, batch in self._sealed if end > confirmed_offset + 1]
        return [result for batch in (*batches, self._newest) for result in batch]


class Confirmation:
    """The confirmed side of a tenure."""

    def __init__(self, holdings: Holdings, epoch: "Epoch[Decided]") -> None:
        self._home = holdings
        self._epoch = epoch
        self._unknown: dict[tuple[str, str], set[int]] = {}
        self._turns_since = 0
        self._bytes_since = 0
        self._checkpoint_at = holdings.parts.clock.monotonic()
        self._checkpoint_out = False
        self._trimmed_to = NO_BASE
        self._results_out = ResultsOut()
        self._undispatched = 0
        self.leaving = False
        """The last records are on their way, and others wait for the partition: to close the store makes it durable, too."""

    @property
    def offset(self) -> int:
        """As of where all is confirmed: what an answer says (R16)."""
        return self._epoch.confirmed_offset

    def take(self, confirmed: Sequence[Appended[Decided]]) -> bool:
        """Make these records visible, in order. A checkpoint ends a batch, so that a snapshot can be as of it (R14)."""
        start = 0
        for end, appended in enumerate(confirmed, 1):
            if appended.effect.checkpoint is not None:
                self._take_batch(confirmed[start:end])
                self._finish_checkpoint(appended)
                start = end
        if start < len(confirmed):
            self._take_batch(confirmed[start:])
        return bool(confirmed)

    def _take_batch(self, confirmed: Sequence[Appended[Decided]]) -> None:
        records = [appended.effect for appended in confirmed]
        # 1. The store, readers' index and the place in the log: one batch.
        ended = self._write(confirmed)
        # 2. Effects: sends, dispatch, cancellation.
        self._take_effect(confirmed)
        # 3. Replies.
        self._reply(records, ended, confirmed[-1].offset)

    def _take_effect(self, confirmed: Sequence[Appended[Decided]]) -> None:
        for appended in confirmed:
            record = appended.effect
            for key, send in record.sends:
                if send.target != self._home.partition:
                    self._home.outbox.offer(send.target, send.sequence, key, send.message)
            if record.body is not None and record.instance_id:
                self._act(record, appended.first_offset)

    def _write(self, confirmed: Sequence[Appended[Decided]]) -> list[InstanceHeader]:
        fold, touched = self._home.fold, dict[str, Decided]()
        now = self._home.parts.clock.monotonic()
        for appended in confirmed:
            record = appended.effect
            self._home.counts.confirmed += 1
            self._home.counts.append_times.add(now - record.appended_at)
            if record.checkpoint is None:
                self._turns_since += 1
                self._bytes_since += len(record.encoded)
            if record.slot is not None:
                record.slot.unconfirmed.popleft()
                touched[record.instance_id] = record
            self._fold(appended)
        ended = [header for record in touched.values() if (header := self._show(record)) is not None]
        last = confirmed[-1]
        self._home.timers.confirm(fold.write(self._epoch.number, last.offset, last.previous, last.digest))
        return ended

    def _fold(self, appended: Appended[Decided]) -> None:
        """What one record changes in the store."""
        record, fold = appended.effect, self._home.fold
        if record.body is not None:
            name, before, after = record.instance_id, record.before, record.after
            fold.take(Confirmed(name, appended.first_offset, record.format, record.body, record.encoded, before, after))
        elif record.checkpoint is not None:
            whole = appended.first_offset == appended.offset
            fold.take_checkpoint(appended.first_offset, record.checkpoint, names_base=whole)
        elif record.attempt is not None:
            fold.take_attempt(record.attempt)
        elif record.level is not None:
            fold.take_level(record.level)
        else:
            assert record.before is not None
            fold.take_carried(record.before, appended.first_offset)

    def _show(self, record: Decided) -> InstanceHeader | None:
        """State the header after the batch; return it if the instance ended in it."""
        slot = record.slot
        assert slot is not None
        old = slot.header
        if old is not None and record.after is not None and slot.held is None and stands(old, record.after):
            slot.standing = slot.standing or encode_standing(old)
            self._home.fold.show_progress(slot.standing, record.after)
            return None
        held = (slot.held.kind, slot.held.reason) if slot.held is not None else ("", "")
        new = header_of(record.after, *held) if record.after is not None else None
        self._home.fold.show(record.instance_id, old, new)
        slot.show(new)
        if new is None:
            self._home.instances.drop(slot)
            return None
        if not new.status.terminal:
            return None
        self._home.instances.drop(slot)
        if old is not None and old.status.terminal and old.execution_id == new.execution_id:
            return None
        self._home.counts.instances_ended += 1
        if new.status is Status.FAILED and new.failure is not None:
            self._tell_failed(new, new.failure)
        return new

    def _tell_failed(self, header: InstanceHeader, failure: Failure) -> None:
        self._home.notices.tell(
            "instance.failed",
            instance=header.instance_id,
            name=header.name,
            type=failure.type,
            message=failure.message,
        )

    def _act(self, record: Decided, turn: int) -> None:
        """Dispatch what was scheduled, cancel what is over."""
        assert record.body is not None
        self._undispatched -= record.dispatches
        pool, after, before = self._home.parts.pool, record.after, record.before
        tasks: list[ActivityTask] = []
        for event in record.body.events:
            if type(event) not in _ACTED_ON:
                continue
            if isinstance(event, _DISPATCHING):
                task = self._task(record.instance_id, after, event, turn)
                if task is not None:
                    tasks.append(task)
            elif isinstance(event, _CANCELING) and before is not None:
                pool.cancel(self._home.partition, record.instance_id, before.execution_id, event.task_id)
                self._home.counts.activities_failed += isinstance(event, ev.TaskFailed)
            elif isinstance(event, ev.ExecutionStarted):
                self._home.counts.instances_started += event.generation == 1
        over = (
            after is None or after.status.terminal or (before is not None and before.execution_id != after.execution_id)
        )
        if over and before is not None:
            self._unknown.pop((record.instance_id, before.execution_id), None)
        if over and before is not None and (before.tasks or tasks):
            pool.cancel(self._home.partition, record.instance_id, before.execution_id, None)
        elif tasks:
            self._home.counts.activities_dispatched += len(tasks)
            pool.dispatch(tasks)

    def _task(
        self, instance_id: str, state: InstanceState | None, event: ev.TaskScheduled | ev.TaskRescheduled, turn: int
    ) -> ActivityTask | None:
        """The dispatch that an event asks for, unless the same turn took it back."""
        pending = state.tasks.get(event.task_id) if state is not None else None
        attempt = event.attempt if isinstance(event, ev.TaskRescheduled) else 1
        if state is None or pending is None or pending.attempt != attempt or pending.retry_at_ms != NEVER:
            return None
        self._home.counts.activities_retried += attempt > 1
        scheduled = pending.scheduled
        return ActivityTask(
            self._home.partition,
            instance_id,
            state.execution_id,
            event.task_id,
            attempt,
            scheduled.name,
            scheduled.input,
            scheduled.start_to_close_ms,
            pending.deadline_ms,
            scheduled.tags,
            turn,
        )

    def _reply(self, records: Iterable[Decided], ended: Sequence[InstanceHeader], as_of: int) -> None:
        for record in records:
            for answer in record.answers:
                self._answer(record, answer, as_of)
            for watcher in record.watchers:
                self._watch(record.slot, watcher, as_of)
            if record.kind == RecordKind.FORGOTTEN:
                self._home.queries.tell_forgotten(record.instance_id, as_of)
        self._home.queries.tell_ended(ended, as_of)

    def _watch(self, slot: Slot | None, watcher: Inbound, as_of: int) -> None:
        """Most ask for the end of what they have just begun: it runs, and the store need not be asked."""
        if slot is not None and slot.header is not None and not slot.header.status.terminal:
            self._home.queries.expect_end(watcher)
        else:
            self._home.queries.watch(watcher, as_of)

    def _answer(self, record: Decided, answer: Answer, as_of: int) -> None:
        execution = record.after.execution_id if record.after is not None else answer.execution_id
        fields: dict[str, object] = {
            "instance_id": record.instance_id or answer.instance_id,
            "execution_id": execution or None,
            "message": answer.message,
            "created": answer.created,
        }
        held = record.slot.held if record.slot is not None else None
        code = answer.code
        if held is not None and answer.created:
            code, fields["held"] = ReplyCode.HELD, {"kind": held.kind, "reason": held.reason}
        self._home.replies.send(answer.reply_to, answer.request_id, code, orjson.dumps(fields), as_of)

    @property
    def saturated(self) -> bool:
        """True while no new work should be begun: too much is queued, or is on its way there (R10)."""
        return self._home.parts.pool.saturated or self._undispatched >= self._home.settings.undispatched_max

    def expect_dispatches(self, body: TurnBody) -> int:
        """A record is on its way whose confirmation dispatches so many activities."""
        dispatches = len([event for event in body.events if type(event) in _DISPATCHES])
        self._undispatched += dispatches
        return dispatches

    @property
    def quiet(self) -> bool:
        """All that was decided is confirmed."""
        return not self._epoch.in_flight

    # Results of activities, and what a held instance needs.

    def take_results(self) -> list[Inbound]:
        """Results of activities since the last call, as messages. An activity that this worker does not know holds its
        instance; the task stays pending for an owner that knows it (R12)."""
        messages: list[Inbound] = []
        results = self._home.parts.pool.take_results(self._home.partition)
        self._results_out.take(results, self._epoch.next_offset, self._epoch.confirmed_offset)
        for result in results:
            task = result.task
            if result.unknown:
                self._unknown.setdefault((task.instance_id, task.execution_id), set()).add(task.task_id)
                reason = f"activity {task.name!r} is not registered with this worker's app"
                self.hold(self._home.instances.get(task.instance_id), InstanceHeld(reason, kind="unknown-activity"))
                continue
            body = TaskResult(task.execution_id, task.task_id, task.attempt, result.result, result.failure)
            messages.append(Inbound(task.instance_id, body))
        return messages

    def is_out(self, lost: Inbound) -> bool:
        """Whether the dispatch that follows a lost one has no confirmed result yet, nor waits for a worker that knows it."""
        body = lost.body
        assert isinstance(body, TaskLost)
        if body.task_id in self._unknown.get((lost.instance_id, body.execution_id), ()):
            return False
        value = self._home.store.get(activity_key(lost.instance_id, body.execution_id, body.task_id))
        return value is not None and decode_due_activity(value).attempt <= body.attempt + 1

    def close(self) -> None:
        """Give back the results that no confirmed record has: the next tenure takes them, if it comes soon enough (R4)."""
        self._home.parts.pool.give_back(self._results_out.unconfirmed(self._epoch.confirmed_offset))

    def hold(self, slot: Slot, held: InstanceHeld) -> None:
        """Mark an instance held. Derived, so only the store shows it; the log does not (R12)."""
        if not _is_held_so(slot, held):
            self._home.notices.tell("instance.held", instance=slot.instance_id, kind=held.kind, reason=held.reason)
        self._home.instances.hold(slot, held)
        self._show_held(slot)

    def release_held(self, slot: Slot) -> None:
        self._home.instances.hold(slot, None)
        self._show_held(slot)

    def release_readable(self) -> None:
        """Show as not held what an owner before this one held because it could not read it, and this one can (R12)."""
        store = self._home.store
        for name in read_held(store):
            header = read_header(store, name)
            if header is not None and header.held_kind == UNKNOWN_EVENT:
                self._show_held(self._home.instances.get(name))

    def _show_held(self, slot: Slot) -> None:
        """Update the header outside a batch, unless a turn on its way will."""
        if slot.state is None or slot.header is None or slot.unconfirmed:
            return
        held = (slot.held.kind, slot.held.reason) if slot.held is not None else ("", "")
        new = header_of(slot.state, *held)
        self._home.store.write(index_changes(slot.header, new))
        slot.show(new)

    def stranded_tasks(self, slot: Slot) -> Lost:
        """Activities of a held instance that nobody runs because nobody knew them; tried again when it is resumed."""
        state, lost = slot.state, Lost()
        if state is None:
            return lost
        for task_id in sorted(self._unknown.pop((slot.instance_id, state.execution_id), ())):
            task = state.tasks.get(task_id)
            if task is not None:
                lost.add(
                    slot.instance_id, TaskLost(state.execution_id, task_id, task.attempt, released=True), task.lost
                )
        return lost

    # Checkpoints.

    @property
    def checkpoint_due(self) -> bool:
        settings = self._home.settings
        if self._checkpoint_out or not self._turns_since:
            return False
        late = self._home.parts.clock.monotonic() - self._checkpoint_at >= settings.checkpoint_seconds_max
        return (
            late
            or self._turns_since >= settings.checkpoint_turns_max
            or self._bytes_since >= settings.checkpoint_bytes_max
        )

    @property
    def checkpoint_age_seconds(self) -> float:
        """Seconds since the last checkpoint, 0 while nothing happened after it. One that is on its way is none yet."""
        if not self._turns_since and not self._checkpoint_out:
            return 0.0
        return self._home.parts.clock.monotonic() - self._checkpoint_at

    @property
    def checkpoint_late(self) -> bool:
        """True where recovery would have to read more than it should: twice what a checkpoint may be old (an alarm, R14)."""
        settings = self._home.settings
        late = self.checkpoint_age_seconds > LATE_TIMES * settings.checkpoint_seconds_max
        return late or self._turns_since > LATE_TIMES * settings.checkpoint_turns_max

    def trim_history(self) -> None:
        """Let go of what stands before the base (R15); again on take-over, since a broker may have forgotten it."""
        self._trimmed_to = self._home.fold.state.base
        if self._trimmed_to != NO_BASE:
            self._home.parts.log.trim_history(self._home.partition, self._trimmed_to)

    def expect_checkpoint(self) -> None:
        self._checkpoint_out = True
        self._turns_since = self._bytes_since = 0

    def _finish_checkpoint(self, appended: Appended[Decided]) -> None:
        """It is confirmed, and the store is as of it: make that durable, and let go of what was consumed (R8, R14, R15)."""
        checkpoint, home = appended.effect.checkpoint, self._home
        assert checkpoint is not None
        if not self.leaving:
            home.store.flush()
        home.parts.log.trim_inbox(home.partition, checkpoint.inbox_mark)
        if self._trimmed_to < home.fold.state.base:
            self.trim_history()
            home.counts.bases += 1
        assert home.fold.anchor is not None
        if not self.leaving:
            home.archive.take_checkpoint(home.fold.anchor)
        self._checkpoint_out = False
        self._checkpoint_at = self._home.parts.clock.monotonic()
        self._home.counts.checkpoints += 1


def _is_held_so(slot: Slot, held: InstanceHeld) -> bool:
    """Whether it is nothing new: this owner has held it for that reason, or one before it has, whose store says so."""
    if slot.held is not None:
        return (slot.held.kind, slot.held.reason) == (held.kind, held.reason)
    header = slot.header
    return header is not None and (header.held_kind, header.held_reason) == (held.kind, held.reason)
