"""Cron through the changes of the clock: what fires, when, and how often."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.scheduled_tasks.occurrences import BadSchedule, find_zone, next_occurrence, occurrences, parse_cron

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fired(cron: str, zone: str, after: str, until: str) -> list[str]:
    return [at.strftime("%d %H:%M") for at in occurrences(cron, zone, utc(after), utc(until))]


@pytest.mark.parametrize(
    ("zone", "before", "change", "utc_before", "utc_after"),
    [
        (BERLIN, "2026-03-28T00:00", "spring", "06:00", "05:00"),
        (BERLIN, "2026-10-24T00:00", "autumn", "05:00", "06:00"),
        (NEW_YORK, "2026-03-07T00:00", "spring", "12:00", "11:00"),
        (NEW_YORK, "2026-10-31T00:00", "autumn", "11:00", "12:00"),
    ],
)
def test_seven_in_the_morning_stays_seven_by_the_wall_when_the_clock_changes(
    zone: str, before: str, change: str, utc_before: str, utc_after: str
) -> None:
    first = next_occurrence("0 7 * * *", zone, utc(before))
    second = next_occurrence("0 7 * * *", zone, first)
    assert [utc_before, utc_after] == [first.strftime("%H:%M"), second.strftime("%H:%M")], change
    assert ["07:00", "07:00"] == [at.astimezone(ZoneInfo(zone)).strftime("%H:%M") for at in (first, second)]


@pytest.mark.parametrize(
    ("zone", "after", "until", "expected"),
    [
        (BERLIN, "2026-03-28T00:00", "2026-03-31T00:00", ["28 01:30", "29 01:00", "30 00:30"]),
        (NEW_YORK, "2026-03-07T00:00", "2026-03-10T00:00", ["07 07:30", "08 07:00", "09 06:30"]),
    ],
)
def test_a_time_that_the_clock_skips_fires_once_at_the_jump(
    zone: str, after: str, until: str, expected: list[str]
) -> None:
    assert expected == fired("30 2 * * *", zone, after, until)


@pytest.mark.parametrize(
    ("zone", "hour", "after", "until", "expected"),
    [
        (BERLIN, 2, "2026-10-24T00:00", "2026-10-27T00:00", ["24 00:30", "25 00:30", "26 01:30"]),
        (NEW_YORK, 1, "2026-10-31T00:00", "2026-11-03T00:00", ["31 05:30", "01 05:30", "02 06:30"]),
    ],
)
def test_a_fixed_hour_that_comes_twice_fires_at_its_first_showing_only(
    zone: str, hour: int, after: str, until: str, expected: list[str]
) -> None:
    assert expected == fired(f"30 {hour} * * *", zone, after, until)


@pytest.mark.parametrize(("zone", "start"), [(BERLIN, "2026-10-25T00:00"), (NEW_YORK, "2026-11-01T05:00")])
def test_every_quarter_of_an_hour_goes_on_through_the_repeated_hour(zone: str, start: str) -> None:
    instants = list(occurrences("*/15 * * * *", zone, utc(start), utc(start) + timedelta(hours=3)))
    assert [utc(start) + n * timedelta(minutes=15) for n in range(1, 13)] == instants


@pytest.mark.parametrize(("zone", "start"), [(BERLIN, "2026-03-29T00:00"), (NEW_YORK, "2026-03-08T06:00")])
def test_every_quarter_of_an_hour_neither_pauses_nor_doubles_over_the_skipped_hour(zone: str, start: str) -> None:
    instants = list(occurrences("*/15 * * * *", zone, utc(start), utc(start) + timedelta(hours=3)))
    assert [utc(start) + n * timedelta(minutes=15) for n in range(1, 13)] == instants


def test_several_skipped_times_share_one_firing() -> None:
    assert ["29 01:00", "30 00:00", "30 00:20", "30 00:40"] == fired(
        "0,20,40 2 * * *", BERLIN, "2026-03-29T00:00", "2026-03-30T12:00"
    )


def test_a_day_that_a_country_skipped_fires_once_when_the_next_began() -> None:
    # Samoa went from 29 to 31 December 2011 over the date line.
    assert ["29 17:00", "30 10:00", "30 17:00"] == fired(
        "0 7 * * *", "Pacific/Apia", "2011-12-29T00:00", "2011-12-31T00:00"
    )


def test_half_hour_changes_are_followed() -> None:
    # Lord Howe Island puts its clock back by half an hour, at 02:00 on 5 April 2026: 01:45 comes twice.
    assert ["03 14:45", "04 14:45", "05 15:15"] == fired(
        "45 1 * * *", "Australia/Lord_Howe", "2026-04-03T00:00", "2026-04-06T00:00"
    )


def test_seconds_may_come_first() -> None:
    assert ["00:20", "00:40", "01:00"] == [
        at.strftime("%M:%S") for at in occurrences("*/20 * * * * *", BERLIN, utc("2026-01-01"), utc("2026-01-01T00:01"))
    ]


def test_the_29th_of_february_is_waited_for() -> None:
    assert utc("2104-02-29T12:00") == next_occurrence("0 12 29 2 *", "UTC", utc("2096-03-01"))


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
def test_a_year_has_as_many_mornings_as_days(zone: str) -> None:
    mornings = list(occurrences("30 2 * * *", zone, utc("2026-01-01T12:00"), utc("2027-01-01T12:00")))
    assert 365 == len({at.astimezone(ZoneInfo(zone)).date() for at in mornings}) == len(mornings)


@given(
    cron=st.sampled_from(["30 2 * * *", "0 * * * *", "*/7 1-3 * * *", "59 23 * * sun", "0 0 1 * *", "15,45 */2 * * *"]),
    zone=st.sampled_from([BERLIN, NEW_YORK, "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca", "UTC"]),
    after=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    later=st.timedeltas(timedelta(0), timedelta(days=2)),
)
def test_the_next_occurrence_does_not_depend_on_when_one_asks(
    cron: str, zone: str, after: datetime, later: timedelta
) -> None:
    """Asked again at any moment before it, the answer is the same: nothing is passed over and nothing appears late."""
    found = next_occurrence(cron, zone, after)
    asked_later = min(after + later, found - timedelta(microseconds=1))
    assert found > after
    assert found == next_occurrence(cron, zone, asked_later)


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("", "has 0 fields; expected five"),
        ("7 * *", "has 3 fields; expected five"),
        ("61 * * * *", "cannot be read"),
        ("0 7 * * someday", "cannot be read"),
        ("0 0 30 2 *", "never fires"),
        ("R 7 * * *", "random value"),
        ("H/5 7 * * *", "random value"),
        ("@fortnightly", "has 1 fields"),
    ],
)
def test_a_bad_cron_is_refused_with_what_is_wrong(cron: str, why: str) -> None:
    with pytest.raises(BadSchedule, match=why):
        parse_cron(cron)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "CEST+"])
def test_a_bad_zone_is_refused_with_an_example(zone: str) -> None:
    with pytest.raises(BadSchedule, match="Europe/Berlin"):
        find_zone(zone)
