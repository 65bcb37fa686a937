"""Whatever is done to an accepted record of a history with two take-overs, the audit reports it."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from perdure.audit import AuditReport, Head, audit_records
from perdure.partitions.ports import LogRecord
from perdure.partitions.reader import RunState, Void, read_record
from tests.audit.simulated import CODE, PARTITIONS, run_hub
from tests.audit.tampering import (
    EDITS,
    Records,
    accepted_in,
    double,
    double_and_move_on,
    drop,
    forge_result,
    garbage_at_the_end,
    last_again,
    stale_at_the_end,
    swap,
    tombstone_at_the_end,
    unknown_epoch_at_the_end,
)


@cache
def history() -> dict[int, tuple[LogRecord, ...]]:
    return {partition: tuple(records) for partition, records in run_hub().items()}


@cache
def clean_report() -> AuditReport:
    return audit_records(history(), CODE)


PLACES = [(partition, offset) for partition in range(PARTITIONS) for offset in accepted_in(history()[partition])]


def audit_with(partition: int, records: Records, heads: tuple[Head, ...] = ()) -> AuditReport:
    return audit_records({**history(), partition: records}, None, heads=heads)


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


@pytest.mark.parametrize("tamper", EDITS)
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


def test_a_void_record_passes_only_where_something_that_is_there_explains_it() -> None:
    """A stale owner's record does, where its claim is there; nothing explains a copy, a stranger's bytes or an epoch without a
    claim."""
    for partition in range(PARTITIONS):
        records = list(history()[partition])
        void_before = audit_with(partition, records).counts.void
        stale = audit_with(partition, stale_at_the_end(records))

        assert (0, void_before + 1) == (stale.exit_code, stale.counts.void)
        for forge, rule in (
            (last_again, "R4"),
            (unknown_epoch_at_the_end, "R2"),
            (garbage_at_the_end, "R3"),
            (tombstone_at_the_end, "R3"),
        ):
            [finding] = audit_with(partition, forge(records)).findings
            assert (partition, len(records), rule) == (finding.partition, finding.offset, finding.rule)


def test_a_changed_result_that_alters_no_decision_is_reported() -> None:
    changed = 0
    for partition, offset in PLACES:
        for forged in forge_result(list(history()[partition]), offset):
            changed += 1

            # The code decides the same, so only the digest knows.
            tampered = {**history(), partition: forged}
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
