"""An audit of what real code decided: the app that ran decides the same, a changed one does not."""

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

import perdure
from perdure.audit import Blame, audit_records, read_log
from perdure.partitions.memory import MemoryHub
from perdure.partitions.ports import LogRecord
from perdure.schemas import messages as ms
from perdure.schemas.codec import decode_envelope, decode_turn
from perdure.schemas.events import ExecutionCompleted
from perdure.schemas.records import RecordKind
from tests.audit.simulated import PARTITIONS, Worker, send
from tests.partitions.cluster import Clock

RETRY = perdure.RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)


def make_app(
    *, parcels: int = 2, pause_seconds: int = 5, note: str = "shipped", step: int = 1, without: tuple[str, ...] = ()
) -> perdure.App:
    """An app of three orchestrations; each argument changes one decision of it."""
    app = perdure.App("shop")

    @app.activity(name="charge")
    async def charge(order: str) -> str:
        raise AssertionError("the pool of these tests answers")

    @app.activity(name="wrap")
    async def wrap(parcel: str) -> str:
        raise AssertionError("the pool of these tests answers")

    async def pack(ctx: perdure.OrchestrationContext, order: str) -> list[str]:
        tasks = [ctx.call_activity("wrap", input=f"{order} {parcel}") for parcel in range(parcels)]
        return await perdure.when_all(tasks)

    async def ship(ctx: perdure.OrchestrationContext, order: str) -> str:
        paid = ctx.call_activity("charge", input=order, retry_policy=RETRY)
        pause = ctx.create_timer(timedelta(seconds=pause_seconds))
        packed = ctx.call_sub_orchestrator("pack", input=order)
        await perdure.when_all([paid, pause, packed])
        ctx.send_event("ledger", "Shipped", data=order)
        ctx.set_custom_status(note)
        return f"{order}: {ctx.new_uuid()}"

    async def ledger(ctx: perdure.OrchestrationContext, count: int) -> None:
        await ctx.wait_for_external_event("shipped")
        await ctx.wait_for_external_event("shipped")
        ctx.continue_as_new(count + step)

    for function in (pack, ship, ledger):
        if function.__name__ not in without:
            app.orchestration(function)
    return app


@cache
def history() -> dict[int, list[LogRecord]]:
    """Five orders under two owners, one after another."""
    clock = Clock()
    hub = MemoryHub(PARTITIONS, clock)
    app = make_app()
    first = Worker(hub, clock, "worker-1", app)
    first.step(20)
    send(first.log, "ledger", ms.Start("ledger", b"0"))
    for number in range(5):
        send(first.log, f"order-{number}", ms.Start("ship", b'"book %d"' % number))
    first.step(12)
    first.log.close()
    second = Worker(hub, clock, "worker-2", app)
    for _ in range(40):
        second.step(2)
        clock.now_ms += 500
    return {partition: list(records) for partition, records in read_log(second.log).items()}


def test_the_app_that_ran_decides_the_same() -> None:
    report = audit_records(history(), make_app())

    assert () == report.findings
    assert {"COMPLETED": 10} == report.counts.finished
    assert 2 == report.counts.continued
    assert 5 == report.counts.activities_retried
    assert report.counts.spanning_instances >= 5
    assert 5 + 5 + 1 + 2 == report.counts.executions_replayed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parcels": 3}, "nothing more, the code decided TaskScheduled #3"),
        ({"pause_seconds": 6}, "TimerCreated #2 with fire_at_ms"),
        ({"note": "sent"}, "CustomStatusSet with value"),
        ({"step": 2}, "continued as new with"),
    ],
)
def test_an_app_that_decides_otherwise_is_told_where(change: dict[str, Any], message: str) -> None:
    report = audit_records(history(), make_app(**change))

    assert 3 == report.exit_code
    assert {Blame.DECISION} == {finding.blame for finding in report.findings}
    assert all(message in finding.message for finding in report.findings)


@pytest.mark.parametrize("purged", [False, True])
def test_a_start_that_no_code_ever_decided_for_has_nothing_to_be_run_again(purged: bool) -> None:
    clock = Clock()
    hub = MemoryHub(PARTITIONS, clock)
    worker = Worker(hub, clock, "worker-1", make_app())
    worker.step(20)
    send(worker.log, "order-0", ms.Start("ship", b'"book"'))
    send(worker.log, "typo", ms.Start("shipp", b'"book"'))
    worker.step(20)
    if purged:
        send(worker.log, "typo", ms.Purge(force=True))
        worker.step(20)
    records = read_log(worker.log)
    known, wrong = audit_records(records, make_app()), audit_records(records, make_app(without=("ship",)))

    assert (0, ()) == (known.exit_code, known.findings)
    assert (int(purged), known.counts.started - 1) == (known.counts.forgotten, known.counts.executions_replayed)
    assert 4 == wrong.exit_code
    assert ["order-0"] == [finding.message.partition(":")[0] for finding in wrong.findings]


@pytest.mark.parametrize("name", ["pack", "ship", "ledger"])
def test_an_app_that_lacks_an_orchestration_is_told_which(name: str) -> None:
    report = audit_records(history(), make_app(without=(name,)))

    assert 4 == report.exit_code
    assert all(f"no orchestration '{name}'" in finding.message for finding in report.findings)


def test_findings_stand_where_the_decision_stands() -> None:
    report = audit_records(history(), make_app(note="sent"))

    found = {f.partition: {g.offset for g in report.findings if g.partition == f.partition} for f in report.findings}
    ends = {partition: set(ends_of_orders(records)) for partition, records in history().items()}
    assert {partition: offsets for partition, offsets in ends.items() if offsets} == found


def ends_of_orders(records: list[LogRecord]) -> Iterator[int]:
    """Offsets of the turns in which an order ends."""
    for record in records:
        envelope = decode_envelope(record.value or b"")
        if envelope.kind == RecordKind.TURN and re.fullmatch(r"order-\d", envelope.instance_id):
            events = decode_turn(envelope.body, envelope.format).events
            if any(isinstance(event, ExecutionCompleted) for event in events):
                yield record.offset
