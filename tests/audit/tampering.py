"""What can be done to one record of a partition's history, each as the partition that it leaves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import Accepted, Part, RunState, read_record
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_envelope, decode_turn, encode_envelope, encode_turn
from perdure.schemas.records import Envelope, RecordKind

Records = list[LogRecord]
Tamper = Callable[[Records, int], Iterator[Records]]


def accepted_in(records: Sequence[LogRecord]) -> list[int]:
    """The indices of the records that count."""
    state, found = RunState(), []
    for index, record in enumerate(records):
        state, verdict = read_record(state, record.offset, record.value)
        if isinstance(verdict, Accepted | Part):
            found.append(index)
    return found


def renumbered(records: Records) -> Records:
    """As a log would number them that held nothing else."""
    return [replace(record, offset=offset) for offset, record in enumerate(records)]


def change_byte(records: Records, at: int) -> Iterator[Records]:
    value = records[at].value or b""
    for position in {1, len(value) // 3, len(value) // 2, len(value) - 1}:
        changed = bytearray(value)
        changed[position] ^= 1
        yield [*records[:at], replace(records[at], value=bytes(changed)), *records[at + 1 :]]


def lose_value(records: Records, at: int) -> Iterator[Records]:
    yield [*records[:at], replace(records[at], value=None), *records[at + 1 :]]


def drop(records: Records, at: int) -> Iterator[Records]:
    yield [*records[:at], *records[at + 1 :]]


def drop_and_close_up(records: Records, at: int) -> Iterator[Records]:
    yield renumbered([*records[:at], *records[at + 1 :]])


def double(records: Records, at: int) -> Iterator[Records]:
    yield [*records[: at + 1], *records[at:]]


def double_and_move_on(records: Records, at: int) -> Iterator[Records]:
    yield renumbered([*records[: at + 1], *records[at:]])


def swap(records: Records, at: int) -> Iterator[Records]:
    for other in {at + 1, at + 2, len(records) - 1} - {at}:
        if other < len(records):
            swapped = records.copy()
            swapped[at] = replace(records[other], offset=at)
            swapped[other] = replace(records[at], offset=other)
            yield swapped


def change_key(records: Records, at: int) -> Iterator[Records]:
    if decode_envelope(records[at].value or b"").kind in (RecordKind.CLAIM, RecordKind.TURN):
        yield [*records[:at], replace(records[at], key=b"another"), *records[at + 1 :]]


def forge_result(records: Records, at: int) -> Iterator[Records]:
    """Another result of an activity, in a record that is in order in itself."""
    envelope = decode_envelope(records[at].value or b"")
    if envelope.kind != RecordKind.TURN:
        return
    body = decode_turn(envelope.body, envelope.format)
    events = tuple(replace(e, result=b'"forged"') if isinstance(e, ev.TaskCompleted) else e for e in body.events)
    if events != body.events:
        forged = encode_envelope(replace(envelope, body=encode_turn(replace(body, events=events))))
        yield [*records[:at], replace(records[at], value=forged), *records[at + 1 :]]


EDITS: tuple[Tamper, ...] = (
    change_byte,
    lose_value,
    drop,
    drop_and_close_up,
    double,
    double_and_move_on,
    swap,
    change_key,
    forge_result,
)


def _append(records: Records, value: bytes | None) -> Records:
    last = records[-1]
    return [*records, replace(last, offset=last.offset + 1, value=value)]


def stale_at_the_end(records: Records) -> Records:
    """What an owner that was paused writes when it comes back: the next record of its own epoch, long over."""
    first_turn = next(record for record in records if _envelope(record).kind == RecordKind.TURN)
    return _append(records, first_turn.value)


def last_again(records: Records) -> Records:
    """A copy of the last record; its owner would have seen it, and claimed again."""
    return _append(records, records[-1].value)


def unknown_epoch_at_the_end(records: Records) -> Records:
    """A record of an owner that never claimed."""
    return _append(records, encode_envelope(replace(_envelope(records[-1]), epoch=1)))


def garbage_at_the_end(records: Records) -> Records:
    return _append(records, b"not of ours")


def tombstone_at_the_end(records: Records) -> Records:
    return _append(records, None)


def _envelope(record: LogRecord) -> Envelope:
    return decode_envelope(record.value or b"")
