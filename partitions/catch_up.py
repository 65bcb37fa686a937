"""CatchUp: records of the log on their way into a fold, judged by R3: what recovery, readers and standbys do with a tail.

Rules of this file: every record goes through the one reader and the one ledger; an instance whose beginning was not seen is
*partial*, and decides nothing, until its history is carried forward or it is forgotten (R15).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from perdure.actors.instance import InstanceState, apply_turn
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
from perdure.schemas.events import ExecutionStarted
from perdure.schemas.records import NO_DIGEST, Opening, RecordKind

from .fold import Fold
from .header import header_of, read_header
from .instances import execution_part, read_state
from .ledger import Confirmed
from .ports import HubIdentity, LogRecord
from .reader import Accepted, RunState, Void, read_record
from .state import PartitionState

STATES_CACHED = 2_000
# What is taken is written together, so that an instance with many turns in the tail changes its header and index once.
WRITE_RECORDS = 2_000
WRITE_BYTES = 8_000_000
# What decoding and folding raise where a record is not an owner's. Faults of log and store are none of these.
_NOT_OURS = (
    WireError,
    UnknownFormat,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class PartitionRefused(Exception):
    """This worker must not own the partition: another partition count or hash, a record or level that it cannot read, a
    clock that is off, a log that is broken or does not say enough. The message says what was expected and what was found."""


class CatchUp:
    """`fold` with a log's records added. `run` is that of a reader that comes to the first of them; `from_base`: that is a base,
    whose checkpoint says how the partition stood."""

    def __init__(self, fold: Fold, identity: HubIdentity, run: RunState, *, from_base: bool = False) -> None:
        self.fold = fold
        self.opening: Opening | None = None
        self.clock_skew_ms = 0
        self._identity = identity
        self._run = run
        self._from_base = from_base
        anchor = fold.anchor
        self._place = (-1, -1, NO_DIGEST, NO_DIGEST)
        if anchor is not None:
            self._place = (anchor.epoch, anchor.offset, anchor.previous, anchor.digest)
        self._states: OrderedDict[str, InstanceState | None] = OrderedDict()
        self._changed: set[str] = set()
        self._records = 0
        self._bytes = 0
        self.partial: dict[str, int] = {}
        """Instances whose beginning was not seen, and the offset of their last turn."""

    def take(self, record: LogRecord) -> None:
        """Add one record. Raises PartitionRefused."""
        before = self._run
        self._records += 1
        self._bytes += len(record.value or b"")
        self._run, verdict = read_record(before, record.offset, record.value)
        if isinstance(verdict, Void) and verdict.broken:
            raise PartitionRefused(
                f"partition {self.fold.partition}, offset {record.offset}: the log is broken, {verdict.reason.value}; run `perdure audit`"
            )
        if not isinstance(verdict, Accepted):
            return
        take = _TAKE.get(verdict.kind)
        if take is None:
            raise PartitionRefused(
                f"partition {self.fold.partition}, offset {record.offset}: record kind {verdict.kind} is not known to this build"
            )
        try:
            if verdict.kind == RecordKind.CLAIM:
                self.opening = Opening(before.offset, before.digest)
                self.clock_skew_ms = decode_claim(verdict.body, verdict.format).time_ms - record.timestamp_ms
            take(self, verdict)
        except _NOT_OURS as error:
            raise self._refusal(verdict.offset, error) from error
        self._place = (self._run.epoch, verdict.offset, verdict.previous, verdict.digest)

    @property
    def next_offset(self) -> int:
        """The first record that was not taken yet."""
        return self._run.next_offset

    @property
    def full(self) -> bool:
        """So much was taken since the last `write` that it is time for another one."""
        return self._records >= WRITE_RECORDS or self._bytes >= WRITE_BYTES

    def write(self) -> None:
        """Write what was taken since the last call."""
        if self._place[1] >= 0:
            try:
                for name in self._changed:
                    after = self._states[name]
                    new = header_of(after) if after is not None else None
                    self.fold.show(name, read_header(self.fold.store, name), new)
                self.fold.write(*self._place)
            except _NOT_OURS as error:
                raise self._refusal(self._place[1], error) from error
        self._changed.clear()
        self._records = self._bytes = 0
        while len(self._states) > STATES_CACHED:
            self._states.popitem(last=False)

    def _refusal(self, offset: int, error: Exception) -> PartitionRefused:
        """A record that stands rightly in the chain, and says what no owner would: whoever may write a history can (R1)."""
        return PartitionRefused(
            f"partition {self.fold.partition}, up to offset {offset}: a record cannot be folded: {type(error).__name__}: {error}; "
            "run `perdure audit`"
        )

    def check_whole(self) -> None:
        """Raise PartitionRefused if the log did not say all of an instance."""
        if self.partial:
            name, offset = next(iter(self.partial.items()))
            raise PartitionRefused(
                f"partition {self.fold.partition}: {len(self.partial)} instances, such as {name!r} (offset {offset}), begin before what is left "
                "of the log, and were not carried forward; run `perdure audit`"
            )

    def _take_claim(self, verdict: Accepted) -> None:
        claim = decode_claim(verdict.body, verdict.format)
        expected = (self._identity.partition_count, "murmur2")
        if (claim.partition_count, claim.hash) != expected:
            raise PartitionRefused(
                f"partition {self.fold.partition}, offset {verdict.offset}: the claim of {claim.owner} is for {claim.partition_count} partitions "
                f"by {claim.hash}, this hub has {expected[0]} by {expected[1]}; a hub's partition count never changes"
            )
        self.fold.take_claim(verdict.offset, claim)

    def _take_checkpoint(self, verdict: Accepted) -> None:
        checkpoint = decode_checkpoint(verdict.body, verdict.format)
        if self._from_base:
            self._from_base = False
            self.fold.state = PartitionState.of_checkpoint(checkpoint)
            self.fold.epoch = self.fold.state.alive_since = verdict.epoch
        whole = verdict.first_offset == verdict.offset
        self.fold.take_checkpoint(verdict.first_offset, checkpoint, names_base=whole)

    def _take_level(self, verdict: Accepted) -> None:
        self.fold.take_level(decode_level(verdict.body, verdict.format).level)

    def _take_attempt(self, verdict: Accepted) -> None:
        self.fold.take_attempt(decode_attempt(verdict.body, verdict.format).instances)

    def _take_turn(self, verdict: Accepted) -> None:
        name, body = verdict.instance_id, decode_turn(verdict.body, verdict.format)
        before, after = (self._state(name), None) if name else (None, None)
        if verdict.kind == RecordKind.FORGOTTEN:
            self.partial.pop(name, None)
        elif name:
            decided, events = execution_part(body.decided, body.events)
            begins = bool(events) and isinstance(events[0], ExecutionStarted)
            if before is None and not begins:
                self.partial[name] = verdict.first_offset
                # What it says of its survival counts, though nothing is held of it yet (R13).
                self.fold.state.deaths.take_body(name, body, forgotten=False)
                name = ""  # the partition's part of the record counts all the same
            else:
                self.partial.pop(name, None)
                base = None if begins else before
                after = apply_turn(base, events, instance_id=name, time_ms=body.time_ms, decided=decided)
        self.fold.take(Confirmed(name, verdict.first_offset, verdict.format, body, verdict.body, before, after))
        if name:
            self._show(name, after)

    def _take_carried(self, verdict: Accepted) -> None:
        carried = decode_carried(verdict.body, verdict.format)
        name = carried.instance_id
        before = self._state(name)
        if before is not None:
            after = self.fold.take_carried(before, verdict.first_offset)
        elif self.partial.pop(name, -1) <= carried.as_of:
            after = self.fold.take_carried_whole(carried, verdict.first_offset)
        else:
            raise PartitionRefused(
                f"partition {self.fold.partition}, offset {verdict.offset}: the history of {name!r} was carried as of {carried.as_of}, "
                "and it had turns after that; run `perdure audit`"
            )
        self._show(name, after)

    def _show(self, name: str, after: InstanceState | None) -> None:
        self._states[name] = after
        self._states.move_to_end(name)
        self._changed.add(name)

    def _state(self, name: str) -> InstanceState | None:
        # What is not here was trimmed by `write`, so the store has it.
        if name not in self._states:
            known = read_header(self.fold.store, name) is not None
            self._states[name] = read_state(self.fold.store, name) if known else None
        return self._states[name]


_TAKE = cast(
    "dict[int, Callable[[CatchUp, Accepted], None]]",
    {
        RecordKind.CLAIM: CatchUp._take_claim,
        RecordKind.TURN: CatchUp._take_turn,
        RecordKind.PARTITION: CatchUp._take_turn,
        RecordKind.FORGOTTEN: CatchUp._take_turn,
        RecordKind.CHECKPOINT: CatchUp._take_checkpoint,
        RecordKind.CARRIED: CatchUp._take_carried,
        RecordKind.LEVEL: CatchUp._take_level,
        RecordKind.ATTEMPT: CatchUp._take_attempt,
    },
)
