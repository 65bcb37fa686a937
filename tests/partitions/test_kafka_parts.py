"""A reply in parts comes together again, whatever stands between them, or is forgotten."""

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.partitions.kafka.parts import INCOMPLETE_MAX, PART, PART_BYTES, Joining, split
from perdure.partitions.ports import LogRecord

_offsets = count()


def records_of(value: bytes) -> list[LogRecord]:
    return [LogRecord(next(_offsets), b"client", piece, 0, tuple(headers)) for piece, headers in split(value)]


def joined(records: list[LogRecord]) -> list[bytes | None]:
    joining = Joining()
    return [reply.value for record in records if (reply := joining.take(record)) is not None]


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 5])
def test_what_is_split_is_joined(size: int) -> None:
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)
    records = records_of(value)

    assert max(1, -(-size // PART_BYTES)) == len(records)
    assert all(len(record.value or b"") <= PART_BYTES for record in records)
    assert [value] == joined(records)


@settings(max_examples=30, suppress_health_check=[HealthCheck.data_too_large])
@given(st.data())
def test_replies_may_be_mixed(data: st.DataObject) -> None:
    values = [bytes([number]) * (PART_BYTES * data.draw(st.integers(0, 2)) + 1) for number in range(4)]
    waiting = [records_of(value) for value in values]
    mixed: list[LogRecord] = []
    while waiting := [each for each in waiting if each]:
        mixed.append(data.draw(st.sampled_from(waiting)).pop(0))

    assert set(values) == set(joined(mixed))


def test_a_reply_with_a_part_missing_twice_or_out_of_order_is_forgotten() -> None:
    first, second, third = records_of(bytes(2 * PART_BYTES + 1))

    assert [] == joined([first, third])
    assert [] == joined([second, third])
    assert [] == joined([first, first, second, third])
    assert [] == joined([first, second, LogRecord(9, b"client", b"x", 0, ((PART, b"nonsense"),))])


def test_replies_that_never_come_whole_are_bounded() -> None:
    joining = Joining()
    for _ in range(5 * INCOMPLETE_MAX):
        joining.take(records_of(bytes(PART_BYTES + 1))[0])

    assert len(joining._incomplete) <= INCOMPLETE_MAX
