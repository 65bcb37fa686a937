"""Scheduled tasks as values: what is refused, and what an outage costs under each catch-up policy."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import perf_counter

import pytest

from workloads.scheduled_tasks.planning import Due, Plan, PlanRequest, take_stock
from workloads.scheduled_tasks.task import (
    CatchUp,
    InvalidTask,
    Missed,
    ModelOptions,
    ScheduledTask,
    find_problems,
    validate,
)

MORNING = ScheduledTask("news", "ada", "What is new in asyncio?", "0 7 * * *", "Europe/Berlin")


def day(number: int, hour: int = 6, minute: int = 0) -> datetime:
    return datetime(2026, 1, number, hour, minute, tzinfo=UTC)


def stock(catch_up: CatchUp, done_until: datetime, now: datetime) -> Plan:
    return take_stock(PlanRequest(replace(MORNING, catch_up=catch_up), done_until, now))


def test_a_good_task_has_no_problems() -> None:
    assert MORNING == validate(MORNING)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": "../x"}, "must be 1 to 64 letters"),
        ({"id": ""}, "must be 1 to 64 letters"),
        ({"owner": " "}, "owner is empty"),
        ({"prompt": "\n"}, "prompt is empty"),
        ({"prompt": "x" * 8_001}, "has 8,001 characters"),
        ({"cron": "0 25 * * *"}, "cannot be read"),
        ({"time_zone": "Berlin"}, "not in the IANA database"),
        ({"catch_up": CatchUp(at_most=0)}, "expected 1 to 100 runs"),
        ({"catch_up": CatchUp(grace_seconds=-1)}, "expected 0 or more"),
        ({"model": ModelOptions(temperature=3)}, "expected 0 to 2"),
        ({"model": ModelOptions(max_output_tokens=0)}, "expected 1 to 32,000"),
    ],
)
def test_a_task_that_cannot_run_is_refused_with_the_reason(change: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidTask, match=problem):
        validate(replace(MORNING, **change))  # type: ignore[arg-type]


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert 3 == len(find_problems(replace(MORNING, owner="", cron="x", time_zone="x")))


def test_a_schedule_on_time_runs_its_occurrence_and_sleeps_to_the_next() -> None:
    assert Plan((Due(day(2)),), 0, day(3)) == stock(CatchUp(), day(1), day(2))


def test_a_schedule_with_nothing_due_only_sleeps() -> None:
    assert Plan((), 0, day(2)) == stock(CatchUp(), day(1), day(1, 12))


def test_a_run_within_the_grace_is_on_time_and_a_second_later_it_was_missed() -> None:
    skip = CatchUp(Missed.SKIP, grace_seconds=60)
    assert (Due(day(2)),) == stock(skip, day(1), day(2, 6, 1)).run
    assert () == stock(skip, day(1), day(2, 6, 1) + timedelta(seconds=1)).run


@pytest.mark.parametrize(
    ("catch_up", "expected", "skipped"),
    [
        (CatchUp(Missed.SKIP), (), 4),
        (CatchUp(Missed.ONCE), (Due(day(5), caught_up=True),), 3),
        (CatchUp(Missed.ALL, at_most=3), tuple(Due(day(n), caught_up=True) for n in (3, 4, 5)), 1),
        (CatchUp(Missed.ALL, at_most=9), tuple(Due(day(n), caught_up=True) for n in (2, 3, 4, 5)), 0),
    ],
)
def test_an_outage_of_four_mornings_is_made_good_by_policy(
    catch_up: CatchUp, expected: tuple[Due, ...], skipped: int
) -> None:
    assert Plan(expected, skipped, day(6)) == stock(catch_up, day(1), day(5, 12))


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp(Missed.SKIP), (Due(day(3)),)),
        (CatchUp(Missed.ONCE), (Due(day(3)),)),
        (CatchUp(Missed.ALL), (Due(day(2), caught_up=True), Due(day(3)))),
    ],
)
def test_an_outage_that_ends_on_time_for_the_next_run_needs_no_extra_one(
    catch_up: CatchUp, expected: tuple[Due, ...]
) -> None:
    assert expected == stock(catch_up, day(1), day(3)).run


def test_a_years_outage_of_a_task_that_runs_each_second_is_taken_stock_of_quickly() -> None:
    task = replace(MORNING, cron="* * * * * *", catch_up=CatchUp(Missed.ALL, at_most=2, grace_seconds=0))
    began = perf_counter()
    plan = take_stock(PlanRequest(task, day(1) - timedelta(days=365), day(1)))
    assert perf_counter() - began < 5
    assert (day(1) - timedelta(seconds=2), day(1) - timedelta(seconds=1), day(1)) == tuple(due.at for due in plan.run)


def test_a_yearly_task_is_made_good_after_a_long_outage() -> None:
    task = replace(MORNING, cron="0 12 1 1 *")
    plan = take_stock(PlanRequest(task, datetime(2024, 6, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)))
    assert Plan((Due(day(1, 11), caught_up=True),), 1, datetime(2027, 1, 1, 11, tzinfo=UTC)) == plan
