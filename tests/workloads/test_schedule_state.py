"""What commands and runs make of a schedule's state."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from workloads.scheduled_tasks.planning import Due
from workloads.scheduled_tasks.schedule import (
    RUNS_KEPT,
    SUMMARY_CHARACTERS,
    Command,
    CommandKind,
    Schedule,
    encode_status,
    run_instance_id,
    take_command,
    take_run,
)
from workloads.scheduled_tasks.task import RunRecord, RunStatus, ScheduledTask

TASK = ScheduledTask("news", "ada", "What is new?", "0 7 * * *")
START = datetime(2026, 1, 1, 7, tzinfo=UTC)
NOW = START + timedelta(days=9)


def run(day: int, status: RunStatus = RunStatus.COMPLETED) -> RunRecord:
    at = START + timedelta(days=day)
    return RunRecord(run_instance_id("news", Due(at)), at, at, at, status, summary="x" * 500)


def command(kind: CommandKind, task: ScheduledTask | None = None, problems: tuple[str, ...] = ()) -> Schedule:
    return take_command(Schedule(TASK, START), Command(kind, task), problems, NOW)


def test_a_schedule_remembers_its_latest_runs_and_counts_them_all() -> None:
    schedule = Schedule(TASK, START)
    for day in range(RUNS_KEPT + 5):
        schedule = take_run(schedule, run(day, RunStatus.FAILED if day % 5 == 0 else RunStatus.COMPLETED))
    assert [run(day).run_id for day in range(5, RUNS_KEPT + 5)] == [kept.run_id for kept in schedule.runs]
    assert (RUNS_KEPT, 5) == (schedule.completed, schedule.failed)
    assert {SUMMARY_CHARACTERS} == {len(kept.summary) for kept in schedule.runs}


def test_a_run_deals_with_its_occurrence_and_one_by_hand_with_none() -> None:
    assert run(1).scheduled_for == take_run(Schedule(TASK, START), run(1)).done_until
    assert START == take_run(Schedule(TASK, START), run(1), by_hand=True).done_until


def test_an_occurrence_has_one_run_id_whatever_the_zone_it_is_written_in() -> None:
    elsewhere = START.astimezone(datetime.now().astimezone().tzinfo)
    assert "run-news-20260101T070000Z" == run_instance_id("news", Due(START)) == run_instance_id("news", Due(elsewhere))


def test_pausing_keeps_the_task_and_resuming_owes_nothing_of_the_pause() -> None:
    paused = command(CommandKind.PAUSE)
    resumed = take_command(paused, Command(CommandKind.RESUME), (), NOW)
    assert (replace(TASK, enabled=False), START) == (paused.task, paused.done_until)
    assert (TASK, NOW) == (resumed.task, resumed.done_until)


def test_an_update_counts_from_now_on() -> None:
    updated = command(CommandKind.UPDATE, replace(TASK, cron="0 8 * * *"))
    assert ("0 8 * * *", NOW) == (updated.task.cron, updated.done_until)


@pytest.mark.parametrize(
    ("task", "problems", "why"),
    [(replace(TASK, cron="x"), ("cron 'x' is bad",), "cron 'x' is bad"), (None, (), "must carry the new task")],
)
def test_a_bad_update_changes_nothing_and_is_shown(
    task: ScheduledTask | None, problems: tuple[str, ...], why: str
) -> None:
    refused = command(CommandKind.UPDATE, task, problems)
    assert (TASK, START) == (refused.task, refused.done_until)
    assert why in refused.refused


def test_the_status_is_json() -> None:
    schedule = take_run(Schedule(TASK, START), run(1))
    read = orjson.loads(orjson.dumps(encode_status(schedule, "waiting", NOW)))
    assert ("waiting", "2026-01-10T07:00:00Z", "2026-01-02T07:00:00Z") == (
        read["doing"],
        read["next_at"],
        read["runs"][0]["scheduled_for"],
    )
