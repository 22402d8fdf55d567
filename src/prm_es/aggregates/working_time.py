"""Working time: the vendor's days and hours in its zone, without its holidays."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT: Final = time(0)


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("not a time zone of the IANA database")
    return name


Zone = Annotated[str, AfterValidator(_zone)]


class Calendar(BaseModel):
    """When the vendor works. `closes` at 00:00 is the end of the day; no zone given means the policy's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    zone: Zone | None = None
    days: Annotated[tuple[Weekday, ...], Field(min_length=1)] = WEEKDAYS[:5]
    opens: time = time(9)
    closes: time = time(18)
    holidays: frozenset[date] = frozenset()

    @model_validator(mode="after")
    def _hours(self) -> Self:
        if self.opens.tzinfo or self.closes.tzinfo:
            raise ValueError("opens and closes are times of the calendar's zone, without an offset")
        if self.length <= timedelta(0):
            raise ValueError("closes must lie after opens")
        return self

    @property
    def length(self) -> timedelta:
        """Give the working time of a working day."""
        start = datetime.combine(date.min, self.opens)
        end = datetime.combine(date.min + timedelta(days=self.closes == MIDNIGHT), self.closes)
        return end - start

    def works_on(self, day: date) -> bool:
        """Tell whether a date is a working day."""
        return WEEKDAYS[day.weekday()] in self.days and day not in self.holidays

    def hours(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Give the beginning and the end of a working day, in UTC."""
        last = day + timedelta(days=self.closes == MIDNIGHT)
        start, end = datetime.combine(day, self.opens, zone), datetime.combine(last, self.closes, zone)
        return start.astimezone(UTC), end.astimezone(UTC)


def working_time(calendar: Calendar, duration: timedelta) -> timedelta:
    """Give the working time that a duration means: each whole day in it is a working day, the rest counts as it is."""
    return duration.days * calendar.length + (duration - timedelta(days=duration.days))


def due_after_working(calendar: Calendar, start: datetime, working: timedelta) -> datetime:
    """Give the time at which that much working time has gone by since the start; the calendar must name its zone."""
    left = working
    if left <= timedelta(0):
        return start
    for opens, closes in _spans(calendar, start):
        if left <= closes - opens:
            return opens + left
        left -= closes - opens
    raise AssertionError("unreachable: a calendar has working days for ever")


def working_between(calendar: Calendar, start: datetime, end: datetime) -> timedelta:
    """Give the working time between two times, zero if the end is not after the start."""
    total = timedelta(0)
    for opens, closes in _spans(calendar, start):
        if opens >= end:
            break
        total += min(closes, end) - opens
    return total


def _spans(calendar: Calendar, start: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Give what is left of the day of the start, then each working day after it."""
    zone = ZoneInfo(calendar.zone or "UTC")
    day = start.astimezone(zone).date()
    while True:
        if calendar.works_on(day):
            opens, closes = calendar.hours(day, zone)
            if start < closes:
                yield max(start, opens), closes
        day += timedelta(days=1)
