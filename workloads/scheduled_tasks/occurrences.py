"""When a cron expression fires, as instants, through every change of the clock.

croniter knows the calendar and nothing of zones: it is asked for local wall-clock times, which have no gaps and no
repeats. Each wall-clock time then becomes instants by two rules, so that no library's opinion on daylight saving leaks in:

- A time that the clock skips (spring forward) fires once, at the instant the clock jumps. A task at 02:30 runs that
  morning at what the wall calls 03:00; several skipped times of one task share that one firing.
- A time that the clock shows twice (fall back) fires at the first showing only, when the expression fixes the hour
  ("30 2 * * *": once a day). It fires at both when the hour is open ("*/15 * * * *": every quarter of an hour that passes).
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadDateError, croniter

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_HASHED_OR_RANDOM = re.compile(r"^[hr](?:$|[(/])", re.IGNORECASE)
_LONGEST_FOLD = timedelta(hours=3)  # no zone has put its clock back by more since 1900, whole days apart
_SECOND = timedelta(seconds=1)
_YEARS_WITHOUT_A_MATCH = 9  # 29 February can be eight years away
_ANY_MONDAY = datetime(2024, 1, 1)  # noqa: DTZ001 — wall-clock times have no zone here


class BadSchedule(ValueError):
    """A cron expression or a time zone that cannot be used; the message says what would be accepted."""


@lru_cache(maxsize=1024)
def parse_cron(cron: str) -> tuple[str, ...]:
    """Split `cron` into its five fields, or six with seconds first; an alias such as "@daily" becomes what it stands for."""
    fields = tuple(_ALIASES.get(cron.strip().lower(), cron).split())
    if len(fields) not in (5, 6):
        raise BadSchedule(
            f"cron {cron!r} has {len(fields)} fields; expected five (minute hour day month weekday), six with seconds first, "
            f"or one of {', '.join(_ALIASES)}"
        )
    for field in fields:
        if _HASHED_OR_RANDOM.match(field):
            raise BadSchedule(
                f"cron {cron!r}: {field!r} stands for a random value, and a schedule must fire when it says"
            )
    try:
        next(_wall_times(fields, _ANY_MONDAY))
    except CroniterBadDateError:
        raise BadSchedule(
            f"cron {cron!r} never fires: no such date comes within {_YEARS_WITHOUT_A_MATCH} years"
        ) from None
    except ValueError as error:
        raise BadSchedule(f"cron {cron!r} cannot be read: {error}") from None
    return fields


def find_zone(name: str) -> ZoneInfo:
    """Return the IANA time zone of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadSchedule(
            f"time zone {name!r} is not in the IANA database; expected a name such as 'Europe/Berlin'"
        ) from None


def next_occurrence(cron: str, time_zone: str, after: datetime) -> datetime:
    """Return the first instant later than `after` at which `cron` fires in `time_zone`, in UTC."""
    fields, zone, after = parse_cron(cron), find_zone(time_zone), after.astimezone(UTC)
    both = fields[-4].startswith("*")
    found: datetime | None = None
    for wall in _wall_times(fields, _wall_to_begin_at(after, zone)):
        instants = instants_of(wall, zone)
        # First showings never run backwards, so nothing later than this one can beat what is found.
        if found is not None and instants[0] >= found:
            return found
        for instant in instants if both else instants[:1]:
            if instant > after and (found is None or instant < found):
                found = instant
    raise BadSchedule(f"cron {cron!r} does not fire after {after.isoformat()}")


def occurrences(cron: str, time_zone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the instants in (`after`, `until`] at which `cron` fires, in order."""
    instant = next_occurrence(cron, time_zone, after)
    while instant <= until:
        yield instant
        instant = next_occurrence(cron, time_zone, instant)


def instants_of(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Return the instants, in UTC, at which a clock in `zone` shows `wall`: one, two where it repeats, and the jump where
    it is skipped."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return (first,)
    if first < second:
        return (first, second)
    return (_jump_between(second, first, zone),)


def _jump_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant in (`before`, `after`] at which the offset of `zone` changes, to the second."""
    old = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after


def _wall_to_begin_at(after: datetime, zone: ZoneInfo) -> datetime:
    """Return what the clock shows at `after`; near a change a fold's length less, for what it showed may come again."""
    wall = after.astimezone(zone).replace(tzinfo=None)
    near = {(after + step).astimezone(zone).utcoffset() for step in (-_LONGEST_FOLD, timedelta(0), _LONGEST_FOLD)}
    return wall if len(near) == 1 else wall - _LONGEST_FOLD


def _wall_times(fields: tuple[str, ...], after: datetime) -> Iterator[datetime]:
    calendar = croniter(
        " ".join(fields),
        after,
        ret_type=datetime,
        second_at_beginning=True,
        max_years_between_matches=_YEARS_WITHOUT_A_MATCH,
    )
    while True:
        yield calendar.get_next(datetime)
