"""An audit runs the code again: other code is told from code that is not there, and both from a broken log."""

from collections.abc import Sequence
from functools import cache

from perdure import App, OrchestrationContext
from perdure.audit import Blame, audit_records
from perdure.audit.decisions import Decisions
from perdure.partitions.ports import LogRecord
from perdure.schemas import events as ev
from perdure.schemas.events import HistoryEvent
from perdure.schemas.records import TurnBody
from tests.audit.simulated import CODE, ScriptedCode, ledger, pack, run_hub, ship


@cache
def history() -> dict[int, list[LogRecord]]:
    return run_hub()


def wrap_twice(instance_id: str, seen: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    first, *rest = pack(instance_id, seen)
    assert isinstance(first, ev.TaskScheduled)
    return [ev.TaskScheduled(1, "wrap", b'"twice"'), *rest]


def test_the_code_that_wrote_a_history_decides_the_same() -> None:
    report = audit_records(history(), CODE)

    assert (0, ()) == (report.exit_code, report.findings)
    assert report.counts.started + report.counts.continued == report.counts.executions_replayed


def test_code_that_decides_otherwise_is_exit_code_3_even_where_only_an_input_differs() -> None:
    report = audit_records(history(), ScriptedCode(ship=ship, pack=wrap_twice, ledger=ledger))

    assert 3 == report.exit_code
    assert {Blame.DECISION} == {finding.blame for finding in report.findings}
    assert 9 == len(report.findings)
    first = report.findings[0]
    assert (0, "code") == (first.partition, first.rule)
    assert "order-0-pack: decided" in first.message


def test_code_that_is_not_there_is_exit_code_4() -> None:
    report = audit_records(history(), ScriptedCode(ship=ship, ledger=ledger))

    assert 4 == report.exit_code
    assert {Blame.CODE} == {finding.blame for finding in report.findings}
    assert "no orchestration is called 'pack'" in report.findings[0].message


def test_a_broken_log_is_graver_than_other_code_and_that_than_missing_code() -> None:
    other = ScriptedCode(pack=wrap_twice, ledger=ledger)
    broken = {**history(), 0: history()[0][5:]}

    assert 3 == audit_records(history(), other).exit_code
    assert 2 == audit_records(broken, other).exit_code


def test_one_instance_is_audited_alone() -> None:
    report = audit_records(history(), ScriptedCode(pack=pack), only="order-1-pack")

    assert 0 == report.exit_code
    assert (1, 2, 1) == (report.counts.started, report.counts.turns, report.counts.executions_replayed)


def test_what_an_audit_counts_is_what_was_asked_for() -> None:
    counts = audit_records(history()).counts

    # Nine orders, a parcel for each, and the ledger, which begins anew after three events or more.
    assert 9 + 9 + 1 == counts.started
    assert {"COMPLETED": 18} == counts.finished
    assert 1 == counts.unfinished
    assert 18 == counts.activities_completed
    assert 9 == counts.activities_retried
    assert 9 == counts.timers_fired
    assert 7 == counts.claims
    assert sum(map(len, history().values())) == counts.records
    assert counts.records == counts.accepted + counts.void


def test_code_that_asks_to_continue_and_then_fails_did_not_continue() -> None:
    app = App()

    @app.orchestration
    async def code(ctx: OrchestrationContext, rounds: int) -> None:
        ctx.continue_as_new(rounds + 1)
        raise ValueError("after all not")

    started = ev.ExecutionStarted("0-1", "code", b"1")
    failed = app.executor("i", started).decide((started,), 0)
    assert failed.continued is None
    decisions = Decisions(app)
    decisions.take("i", 0, TurnBody(0, events=(started, *failed.events)))
    decisions.finish()

    assert [] == decisions.found
