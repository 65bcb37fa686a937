"""Whatever is done to an accepted record of a history with two take-overs, the audit reports it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest

from perdure.audit import AuditReport, Head, audit_records
from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import Accepted, Part, RunState, Void, read_record
from perdure.schemas import events as ev
from perdure.schemas.codec import decode_envelope, decode_turn, encode_envelope, encode_turn
from perdure.schemas.records import RecordKind
from tests.audit.simulated import CODE, PARTITIONS, run_hub

Records = list[LogRecord]


@cache
def history() -> dict[int, tuple[LogRecord, ...]]:
    return {partition: tuple(records) for partition, records in run_hub().items()}


@cache
def clean_report() -> AuditReport:
    return audit_records(history(), CODE)


def accepted_at(partition: int) -> list[int]:
    """Offsets of the records that count."""
    state, offsets = RunState(), []
    for record in history()[partition]:
        state, verdict = read_record(state, record.offset, record.value)
        if isinstance(verdict, Accepted | Part):
            offsets.append(record.offset)
    return offsets


PLACES = [(partition, offset) for partition in range(PARTITIONS) for offset in accepted_at(partition)]


def audit_with(partition: int, records: Records, heads: tuple[Head, ...] = ()) -> AuditReport:
    return audit_records({**history(), partition: records}, None, heads=heads)


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


def test_the_history_is_worth_tampering_with() -> None:
    """Two take-overs, a zombie's records, retries, timers, children, a new execution, a checkpoint; and nothing wrong."""
    report = clean_report()
    stale = [
        verdict
        for partition in range(PARTITIONS)
        for verdict in verdicts(history()[partition])
        if isinstance(verdict, Void)
    ]

    assert () == report.findings
    assert 0 == report.exit_code
    assert len(stale) == report.counts.void > 0
    assert all(counts.claims >= 3 for counts in report.counts_by_partition.values())
    assert report.counts.activities_retried > 0
    assert report.counts.continued > 0
    assert report.counts.timers_fired > 0
    assert report.counts.spanning_instances > 0


def verdicts(records: tuple[LogRecord, ...]) -> Iterator[object]:
    state = RunState()
    for record in records:
        state, verdict = read_record(state, record.offset, record.value)
        yield verdict


@pytest.mark.parametrize(
    "tamper", [change_byte, lose_value, drop, drop_and_close_up, double, double_and_move_on, swap, change_key]
)
def test_every_tampered_record_is_reported(tamper: Callable[[Records, int], Iterator[Records]]) -> None:
    heads = clean_report().heads
    unreported = []
    for partition, offset in PLACES:
        for number, tampered in enumerate(tamper(list(history()[partition]), offset)):
            report = audit_with(partition, tampered, heads)
            if report.exit_code != 2:
                unreported.append((partition, offset, number))

    assert [] == unreported


@pytest.mark.parametrize("tamper", [drop, double, double_and_move_on, swap])
def test_only_the_last_record_needs_a_head_to_be_missed(tamper: Callable[[Records, int], Iterator[Records]]) -> None:
    unreported = {
        (partition, offset)
        for partition, offset in PLACES
        for tampered in tamper(list(history()[partition]), offset)
        if audit_with(partition, tampered).exit_code != 2
    }

    assert unreported <= {(partition, len(history()[partition]) - 1) for partition in range(PARTITIONS)}


def test_a_changed_result_that_alters_no_decision_is_reported() -> None:
    changed = 0
    for partition, offset in PLACES:
        records = list(history()[partition])
        envelope = decode_envelope(records[offset].value or b"")
        if envelope.kind != RecordKind.TURN:
            continue
        body = decode_turn(envelope.body, envelope.format)
        events = tuple(replace(e, result=b'"forged"') if isinstance(e, ev.TaskCompleted) else e for e in body.events)
        if events == body.events:
            continue
        changed += 1
        forged = encode_envelope(replace(envelope, body=encode_turn(replace(body, events=events))))
        records[offset] = replace(records[offset], value=forged)
        tampered = {**history(), partition: records}

        # The code decides the same, so only the digest knows.
        assert 2 == audit_records(tampered, CODE, heads=clean_report().heads).exit_code
    assert changed == clean_report().counts.activities_completed


def test_a_cut_tail_shows_against_a_head_and_only_there() -> None:
    for partition in range(PARTITIONS):
        records = list(history()[partition])[:-3]

        assert 0 == audit_with(partition, records).exit_code
        [finding] = audit_with(partition, records, clean_report().heads).findings
        assert (partition, len(records) + 2, "head") == (finding.partition, finding.offset, finding.rule)


def test_a_head_of_a_partition_that_is_not_there_is_reported() -> None:
    report = audit_records({0: history()[0]}, heads=clean_report().heads)

    assert [(1, "head")] == [(finding.partition, finding.rule) for finding in report.findings]


def test_a_log_without_its_beginning_is_reported() -> None:
    report = audit_with(0, list(history()[0])[5:])

    first = report.findings[0]
    assert (0, "R4", "records 0 to 4 are missing") == (first.offset, first.rule, first.message)
