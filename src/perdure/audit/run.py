"""The records of one partition, judged by R3, and every record that does not count explained.

A void record is in order only where something that is there explains it: a claim, or a stale owner's record. So what ends an
epoch by landing elsewhere than it states must be followed by a claim, because its owner noticed (R4); what states an epoch
must name a claim that is there. Where a copy or a loss was made by an editor, no claim knows of it.
"""

from collections.abc import Callable

from perdure.partitions.bases import Base
from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import Accepted, RunState, Void, VoidReason, read_record
from perdure.schemas.records import RecordKind

Report = Callable[[int, str, str], None]


class Run:
    """R2 to R4 over one partition. `report` takes offset, rule and message; `base` is where the log begins, if it was trimmed."""

    def __init__(self, report: Report, base: Base | None = None) -> None:
        self._report = report
        self.state = base.run if base is not None else RunState()
        self.void = 0
        self._next_offset = self.state.next_offset
        self._trimmed_before = self.state.next_offset
        self._claims: dict[int, bytes] = {}
        self._unexplained: list[tuple[int, str, str]] = []

    def take(self, record: LogRecord) -> Accepted | None:
        """Judge the next record; return what it completes, if anything."""
        if not self._is_next(record.offset):
            return None
        self.state, verdict = read_record(self.state, record.offset, record.value)
        if isinstance(verdict, Void):
            self.void += 1
            self._explain(record.offset, verdict)
        elif isinstance(verdict, Accepted):
            if verdict.kind == RecordKind.CLAIM:
                self._open(record.offset, record.value or b"")
            elif self._unexplained:
                # A copy of a claim is one that counts when its owner writes under it.
                self._unexplained.clear()
            return verdict
        return None

    def finish(self) -> None:
        """The log is read to its end: what no claim has explained is reported."""
        for finding in self._unexplained:
            self._report(*finding)
        self._unexplained.clear()

    def _is_next(self, offset: int) -> bool:
        """Offsets of a history partition are contiguous (R4)."""
        expected, self._next_offset = self._next_offset, max(self._next_offset, offset + 1)
        if offset == expected:
            return True
        if offset < expected:
            self._report(offset, "R4", f"offset {offset} is there twice, or out of order")
            return False
        self._report(
            expected,
            "R4",
            f"records {expected} to {offset - 1} are missing"
            if offset - expected > 1
            else f"record {expected} is missing",
        )
        return True

    def _open(self, offset: int, value: bytes) -> None:
        self._unexplained.clear()
        twin = next((claim for claim, known in self._claims.items() if known == value), None)
        if twin is not None:
            self._unexplained.append((offset, "R2", f"a copy of the claim at {twin}, under which nobody wrote"))
        self._claims[offset] = value

    def _explain(self, offset: int, void: Void) -> None:
        reason, stated = void.reason, void.stated
        if stated is None or void.broken:
            self._report(offset, "R3", f"void, and no owner left it so: {reason.value}")
            return
        if stated.epoch not in self._claims and not 0 <= stated.epoch < self._trimmed_before:
            self._report(offset, "R2", f"void, and states epoch {stated.epoch}, where no claim is")
        elif reason == VoidReason.OTHER_OFFSET:
            message = f"states offset {stated.offset}, which ended epoch {void.ended}; no later claim shows that its owner noticed"
            self._unexplained.append((offset, "R4", message))
