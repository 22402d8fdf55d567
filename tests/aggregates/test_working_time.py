"""Working time is counted in the vendor's hours, whatever the zone, the weekend and the season."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prm_es.aggregates import policy
from prm_es.aggregates.working_time import (
    WEEKDAYS,
    Calendar,
    due_after_working,
    working_between,
    working_time,
)

OFFICE = Calendar(zone="America/Sao_Paulo", holidays=frozenset({date(2026, 12, 25)}))
ZONES = st.sampled_from(["UTC", "America/Sao_Paulo", "Europe/Berlin", "Asia/Kolkata", "Pacific/Apia"])
CALENDARS = st.builds(
    Calendar,
    zone=ZONES,
    days=st.sets(st.sampled_from(WEEKDAYS), min_size=1).map(tuple),
    opens=st.sampled_from([time(0), time(3), time(9, 30)]),
    closes=st.sampled_from([time(17), time(23, 30), time(0)]),
    holidays=st.frozensets(st.dates(date(2026, 3, 1), date(2026, 4, 30)), max_size=5),
)
MINUTES = st.integers(0, 260 * 24 * 60)
TIMES = MINUTES.map(lambda minutes: datetime(2026, 2, 20, tzinfo=UTC) + timedelta(minutes=minutes))
WORKING = st.timedeltas(timedelta(seconds=1), timedelta(days=5))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("start", "duration", "due"),
    [
        ("2026-03-10T12:00-03:00", timedelta(days=2), "2026-03-12T12:00-03:00"),
        ("2026-03-13T17:00-03:00", timedelta(days=1), "2026-03-16T17:00-03:00"),  # over a weekend
        ("2026-03-14T11:00-03:00", timedelta(hours=1), "2026-03-16T10:00-03:00"),  # begun on a Saturday
        ("2026-12-24T12:00-03:00", timedelta(days=1), "2026-12-28T12:00-03:00"),  # over a holiday
        ("2026-03-10T20:00-03:00", timedelta(seconds=5), "2026-03-11T09:00:05-03:00"),  # after hours
        ("2026-03-10T09:00-03:00", timedelta(days=1), "2026-03-10T18:00-03:00"),
    ],
)
def test_two_working_days_are_two_days_of_the_vendors_hours(start: str, duration: timedelta, due: str) -> None:
    assert due_after_working(OFFICE, at(start), working_time(OFFICE, duration)) == at(due)


def test_a_calendar_of_whole_days_is_clock_time_but_for_the_change_of_season() -> None:
    always = Calendar(zone="Europe/Berlin", days=WEEKDAYS, opens=time(0), closes=time(0))
    assert working_time(always, timedelta(days=2, seconds=3)) == timedelta(hours=48, seconds=3)
    start = at("2026-03-28T12:00+01:00")
    assert due_after_working(always, start, timedelta(hours=24)) == at("2026-03-29T13:00+02:00")


@given(CALENDARS, TIMES, WORKING)
def test_the_working_time_until_it_is_due_is_what_was_given(calendar: Calendar, start: datetime, left: Any) -> None:
    due = due_after_working(calendar, start, left)
    assert due > start
    assert working_between(calendar, start, due) == left


@given(CALENDARS, TIMES, WORKING, WORKING)
def test_stopping_and_going_on_later_loses_no_working_time(
    calendar: Calendar, start: datetime, total: timedelta, pause: timedelta
) -> None:
    due = due_after_working(calendar, start, total)
    stopped = start + pause
    left = working_between(calendar, stopped, due)
    assert working_between(calendar, start, min(stopped, due)) + left == total
    assert due_after_working(calendar, stopped, left) >= min(stopped, due)


@given(CALENDARS, TIMES, WORKING, WORKING)
def test_more_work_is_due_later(calendar: Calendar, start: datetime, one: timedelta, more: timedelta) -> None:
    assert due_after_working(calendar, start, one) < due_after_working(calendar, start, one + more)


def test_nothing_left_is_due_at_once() -> None:
    assert due_after_working(OFFICE, at("2026-03-14T11:00Z"), timedelta(0)) == at("2026-03-14T11:00Z")


@pytest.mark.parametrize(
    "wrong",
    [
        {"days": []},
        {"opens": "18:00", "closes": "09:00"},
        {"zone": "Mars/Olympus"},
        {"opens": "09:00Z"},
        {"lunch": "12:00"},
    ],
)
def test_a_calendar_that_never_works_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Calendar.model_validate(wrong)


def test_the_policy_file_spells_out_the_defaults_of_older_policies() -> None:
    shipped = policy.default()
    assert shipped.lead == policy.LeadNumbers()
    assert shipped.calendar == Calendar()
    assert shipped.working_calendar.zone == "UTC"


@pytest.mark.parametrize(
    "lead",
    [
        {"approve_within": "PT23H"},
        {"protection": "P0D"},
        {"protection": "P200Y"},
        {"minimum_amounts": {"XXQ": 1}},
        {"tier_factors": {"gold": -1}},
        {"match_scope": "galaxy"},
        {"extensions": -1},
        {"colour": "green"},
    ],
)
def test_numbers_that_make_no_sense_are_refused(lead: dict[str, Any]) -> None:
    document = {**policy.default().model_dump(mode="json"), "lead": lead}
    with pytest.raises(ValidationError):
        policy.Policy.model_validate(document)
