"""An owner that carries forward, names bases and trims in a wrong way, in one way after the other: each is reported (R15)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO

import orjson
import pytest

from perdure.audit import ExportTrimmed, audit_records, read_log, write_export
from perdure.partitions.ports import HubIdentity, LogRecord, LogSpan, LogTruncated
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_envelope, encode_carried, encode_checkpoint
from perdure.schemas.records import (
    DEAD_LETTER,
    CarriedHistory,
    CarriedTurn,
    Checkpoint,
    Cursor,
    RecordKind,
    Send,
    TargetState,
)
from tests.audit.test_invariants import ADDRESS, COMPLETED, OWNER, TASK, Forge, only

LETTERS = TargetState(DEAD_LETTER, 1, 1)


def carried(forge: Forge, name: str = "i") -> CarriedHistory:
    """The whole history of an instance, as the log has it now."""
    envelopes = [(offset, decode_envelope(value or b"")) for offset, value in enumerate(forge.values)]
    turns = [
        CarriedTurn(offset, each.format, each.body)
        for offset, each in envelopes
        if each.kind == RecordKind.TURN and each.instance_id == name
    ]
    return CarriedHistory(name, len(forge.values) - 1, tuple(turns))


def carry(forge: Forge, **otherwise: object) -> None:
    history = replace(carried(forge), **otherwise)  # type: ignore[arg-type]
    forge.record(RecordKind.CARRIED, encode_carried(history), history.instance_id)


def checkpoint(forge: Forge, base: int = -1, *targets: TargetState) -> int:
    """Append one; return its offset."""
    forge.record(
        RecordKind.CHECKPOINT,
        encode_checkpoint(Checkpoint(1, 0, targets=targets, base=base, owner=OWNER, address=ADDRESS)),
    )
    return len(forge.values) - 1


def trimmed_forge() -> tuple[Forge, int]:
    """An honest history with a base, and its offset."""
    forge = Forge()
    forge.start(TASK)
    forge.start(COMPLETED, name="brief")
    base = checkpoint(forge)
    carry(forge)
    forge.turn(kind=RecordKind.FORGOTTEN, name="brief")
    checkpoint(forge, base)
    return forge, base


def records_of(forge: Forge) -> list[LogRecord]:
    return [
        LogRecord(offset, key.encode(), value, 0)
        for offset, (key, value) in enumerate(zip(forge.keys, forge.values, strict=True))
    ]


def findings_from(forge: Forge, start: int) -> list[tuple[int, str]]:
    """What an audit of the log from `start` on finds."""
    report = audit_records({0: records_of(forge)[start:]})
    return [(each.offset, each.message) for each in report.findings]


def test_an_honest_trim_leaves_no_findings_before_and_after_it() -> None:
    forge, base = trimmed_forge()
    forge.turn(ev.TaskCompleted(1, 1), COMPLETED)

    assert [] == forge.findings()
    for start in range(base + 1):
        assert [] == findings_from(forge, start), start


def test_the_report_says_where_the_evidence_begins() -> None:
    forge, base = trimmed_forge()
    records = [LogRecord(offset, b"", value, 0) for offset, value in enumerate(forge.values)]

    assert {} == audit_records({0: records}).begins_at
    assert {0: base} == audit_records({0: records[2:]}).begins_at
    assert {"0": base} == audit_records({0: records[base:]}).as_json()["evidence_begins_at"]


class Trimmed:
    """A living hub's log of one partition, whose owner names a base and trims to it while it is read for the `at`th time,
    before its record `when`."""

    def __init__(self, forge: Forge, base: int, at: int, when: int = 1) -> None:
        self.identity = HubIdentity("hub", "cluster", "topic", 1)
        self._records = records_of(forge)
        self._named, self._base, self._start = len(self._records) - 1, base, 0
        self._reads_left, self._when = at, when

    def span_history(self, _partition: int) -> LogSpan:
        return LogSpan(self._start, len(self._records) if self._start else self._named)

    def read_history(self, _partition: int, start: int, end: int) -> Iterator[LogRecord]:
        self._reads_left -= 1
        for record in self._records[start:end]:
            if self._reads_left == 0 and record.offset == self._when:
                self._start = self._base
            if record.offset < self._start:
                raise LogTruncated(f"offset {record.offset} went while it was read")
            yield record


@pytest.mark.parametrize(("start", "at"), [(0, 2), (1, 1), (1, 2), (1, 3), (1, 4)])
def test_a_log_that_is_trimmed_while_it_is_audited_is_audited_from_where_it_begins_then(start: int, at: int) -> None:
    """Also where it was trimmed before, so that its beginning is looked for first."""
    forge, base = trimmed_forge()
    log = Trimmed(forge, base, at)
    log._start = start
    report = audit_records(read_log(log))

    assert {0: base} == report.begins_at
    assert () == report.findings


def test_a_log_that_is_trimmed_while_it_is_exported_is_exported_from_where_it_begins_then() -> None:
    """Also where less is left of it than was written already."""
    forge = Forge()
    for number in range(10):
        forge.start(COMPLETED, name=f"brief-{number}")
    base = checkpoint(forge)
    checkpoint(forge, base)
    out = StringIO()
    out.write("what was there before\n")
    count = write_export(read_log(Trimmed(forge, base, at=1, when=base - 1)), out)
    before, *lines = out.getvalue().splitlines()

    assert ("what was there before", 2) == (before, count)
    assert [base, base + 1] == [orjson.loads(line)["offset"] for line in lines]


def test_what_went_to_where_nothing_can_be_taken_back_says_so() -> None:
    forge, base = trimmed_forge()

    with pytest.raises(ExportTrimmed, match=r"partition 0 was trimmed while it was exported.*export to a file"):
        write_export(read_log(Trimmed(forge, base, 1)), StringIO(), rewinds=False)


def test_a_log_that_lost_its_end_while_it_is_audited_is_no_trim() -> None:
    class Lost(Trimmed):
        def read_history(self, _partition: int, start: int, end: int) -> Iterator[LogRecord]:
            raise LogTruncated(f"[{start}, {end}) was asked for")

    forge, base = trimmed_forge()
    with pytest.raises(LogTruncated, match="was asked for"):
        audit_records(read_log(Lost(forge, base, 1)))


def test_a_log_that_was_cut_and_names_no_base_is_broken() -> None:
    forge = Forge()
    forge.start(TASK)
    forge.turn(ev.TaskCompleted(1, 1), COMPLETED)

    assert (0, "record 0 is missing") in findings_from(forge, 1)


def test_a_log_that_was_cut_behind_its_base_is_broken() -> None:
    forge, base = trimmed_forge()

    assert findings_from(forge, base + 1)


def name_base_at_a_turn(forge: Forge) -> None:
    forge.start(TASK)
    checkpoint(forge, 1)


def name_base_past_a_history(forge: Forge) -> None:
    forge.start(TASK)
    checkpoint(forge, checkpoint(forge))


def name_base_past_a_send(forge: Forge) -> None:
    forge.turn(name="", sends=(Send(DEAD_LETTER, 1, b"?"),))
    base = checkpoint(forge, -1, TargetState(DEAD_LETTER, 1, 0))
    checkpoint(forge, base, TargetState(DEAD_LETTER, 1, 0))


def name_base_before_it_is_there(forge: Forge) -> None:
    forge.turn(name="")
    checkpoint(forge, len(forge.values))


def carry_another_history(forge: Forge) -> None:
    forge.start(TASK)
    turn = carried(forge).turns[0]
    carry(forge, turns=(replace(turn, body=turn.body[:-1] + bytes([turn.body[-1] ^ 1])),))


def carry_too_little(forge: Forge) -> None:
    forge.start(TASK)
    forge.turn(ev.TaskCompleted(1, 1))
    carry(forge, turns=carried(forge).turns[:1])


def carry_as_of_an_earlier_place(forge: Forge) -> None:
    forge.start(TASK)
    forge.turn(ev.TaskCompleted(1, 1))
    carry(forge, as_of=1)


def carry_as_of_later(forge: Forge) -> None:
    forge.start(TASK)
    carry(forge, as_of=len(forge.values))


def carry_nobody(forge: Forge) -> None:
    forge.start(COMPLETED, name="nobody")
    history = carried(forge, "nobody")
    forge.turn(kind=RecordKind.FORGOTTEN, name="nobody")
    forge.record(RecordKind.CARRIED, encode_carried(history), "nobody")


WRONG: list[tuple[Callable[[Forge], None], str]] = [
    (name_base_at_a_turn, "base 1 is named, and no checkpoint is there"),
    (name_base_past_a_history, "base 2 is named, and the history of 'i' begins at 1"),
    (name_base_past_a_send, "base 2 is named, and of 1 sends to target -1 before it 0 are acknowledged"),
    (name_base_before_it_is_there, "base 2 is named, and no checkpoint is there"),
    (carry_another_history, "i: the history that was carried forward is not the one that the log has"),
    (carry_too_little, "i: the history that was carried forward is not the one that the log has"),
    (carry_as_of_an_earlier_place, "i: its history was carried as of 1, its last turn is at 2"),
    (carry_as_of_later, "i: its history was carried as of 2, its last turn is at 1"),
    (carry_nobody, "a carried history of 'nobody', which does not exist"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=lambda each: getattr(each, "__name__", ""))
def test_a_trim_that_loses_something_is_reported(wrong: Callable[[Forge], None], message: str) -> None:
    forge = Forge()
    wrong(forge)

    offset, rule, found = only(forge)
    assert ("R15", message) == (rule, found)
    assert len(forge.values) - 1 == offset


def test_a_history_that_was_not_carried_shows_in_the_trimmed_log() -> None:
    forge = Forge()
    forge.start(TASK)
    base = checkpoint(forge)
    checkpoint(forge, base)
    forge.turn(ev.TaskCompleted(1, 1), COMPLETED)

    assert (len(forge.values) - 1, "the history of 'i' begins before what is left of the log") in findings_from(
        forge, base
    )


def test_an_acknowledged_send_does_not_keep_a_base_back() -> None:
    forge = Forge()
    forge.turn(name="", sends=(Send(DEAD_LETTER, 1, b"?"),))
    base = checkpoint(forge, -1, TargetState(DEAD_LETTER, 1, 0))
    forge.turn(name="", cursors=(Cursor(DEAD_LETTER, 1),))
    checkpoint(forge, base, LETTERS)

    assert [] == forge.findings()
