"""The history as a checker reads it: which records count, by an R3 of its own, and what each says.

Rules of this file: nothing of `partitions.reader` is used to decide; what it decides is compared (C7).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import Accepted, Part, RunState, Void, read_record
from perdure.schemas.codec import (
    WireError,
    decode_attempt,
    decode_carried,
    decode_checkpoint,
    decode_claim,
    decode_envelope,
    decode_turn,
    extend_digest,
)
from perdure.schemas.records import (
    NO_DIGEST,
    CarriedHistory,
    Checkpoint,
    Claim,
    Envelope,
    Opening,
    RecordKind,
    TurnBody,
)

from .evidence import Evidence, Violation

TURNS = (RecordKind.TURN, RecordKind.PARTITION, RecordKind.FORGOTTEN)


@dataclass(frozen=True, slots=True)
class Entry:
    """One record that counts. `first` is the offset of its first part; `time_ms` when its last part landed, by the log's clock.
    `turn` is None but for TURN, PARTITION and FORGOTTEN."""

    partition: int
    offset: int
    first: int
    kind: int
    epoch: int
    instance_id: str
    time_ms: int
    digest: bytes
    turn: TurnBody | None = None
    checkpoint: Checkpoint | None = None
    claim: Claim | None = None
    carried: CarriedHistory | None = None
    tried: tuple[str, ...] | None = None
    body: bytes = b""

    @property
    def where(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(slots=True)
class Reading:
    """What all partitions say. `void` are offsets of records that do not count."""

    entries: dict[int, list[Entry]] = field(default_factory=dict)
    void: dict[int, set[int]] = field(default_factory=dict)
    problems: list[Violation] = field(default_factory=list)

    def all(self) -> Iterator[Entry]:
        for entries in self.entries.values():
            yield from entries


def read(evidence: Evidence) -> Reading:
    """Read every partition to its end."""
    reading = Reading()
    for partition, records in evidence.history.items():
        _read_partition(reading, partition, records)
    return reading


def _read_partition(reading: Reading, partition: int, records: Sequence[LogRecord]) -> None:
    counted = _Counting()
    for record in records:
        counted.take(record)
    entries = reading.entries[partition] = [_decode(partition, each) for each in counted.whole]
    kept = {offset for each in counted.whole for offset in range(each.first.offset, each.last.offset + 1)}
    reading.void[partition] = {record.offset for record in records} - kept
    reading.problems += _compare(partition, records, {entry.offset: entry for entry in entries})
    for before, after in pairwise(records):
        if after.offset != before.offset + 1:
            problem = f"{partition}: offset {after.offset} follows {before.offset}"
            reading.problems.append(Violation("C7", problem))


@dataclass(slots=True)
class _Whole:
    """A record that counts, with the envelopes of all its parts."""

    first: LogRecord
    last: LogRecord
    parts: list[Envelope]
    epoch: int
    digest: bytes


class _Counting:
    """R3, told as a story: who owns the place after each record, and what that owner's next record must look like."""

    def __init__(self) -> None:
        self.whole: list[_Whole] = []
        self._owner: int | None = None  # the open epoch
        self._place = -1  # the offset of the record before
        self._digest = NO_DIGEST  # of all that counts
        self._opening: Opening | None = None
        self._pending: _Whole | None = None

    def take(self, record: LogRecord) -> None:
        follows = record.offset == self._place + 1
        self._place = record.offset
        envelope = _envelope_of(record)
        if envelope is not None and envelope.kind == RecordKind.CLAIM and envelope.parts == 1:
            self._claim(record, envelope)
        elif envelope is None or not follows or not self._is_next(record, envelope):
            self._owner, self._pending = None, None
        else:
            self._add(record, envelope)

    def _claim(self, record: LogRecord, envelope: Envelope) -> None:
        last = self.whole[-1].last.offset if self.whole else -1
        self._opening = Opening(last, self._digest)
        self._owner, self._pending = record.offset, None
        self._digest = extend_digest(self._digest, record.value or b"")
        self.whole.append(_Whole(record, record, [envelope], record.offset, self._digest))

    def _is_next(self, record: LogRecord, envelope: Envelope) -> bool:
        pending = self._pending
        expected = (self._owner, record.offset, pending.digest if pending else self._digest)
        if self._owner is None or (envelope.epoch, envelope.offset, envelope.digest) != expected:
            return False
        first_after_claim = self._owner == record.offset - 1
        if envelope.opening != (self._opening if first_after_claim else None):
            return False
        if pending is None:
            return envelope.part == 0 < envelope.parts
        begun = pending.parts[0]
        same = (begun.kind, begun.format, begun.instance_id, begun.parts)
        found = (envelope.kind, envelope.format, envelope.instance_id, envelope.parts)
        return same == found and envelope.part == len(pending.parts)

    def _add(self, record: LogRecord, envelope: Envelope) -> None:
        assert self._owner is not None
        digest = extend_digest(envelope.digest, record.value or b"")
        if self._pending is None:
            self._pending = _Whole(record, record, [], self._owner, digest)
        pending = self._pending
        pending.parts.append(envelope)
        pending.last, pending.digest = record, digest
        if len(pending.parts) == pending.parts[0].parts:
            self.whole.append(pending)
            self._digest, self._pending = digest, None


def _envelope_of(record: LogRecord) -> Envelope | None:
    try:
        return decode_envelope(record.value or b"")
    except WireError:
        return None


def _decode(partition: int, whole: _Whole) -> Entry:
    first = whole.parts[0]
    body = first.body if len(whole.parts) == 1 else b"".join(part.body for part in whole.parts)
    turn = decode_turn(body, first.format) if first.kind in TURNS else None
    checkpoint = decode_checkpoint(body, first.format) if first.kind == RecordKind.CHECKPOINT else None
    claim = decode_claim(body, first.format) if first.kind == RecordKind.CLAIM else None
    carried = decode_carried(body, first.format) if first.kind == RecordKind.CARRIED else None
    tried = decode_attempt(body, first.format).instances if first.kind == RecordKind.ATTEMPT else None
    return Entry(
        partition,
        whole.last.offset,
        whole.first.offset,
        first.kind,
        whole.epoch,
        first.instance_id,
        whole.last.timestamp_ms,
        whole.digest,
        turn,
        checkpoint,
        claim,
        carried,
        tried,
        body,
    )


def _compare(partition: int, records: Sequence[LogRecord], mine: Mapping[int, Entry]) -> Iterator[Violation]:
    """The engine's own reader must come to the same verdict on every record, and never call an honest log broken."""
    state, epoch = RunState(), -1
    for record in records:
        state, verdict = read_record(state, record.offset, record.value)
        entry = mine.get(record.offset)
        if isinstance(verdict, Void) and verdict.broken:
            yield Violation("C7", f"{partition}:{record.offset} is called broken: {verdict.reason.value}")
        if isinstance(verdict, Accepted):
            found = (verdict.kind, verdict.epoch, verdict.first_offset, verdict.instance_id, verdict.digest)
            expected = entry and (entry.kind, entry.epoch, entry.first, entry.instance_id, entry.digest)
            if found != expected:
                yield Violation("C7", f"{partition}:{record.offset} counts for the reader and should not: {verdict}")
            if verdict.epoch < epoch:
                yield Violation("C7", f"{partition}:{record.offset} is of epoch {verdict.epoch}, after {epoch}")
            epoch = verdict.epoch
        elif entry is not None:
            what = "a part" if isinstance(verdict, Part) else f"void ({verdict.reason.value})"
            yield Violation("C7", f"{partition}:{record.offset} should count, and the reader says {what}")
