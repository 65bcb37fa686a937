"""One partition, record by record: R3, then what each record says, then each instance, then the code."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perdure.partitions.bases import Base
from perdure.partitions.partitioner import HASH, partition_of
from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import Accepted
from perdure.schemas import events as ev
from perdure.schemas.codec import (
    UnknownFormat,
    WireError,
    decode_attempt,
    decode_carried,
    decode_checkpoint,
    decode_claim,
    decode_level,
    decode_turn,
)
from perdure.schemas.records import RecordKind, TurnBody

from .decisions import Decisions
from .instances import AuditedInstance, Place
from .marks import Marks
from .report import Blame, Counts, Finding, Head
from .run import Run


@dataclass(frozen=True, slots=True)
class Scope:
    """What an audit looks at. `only` names the one instance whose turns it looks at; the log is read whole all the same. `base` is
    where the log begins, if it was trimmed."""

    heads: tuple[Head, ...] = ()
    only: str | None = None
    base: Base | None = None


class PartitionAudit:
    """The audit of one partition."""

    def __init__(self, partition: int, decisions: Decisions | None, scope: Scope) -> None:
        self.partition = partition
        self.findings: list[Finding] = []
        self.counts = Counts()
        self.head: Head | None = None
        self._trimmed = scope.base is not None
        self._run = Run(self._report, scope.base)
        self._marks = Marks(partition, trimmed=self._trimmed)
        self._decisions = decisions
        self._heads = {head.offset: head for head in scope.heads}
        self._only = scope.only
        self._instances: dict[str, AuditedInstance] = {}
        self._released = False
        self.begins_at = scope.base.offset if scope.base is not None else 0

    def take(self, record: LogRecord) -> None:
        """Audit the next record."""
        if record.offset < self.begins_at:
            return  # a broker shows again what was let go of
        self.counts.records += 1
        accepted = self._run.take(record)
        if accepted is None:
            return
        self.counts.accepted += 1
        self._check_head(accepted)
        if self._released and accepted.kind != RecordKind.CLAIM:
            self._report(accepted.offset, "R5", "a record of an epoch whose owner had stopped in order")
        self._released = False
        try:
            _TAKE.get(accepted.kind, PartitionAudit._take_unknown)(self, accepted, record)
        except (WireError, UnknownFormat) as error:
            self._report(accepted.offset, "R12", str(error))

    def finish(self) -> None:
        """The log is read to its end."""
        self._run.finish()
        self.counts.void = self._run.void
        for head in self._heads.values():
            self._report(head.offset, "head", "the log ends before this head, or holds no accepted record there")
        for instance in self._instances.values():
            self._leave(instance)
        if self._decisions is not None:
            self._decisions.finish()
            self.counts.executions_replayed = self._decisions.replayed
            for offset, message, blame in self._decisions.found:
                self._report(offset, "code", message, blame)
        self.findings.sort(key=lambda finding: finding.offset)

    def _report(self, offset: int, rule: str, message: str, blame: Blame = Blame.LOG) -> None:
        self.findings.append(Finding(self.partition, offset, rule, message, blame))

    def _check_head(self, accepted: Accepted) -> None:
        self.head = Head(self.partition, accepted.offset, accepted.digest)
        expected = self._heads.pop(accepted.offset, None)
        if expected is not None and expected.digest != accepted.digest:
            self._report(
                accepted.offset,
                "head",
                f"the digest here is {accepted.digest.hex()}, the head says {expected.digest.hex()}",
            )

    def _take_claim(self, accepted: Accepted, record: LogRecord) -> None:
        self.counts.claims += 1
        claim = decode_claim(accepted.body, accepted.format)
        count = self._marks.partition_count or claim.partition_count
        if (claim.partition_count, claim.hash) != (count, HASH):
            self._report(
                accepted.offset,
                "R9",
                f"the claim is for {claim.partition_count} partitions by {claim.hash}, expected {count} by {HASH}",
            )
        self._marks.partition_count = count
        self._marks.take_claim(claim)
        self._take_base(accepted.offset, claim.base)
        self._check_key(record, claim.owner)

    def _take_turn(self, accepted: Accepted, record: LogRecord) -> None:
        body, name = decode_turn(accepted.body, accepted.format), accepted.instance_id
        for rule, message in self._marks.take_body(name, body, forgotten=accepted.kind == RecordKind.FORGOTTEN):
            self._report(accepted.offset, rule, message)
        self._released = body.released
        self._check_key(record, name)
        if accepted.kind == RecordKind.PARTITION:
            if name or body.events:
                self._report(accepted.offset, "R8", f"a partition record changes instance {name!r}")
            return
        if self._marks.partition_count and partition_of(name, self._marks.partition_count) != self.partition:
            right = partition_of(name, self._marks.partition_count)
            self._report(accepted.offset, "R9", f"instance {name!r} belongs to partition {right}")
        if self._only in (None, name):
            self._take_instance(accepted, name, body)

    def _take_instance(self, accepted: Accepted, name: str, body: TurnBody) -> None:
        instance = self._instances.get(name)
        if instance is None:
            instance = self._instances[name] = AuditedInstance(name)
        if accepted.kind == RecordKind.FORGOTTEN:
            self.counts.forgotten += 1
            wrong = instance.forget(trimmed=self._trimmed)
        else:
            self._count(body)
            place = Place(accepted.first_offset, accepted.epoch, accepted.format, accepted.body)
            wrong = instance.take_turn(body, place, trimmed=self._trimmed)
        for message in wrong:
            self._report(accepted.offset, "instance", f"{name}: {message}")
        if self._decisions is not None:
            self._decisions.take(name, accepted.offset, None if accepted.kind == RecordKind.FORGOTTEN else body)
        if accepted.kind == RecordKind.FORGOTTEN:
            self._leave(self._instances.pop(name))

    def _leave(self, instance: AuditedInstance) -> None:
        if instance.partial:
            self._report(
                instance.last_offset,
                "R15",
                f"the history of {instance.instance_id!r} begins before what is left of the log",
            )
        self.counts.spanning_instances += instance.spans_claims
        if instance.state is not None and not instance.state.status.terminal:
            self.counts.unfinished += 1

    def _count(self, body: TurnBody) -> None:
        counts = self.counts
        counts.turns += 1
        continued = False
        for event in body.events:
            if isinstance(event, ev.ExecutionStarted):
                counts.started += not continued
            elif isinstance(event, ev.ExecutionCompleted):
                continued = not event.status.terminal
                counts.continued += continued
                if not continued:
                    counts.finished[event.status.name] += 1
            elif isinstance(event, ev.ExecutionTerminated):
                counts.finished[ev.Status.TERMINATED.name] += 1
            elif isinstance(event, ev.TaskCompleted):
                counts.activities_completed += 1
            elif isinstance(event, ev.TaskFailed):
                counts.activities_failed += event.retry_at_ms == ev.NEVER
            elif isinstance(event, ev.TaskRescheduled):
                retry = event.reason == ev.RescheduleReason.RETRY
                counts.activities_retried += retry
                counts.activities_redispatched += not retry
            elif isinstance(event, ev.TimerFired):
                counts.timers_fired += 1

    def _take_checkpoint(self, accepted: Accepted, _record: LogRecord) -> None:
        checkpoint = decode_checkpoint(accepted.body, accepted.format)
        if accepted.first_offset == accepted.offset:
            self._take_base(accepted.offset, checkpoint.base)
        for rule, message in self._marks.take_checkpoint(accepted.first_offset, checkpoint):
            self._report(accepted.offset, rule, message)

    def _take_base(self, offset: int, base: int) -> None:
        """A base is named: everything that is wanted must be there from it on (R15)."""
        if base <= self._marks.base or (self._trimmed and base <= self.begins_at):
            return
        for rule, message in self._marks.take_base(base):
            self._report(offset, rule, message)
        for name, instance in self._instances.items():
            if instance.state is not None and instance.begins_at < base:
                self._report(
                    offset, "R15", f"base {base} is named, and the history of {name!r} begins at {instance.begins_at}"
                )

    def _take_level(self, accepted: Accepted, _record: LogRecord) -> None:
        for rule, message in self._marks.take_level(decode_level(accepted.body, accepted.format).level):
            self._report(accepted.offset, rule, message)

    def _take_carried(self, accepted: Accepted, record: LogRecord) -> None:
        carried = decode_carried(accepted.body, accepted.format)
        name = carried.instance_id
        self._check_key(record, name)
        if self._only not in (None, name):
            return
        instance = self._instances.get(name)
        if instance is None:
            instance = self._instances[name] = AuditedInstance(name)
            if not self._trimmed:
                self._report(accepted.offset, "R15", f"a carried history of {name!r}, which does not exist")
        whole = instance.state is not None
        for message in instance.take_carried(carried, accepted.first_offset):
            self._report(accepted.offset, "R15", f"{name}: {message}")
        if self._decisions is not None and not whole:
            for turn in carried.turns:
                self._decisions.take(name, turn.offset, decode_turn(turn.body, turn.format))

    def _take_attempt(self, accepted: Accepted, record: LogRecord) -> None:
        self._marks.take_attempt(decode_attempt(accepted.body, accepted.format).instances)
        self._check_key(record, "")

    def _take_unknown(self, accepted: Accepted, _record: LogRecord) -> None:
        self._report(accepted.offset, "R12", f"a record of kind {accepted.kind}, which this build does not know")

    def _check_key(self, record: LogRecord, expected: str) -> None:
        """The key is outside of the digest, but says the same as the record."""
        if (record.key or b"") != expected.encode():
            self._report(record.offset, "R1", f"the record's key is {record.key!r}, expected {expected!r}")


_TAKE: dict[int, Callable[[PartitionAudit, Accepted, LogRecord], Any]] = {
    RecordKind.CLAIM: PartitionAudit._take_claim,
    RecordKind.TURN: PartitionAudit._take_turn,
    RecordKind.PARTITION: PartitionAudit._take_turn,
    RecordKind.FORGOTTEN: PartitionAudit._take_turn,
    RecordKind.CHECKPOINT: PartitionAudit._take_checkpoint,
    RecordKind.LEVEL: PartitionAudit._take_level,
    RecordKind.CARRIED: PartitionAudit._take_carried,
    RecordKind.ATTEMPT: PartitionAudit._take_attempt,
}
