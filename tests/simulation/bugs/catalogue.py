"""The bugs that must be caught: each is one that somebody could have made, and names the checker that is there for it."""

from typing import Any

from perdure.schemas.codec import WireError, decode_envelope
from perdure.schemas.records import RecordKind
from tests.simulation.faults import Fault

from .planting import Bug, Edit

_READ_TO: dict[tuple[int, int], int] = {}


def _count_claims(log: Any, partition: int) -> int:
    """The epoch as a counter: one more than there are claims."""
    claims = 0
    span = log.span_history(partition)
    for record in log.read_history(partition, span.start, span.end):
        try:
            claims += decode_envelope(record.value or b"").kind == RecordKind.CLAIM
        except WireError:
            continue
    return claims + 1


OWNERSHIP = (
    Bug(
        "the epoch is a counter",
        ("C7",),
        (
            Edit(
                "partitions.owner:PartitionOwner._step_waiting",
                "self._writer = log.open_history(self.partition)",
                "counter = _count_claims(log, self.partition); self._writer = log.open_history(self.partition); self._writer.counter = counter",
            ),
            Edit("partitions.epoch:Epoch.__init__", "self.number = run.claim_offset", "self.number = writer.counter"),
            Edit(
                "partitions.owner:PartitionOwner._step_waiting",
                "RecordKind.CLAIM, FIRST_LEVEL, -1,",
                "RecordKind.CLAIM, FIRST_LEVEL, counter,",
            ),
            Edit("partitions.reader:read_record", "if _states_more(envelope):", "if False:"),
            Edit("partitions.reader:_open", "epoch=offset,", "epoch=claim.epoch,"),
            Edit("partitions.reader:_open", "RunState(offset, offset,", "RunState(offset, claim.epoch,"),
        ),
        needs={"_count_claims": _count_claims},
    ),
    Bug(
        "an epoch without the offset",
        ("C7",),
        (Edit("partitions.reader:_judge", "if envelope.offset != offset:", "if False:"),),
    ),
    Bug(
        "an offset without the epoch",
        ("C7",),
        (Edit("partitions.reader:_judge", "if envelope.epoch != state.epoch:", "if False:"),),
        under={Fault.APPEND_LOST: 0.05, Fault.APPEND_DELAYED: 0.3},
    ),
    Bug(
        "epoch and offset without the unbroken run",
        ("C7",),
        (
            Edit(
                "partitions.reader:_end",
                "RunState(state.offset, CLOSED, state.digest, offset + 1)",
                "replace(state, next_offset=offset + 1)",
            ),
        ),
    ),
    Bug(
        "the first part of a record counts",
        ("C7",),
        (Edit("partitions.reader:_accept", "if len(bodies) < first.parts:", "if False:"),),
        like={"record_bytes_max": 1_500},
    ),
    Bug(
        "a report is honoured though one before it failed",
        ("C8", "C10"),
        (
            Edit(
                "partitions.epoch:Epoch.take_confirmed",
                "if report.offset != expected:",
                "if report.offset is None:\n            self._in_flight.popleft()\n            continue\n        if report.offset != expected:",
            ),
        ),
    ),
    Bug(
        "a record that landed elsewhere is confirmed",
        ("C8", "C10"),
        (Edit("partitions.epoch:Epoch.take_confirmed", "if report.offset != expected:", "if report.offset is None:"),),
    ),
    Bug(
        "the history is read to its end before the claim",
        ("C7",),
        (
            Edit(
                "partitions.owner:PartitionOwner._step_waiting",
                "self._writer = log.open_history(self.partition)",
                "_READ_TO[id(log), self.partition] = log.span_history(self.partition).end; self._writer = log.open_history(self.partition)",
            ),
            Edit(
                "partitions.recovery:catch_up_to",
                "catch_up.take(record)",
                "_READ_TO.get((id(log), partition), 1 << 60) <= record.offset < claimed.offset or catch_up.take(record)",
            ),
        ),
        under={Fault.APPEND_STUCK: 0.1, Fault.APPEND_DELAYED: 0.3},
        needs={"_READ_TO": _READ_TO},
    ),
)

EFFECTS = (
    Bug(
        "activities begin before their turn is confirmed",
        ("C8",),
        (
            Edit(
                "partitions.tenure:Tenure._append",
                "self._home.counts.records += 1",
                "self._home.counts.records += 1; decided.body and decided.instance_id and self._confirmation._act(decided, 1)",
            ),
        ),
    ),
    Bug(
        "clients are answered before their turn is confirmed",
        ("C8",),
        (
            Edit(
                "partitions.tenure:Tenure._append",
                "self._home.counts.records += 1",
                "self._home.counts.records += 1; self._confirmation._reply((decided,), (), self._epoch.next_offset - 1)",
            ),
        ),
    ),
    Bug(
        "a result of an attempt that is over counts",
        ("C4", "C9"),
        (Edit("actors.accept:_accept_task_result", "task.attempt != body.attempt", "False"),),
        under={Fault.RESULT_DOUBLED: 0.5},
    ),
    Bug(
        "a result counts while its task waits for the next attempt",
        ("C4",),
        (Edit("actors.accept:_accept_task_result", "or task.retry_at_ms != NEVER", ""),),
    ),
    Bug(
        "a result of another execution counts",
        ("C4", "C9"),
        (Edit("actors.accept:_of_execution", "and draft.started.execution_id == execution_id", ""),),
        under={Fault.RESULT_DOUBLED: 0.5},
    ),
    Bug(
        "what was dispatched by an owner that died is not dispatched again",
        ("C17",),
        (Edit("partitions.holdings:Holdings.read_lost", "return lost", "return Lost()"),),
    ),
    Bug(
        "what a process never made is lost when it claims again",
        ("C9",),
        (Edit("partitions.fold:Fold.take_claim", "and claim.owner != self.state.deaths.owner", ""),),
        under={Fault.APPEND_UNREPORTED: 0.1},
    ),
    Bug(
        "what an owner found lost is given up when it stops in order",
        ("C9",),
        (
            Edit(
                "partitions.holdings:Holdings.read_lost",
                "released = due.offset >= self.fold.state.alive_since",
                "released = self.fold.state.released",
            ),
        ),
    ),
    Bug(
        "starts are acknowledged before they are confirmed, and an inbox is read from its end",
        ("C1",),
        (
            Edit(
                "partitions.tenure:Tenure._append",
                "self._home.counts.records += 1",
                "self._home.counts.records += 1; self._confirmation._reply((decided,), (), self._epoch.next_offset - 1)",
            ),
            Edit(
                "partitions.owner:PartitionOwner._open_inbox",
                "log.inbox.open(self.partition, mark)",
                "log.inbox.open(self.partition, span.end)",
            ),
        ),
        under={Fault.APPEND_LOST: 0.2},
    ),
    Bug(
        "an answer names the record after the one that it shows",
        ("C13",),
        (
            Edit(
                "partitions.queries:Queries.ask",
                "self._replies.send(to, message.request_id, code, body, as_of)",
                "self._replies.send(to, message.request_id, code, body, as_of + 1)",
            ),
        ),
    ),
    Bug(
        "what kills its owners is never poison",
        ("C24",),
        (Edit("partitions.deaths:Deaths.is_poison", ">= LONE_DEATHS_MAX", ">= 1_000"),),
    ),
    Bug(
        "a worker falls over",
        ("C18",),
        (
            Edit(
                "worker:Worker._retry_crashed",
                "now = self.clock.monotonic()",
                "now = self.clock.monotonic(); assert now < 8 or not self.owners",
            ),
        ),
    ),
    Bug(
        "a partition crashes now and then",
        ("C18",),
        (
            Edit(
                "partitions.tenure:Tenure._append",
                "self._home.counts.records += 1",
                "self._home.counts.records += 1; assert self._epoch.next_offset % 40",
            ),
        ),
    ),
)

MESSAGES = (
    Bug(
        "the receiver takes any higher sequence",
        ("C11",),
        (Edit("partitions.intake:Intake.take", "elif origin.sequence > expected:", "elif False:"),),
        under={Fault.MESSAGE_LOST: 0.2},
    ),
    Bug(
        "sequences are not dense",
        ("C11",),
        (
            Edit(
                "partitions.tenure:Tenure._number",
                "self._tip.decided.get(letter.target, 0) + 1",
                "self._tip.decided.get(letter.target, 0) + 1 + (self._epoch.next_offset % 7 == 0)",
            ),
        ),
    ),
    Bug(
        "a message whose delivery failed is taken for delivered",
        ("C11",),
        (Edit("partitions.outbox:Outbox._report", "if error is not None:", "if False:"),),
        under={Fault.MESSAGE_LOST: 0.2},
    ),
    Bug(
        "source marks run ahead of the inbox mark",
        ("C11",),
        (
            Edit(
                "partitions.intake:Intake.take",
                "self._order.append((record.offset, mark))",
                "self._order.append((record.offset, mark)); mark and self._moved.update({(mark.topic_id, mark.partition): mark})",
            ),
        ),
        like={"round_messages_max": 1},
    ),
    Bug(
        "sends to ourselves are forgotten by the next owner",
        ("C11",),
        (Edit("partitions.holdings:Holdings.read_locals", "return locals_", "return []"),),
    ),
    Bug(
        "consumption is the mark alone",
        ("C15",),
        (
            Edit(
                "partitions.state:PartitionState.apply_consumed",
                "for offset in offsets:",
                "for offset in ():",
            ),
        ),
        under={Fault.APPEND_LOST: 0.1, Fault.MESSAGE_STUCK: 0.1},
    ),
    Bug(
        "an inbox is read from its end",
        ("C15",),
        (
            Edit(
                "partitions.owner:PartitionOwner._open_inbox",
                "log.inbox.open(self.partition, mark)",
                "log.inbox.open(self.partition, span.end)",
            ),
        ),
    ),
    Bug(
        "a repeated event is raised again",
        ("C6",),
        (
            Edit(
                "actors.accept:Intake.running",
                "if message.request_id and message.request_id in self.draft.requests:",
                "if False:",
            ),
        ),
    ),
    Bug(
        "a repeated start is refused",
        ("C2",),
        (Edit("actors.accept:_same_request", "return bool(message.request_id) and", "return False and"),),
        under={Fault.HASTE: 0.5},
    ),
    Bug(
        "what cannot be read is passed over",
        ("C21",),
        (
            Edit(
                "partitions.mail:Mailbox._sort",
                "mail.letters.append(self.dead_letter(taken.reason, taken.record.value, taken.offset, name))",
                "pass",
            ),
        ),
    ),
)

TIME = (
    Bug(
        "a timer fires a little early",
        ("C5",),
        (
            Edit(
                "partitions.timers:TimerQueue.take_due",
                "limit = timers_until(now_ms)",
                "limit = timers_until(now_ms + 40)",
            ),
        ),
    ),
    Bug(
        "a timer fires though it was cancelled on the tip",
        ("C5",),
        (Edit("actors.accept:_fire_timer", "if draft.timers.get(due.task_id) != due.fire_at_ms:", "if False:"),),
    ),
    Bug(
        "partition time is the wall clock",
        ("C20",),
        (
            Edit(
                "partitions.holdings:PartitionTime.now_ms",
                "if wall_ms <= now_ms or self.leap_ms:",
                "if True:\n        return wall_ms\n    if False:",
            ),
        ),
    ),
    Bug(
        "a clock that leaps ahead is believed",
        ("C20",),
        (
            Edit("partitions.tenure:Tenure._now_ms", "if time.leap_ms:", "if False:"),
            Edit(
                "partitions.holdings:PartitionTime.now_ms",
                "if wall_ms <= now_ms or self.leap_ms:",
                "if wall_ms <= now_ms:",
            ),
        ),
    ),
)

STATE = (
    Bug(
        "a store is trusted without a look at the log",
        ("C10",),
        (
            Edit(
                "partitions.recovery:_is_anchored",
                "identity = log.identity",
                "return True\n    identity = log.identity",
            ),
        ),
    ),
    Bug(
        "a timer that is over stays in the store",
        ("C10",),
        (Edit("partitions.ledger:_Pending._timers_over", "self._drop_timers(event.task_id)", "pass"),),
    ),
    Bug(
        "the index keeps the old status",
        ("C12",),
        (Edit("partitions.index:index_changes", "if old.status != new.status:", "if False:"),),
    ),
    Bug(
        "what few turns change is written as it once was",
        ("C12",),
        (
            Edit(
                "partitions.instances:Slot.show",
                'self.standing = b""',
                'self.standing = getattr(self, "standing", b"")',
            ),
        ),
    ),
    Bug(
        "what is purged keeps its history in the store",
        ("C10", "C19"),
        (Edit("partitions.ledger:_Pending.take", "if new_turns <= old_turns:", "if 0 < new_turns <= old_turns:"),),
    ),
    Bug(
        "who could go on without a message is forgotten by the next owner",
        ("C17",),
        (Edit("partitions.due_turns:DueTurns._read", "return [key", "return [] and [key"),),
    ),
    Bug(
        "continue-as-new drops the events that nobody took",
        ("C16",),
        (Edit("actors.turn:_next_execution", "in continued.events)", "in ())"),),
    ),
    Bug(
        "who has ended takes events and is suspended all the same",
        ("C3",),
        (Edit("actors.accept:Intake.running", "if self.draft.status.terminal:", "if False:"),),
    ),
    Bug(
        "a parent is not told that its child has ended",
        ("C14",),
        (Edit("actors.turn:_decide", "sends.extend(tell_parent(instance_id, parent, decisions[-1]))", "pass"),),
    ),
    Bug(
        "a parent ends whoever has the id of the child that it did not get",
        ("C16",),
        (Edit("actors.accept:_accept_cancel", "or _is_anothers(intake, draft, message)", ""),),
    ),
)

SNAPSHOTS = {"snapshot_records_min": 15, "checkpoint_turns_max": 8}
RETENTION = {"retention_seconds": 1.0, "checkpoint_turns_max": 8}
TRIMMING = (
    Bug(
        "a checkpoint states the confirmed state",
        ("C22",),
        (
            Edit(
                "partitions.tenure:Tenure.append_checkpoint",
                "self._tip.checkpoint(self._tip.base)",
                "self._home.fold.state.checkpoint(self._tip.base)",
            ),
        ),
        like={"checkpoint_turns_max": 8},
    ),
    Bug(
        "a history is carried as of what is confirmed",
        ("C23",),
        (Edit("partitions.instances:Instances.carried_turns", "for record in slot.unconfirmed:", "for record in ():"),),
        like=RETENTION,
    ),
    Bug(
        "the log is trimmed past a history that is still wanted",
        ("C23",),
        (Edit("partitions.retention:Retention.take_uncarried", "if entries:", "if False:"),),
        like=RETENTION,
    ),
    Bug(
        "the log is trimmed past a send that is not acknowledged",
        ("C23",),
        (
            Edit(
                "partitions.retention:Retention._all_acknowledged",
                "return all(",
                "return True or all(",
            ),
        ),
        like=RETENTION,
    ),
    Bug(
        "the log is trimmed to where no checkpoint is",
        ("C23",),
        (
            Edit(
                "partitions.retention:Retention.take_uncarried",
                "self.ready = target.offset",
                "self.ready = target.offset + 1",
            ),
        ),
        like=RETENTION,
    ),
    Bug(
        "who begins at a base does not know where its owner is reached",
        ("C10",),
        (Edit("partitions.state:PartitionState.of_checkpoint", "address=checkpoint.address", "address=''"),),
        like={**RETENTION, "standbys": True},
    ),
    Bug(
        "who begins at a base does not know what is held against whom",
        ("C10", "C22"),
        (
            Edit(
                "partitions.deaths:Deaths.of_checkpoint",
                "tries={each.instance_id: Tries(each.among, each.alone) for each in tried}",
                "tries={}",
            ),
        ),
        like=RETENTION,
        lethal=1.0,
    ),
)

HOLES = (
    Bug(
        "a standby goes on behind what was trimmed before it was followed",
        ("C10", "C18"),
        (Edit("partitions.standby:Standby._check_whole", "if found > expected and", "if False and"),),
        like={**RETENTION, "standbys": True},
    ),
    Bug(
        "a store from before the log's start is read on from there",
        ("C7", "C10", "C18"),
        (
            Edit(
                "partitions.recovery:_is_anchored",
                "if anchor.offset < span.start:\n        return False",
                "if anchor.offset < span.start:\n        return True",
            ),
            Edit(
                "partitions.recovery:_begin",
                "CatchUp(fold, log.identity, run), anchor.offset + 1",
                "CatchUp(fold, log.identity, run), max(anchor.offset + 1, log.span_history(partition).start)",
            ),
        ),
        like=RETENTION,
    ),
    Bug(
        "a piece of a snapshot that was changed is used",
        ("C10", "C18"),
        (
            Edit(
                "partitions.download:load_snapshot",
                '(checksum.digest(), entries.count, entries.rest) != (manifest.checksum, manifest.entries, b"")',
                "False",
            ),
        ),
        like=SNAPSHOTS,
    ),
    Bug(
        "a snapshot that has lost pieces is used",
        ("C10", "C18"),
        (
            Edit("partitions.download:_read_pieces", "if wanted != manifest.chunks:", "if False:"),
            Edit(
                "partitions.download:_read_pieces",
                "manifest.offset, wanted",
                "manifest.offset, int(text_of(record.key)[-8:])",
            ),
            Edit(
                "partitions.download:load_snapshot",
                '(checksum.digest(), entries.count, entries.rest) != (manifest.checksum, manifest.entries, b"") or not anchor',
                "not anchor",
            ),
        ),
        like=SNAPSHOTS,
    ),
)

POISON = (
    Bug(
        "nobody looks for what kills its owners",
        ("C24",),
        (Edit("partitions.deaths:Deaths.careful", "return self.short_lives", "return False and self.short_lives"),),
        lethal=1.0,
    ),
    Bug(
        "what is tried is not stated before it is tried",
        ("C24",),
        (
            Edit("partitions.care:Care.to_state", "return names if", "return None if True else names if"),
            Edit("partitions.care:Care.take", "if self._tried() and not", "if False and not"),
        ),
        lethal=1.0,
    ),
    Bug(
        "poison is tried again by every owner",
        ("C24",),
        (Edit("partitions.care:find_poison", "if deaths.is_poison(name)", "if False"),),
        lethal=1.0,
    ),
)

TOLD = (
    Bug(
        "an event that came is refused when it comes again after the end",
        ("C6",),
        (
            Edit(
                "actors.accept:Intake.running",
                "if message.request_id and message.request_id in self.draft.requests:",
                "if message.request_id and message.request_id in self.draft.requests and not self.draft.status.terminal:",
            ),
        ),
        under={Fault.HASTE: 0.5},
    ),
    Bug(
        "a read is never answered",
        ("C17",),
        (
            Edit(
                "partitions.queries:Queries.ask",
                "self._replies.send(to, message.request_id, code, body, as_of)",
                "pass",
            ),
        ),
    ),
    Bug(
        "a barrier is answered without a record",
        ("C13",),
        (
            Edit(
                "partitions.queries:Queries.ask",
                "self.barriers.append(message)",
                "self._replies.send(to, message.request_id, ReplyCode.OK, b'{}', as_of)",
            ),
        ),
        under={Fault.APPEND_UNREPORTED: 0.05},
    ),
    Bug(
        "a read names an offset that it has not seen",
        ("C13",),
        (Edit("partitions.mail:Mailbox._sort", "self._confirmation.offset)", "self._confirmation.offset + 1)"),),
    ),
    Bug(
        "a full queue is an error",
        ("C18",),
        (Edit("partitions.epoch:Epoch.send", "except BufferFull:", "except ZeroDivisionError:"),),
        under={Fault.QUEUE_FULL: 0.1},
    ),
)

BUGS = (*OWNERSHIP, *EFFECTS, *MESSAGES, *TIME, *STATE, *TRIMMING, *HOLES, *POISON, *TOLD)
