"""What a schedule owes at a moment: which occurrences to run now, and when it wakes next.

This runs in an activity and its answer is a fact in history. Computed in the orchestration it would depend on the time
zone database of whichever worker replays it, and a country that changes its clocks would change the past.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from .occurrences import next_occurrence, occurrences
from .task import CatchUp, Missed, ScheduledTask

COUNT_MISSED_UP_TO = 1_000


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """All occurrences up to `done_until` are dealt with."""

    task: ScheduledTask
    done_until: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """An occurrence to run now; `caught_up` when it was missed and is made good."""

    at: datetime
    caught_up: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`skipped` counts missed occurrences that are let go, exactly up to a thousand or so and not beyond."""

    run: tuple[Due, ...]
    skipped: int
    next_at: datetime


def take_stock(request: PlanRequest) -> Plan:
    """Decide what runs now and when the schedule wakes next."""
    task, now = request.task, request.now
    passed = _latest_occurrences(task, request.done_until, now)
    on_time_since = now - timedelta(seconds=task.catch_up.grace_seconds)
    on_time = [at for at in passed[-1:] if at >= on_time_since]
    missed = passed[: len(passed) - len(on_time)]
    made_good = _made_good(missed, task.catch_up, covered=bool(on_time))
    return Plan(
        run=(*(Due(at, caught_up=True) for at in made_good), *(Due(at) for at in on_time)),
        skipped=len(missed) - len(made_good),
        next_at=next_occurrence(task.cron, task.time_zone, now),
    )


def _made_good(missed: Sequence[datetime], catch_up: CatchUp, *, covered: bool) -> Sequence[datetime]:
    match catch_up.missed:
        case Missed.SKIP:
            return ()
        case Missed.ONCE:
            # A run that is on time stands for those before it as well.
            return () if covered else missed[-1:]
        case Missed.ALL:
            return missed[-catch_up.at_most :]


def _latest_occurrences(task: ScheduledTask, after: datetime, until: datetime) -> list[datetime]:
    """Return all occurrences in (`after`, `until`], or if they are very many the thousand or so latest.

    It looks back over ever longer stretches, so that a year's outage of a task that runs each second costs no more than
    an hour's.
    """
    stretch = timedelta(hours=1)
    while (start := until - stretch) > after:
        found = list(occurrences(task.cron, task.time_zone, start, until))
        if len(found) >= COUNT_MISSED_UP_TO:
            break
        stretch *= 8
    else:
        found = list(occurrences(task.cron, task.time_zone, after, until))
    assert all(earlier < later for earlier, later in pairwise(found))
    return found
