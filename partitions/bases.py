"""Bases: where a reader begins that has nothing but what is left of the log (R15).

Who names a base has seen it confirmed, so every base that is named tells the truth, even in a void record; and as long as the
log is whole from there on, any of them will do. Checkpoints restate the newest one, so it is looked for from the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from perdure.schemas.codec import (
    HISTORY_MARK,
    UnknownFormat,
    WireError,
    decode_checkpoint,
    decode_claim,
    decode_envelope,
)
from perdure.schemas.records import Envelope, RecordKind

from .ports import Log, LogRecord
from .reader import RunState
from .state import NO_BASE

WINDOW_RECORDS = 2_000
# Kinds are zigzag-coded: a record that is neither a claim nor a checkpoint is told by its second byte, and not decoded.
_NAMING = tuple(HISTORY_MARK + bytes([kind << 1]) for kind in (RecordKind.CLAIM, RecordKind.CHECKPOINT))


@dataclass(frozen=True, slots=True)
class Base:
    """A checkpoint from which everything that is still wanted can be told; `run` is that of a reader that comes to it."""

    offset: int
    run: RunState


def named_base(value: bytes | None) -> int:
    """The base that a record names, or NO_BASE."""
    if value is None or not value.startswith(_NAMING):
        return NO_BASE
    try:
        envelope = decode_envelope(value)
        if envelope.parts > 1:
            return NO_BASE  # a checkpoint of that size is restated by a smaller one
        claim = envelope.kind == RecordKind.CLAIM
        decode = decode_claim if claim else decode_checkpoint
        return decode(envelope.body, envelope.format).base
    except (WireError, UnknownFormat):
        return NO_BASE


def find_base(log: Log, partition: int, end: int) -> Base | None:
    """The newest base named before `end` from which the log is there; None if there is none. Blocks."""
    start = log.span_history(partition).start
    for window in _windows(start, end):
        named = max((named_base(record.value) for record in log.read_history(partition, *window)), default=NO_BASE)
        if named >= start and (base := read_base(log, partition, named)) is not None:
            return base
    return None


def read_base(log: Log, partition: int, offset: int) -> Base | None:
    """The base at `offset`; None where no checkpoint stands there."""
    record: LogRecord | None = next(iter(log.read_history(partition, offset, offset + 1)), None)
    return None if record is None else base_of(record)


def base_of(record: LogRecord) -> Base | None:
    """The record as a base; None if it is no checkpoint. Its digest of what was before is taken on trust: evidence begins here."""
    try:
        envelope: Envelope = decode_envelope(record.value or b"")
    except WireError:
        return None
    if envelope.kind != RecordKind.CHECKPOINT or envelope.offset != record.offset or envelope.part != 0:
        return None
    return Base(record.offset, RunState.after(record.offset - 1, envelope.epoch, envelope.digest))


def _windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Ever larger stretches of [start, end), from its end."""
    size = WINDOW_RECORDS
    while end > start:
        first = max(start, end - size)
        yield first, end
        end, size = first, 2 * size
