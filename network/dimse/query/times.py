"""Dates, times and moments as questions write them, ranges too (PS3.4 C.2.2.2.5, PS3.5 6.2)."""

import calendar
import datetime as dt
import re
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from network.dimse.query.matching import Match, NoMatch, RangeMatch

_T = TypeVar("_T", bound=dt.date | dt.time)
Span: TypeAlias = tuple[_T, _T]

_DATE: Final = re.compile(r"(\d{4})(\.?)(\d{2})\2(\d{2})", re.ASCII)
_TIME: Final = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?", re.ASCII)
_MOMENT: Final = re.compile(r"(\d{4})(\d{2})?(\d{2})?([\d.]*)([+-]\d{4})?", re.ASCII)
_MOMENT_RANGE: Final = re.compile(r"([\d.]*(?:[+-]\d{4})?)-([\d.]*(?:[+-]\d{4})?)", re.ASCII)
_ZONED: Final = re.compile(r"[\d.]+[+-](\d{4})", re.ASCII)
_MAX_OFFSET: Final = 1400  # hours and minutes: what is more after a "-" is a year


def date_match(text: str) -> Match:
    """A date, or a range of dates with "-"; what is neither matches nothing."""
    return _range(text, _date, *text.partition("-")[::2])


def time_match(text: str) -> Match:
    """The same of times; one without seconds is all of its minute, one without minutes all of its hour."""
    return _range(text, _time, *text.partition("-")[::2])


def moment_match(text: str) -> Match:
    """The same of date-times; one with an offset from UTC is the moment that it says (PS3.4 C.2.2.2.5.3)."""
    zone = _ZONED.fullmatch(text)
    if zone is not None and int(zone[1]) <= _MAX_OFFSET:
        return _range(text, _moment, text, "")
    found = _MOMENT_RANGE.fullmatch(text)
    return _range(text, _moment, *(found.groups() if found else (text, "")))


def _range(text: str, read: Callable[[str], Span[_T] | None], first: str, last: str) -> Match:
    is_range = "-" in text and (text != first)
    low, high = read(first.strip()), read(last.strip())
    if not is_range:
        return NoMatch() if low is None else RangeMatch(low[0], low[1], is_single=True)
    wrong = (first.strip() and low is None) or (last.strip() and high is None) or (low is None and high is None)
    if wrong:
        return NoMatch()
    return RangeMatch(low[0] if low else None, high[1] if high else None)


def _date(text: str) -> Span[dt.date] | None:
    match = _DATE.fullmatch(text)
    try:
        day = dt.date(int(match[1]), int(match[3]), int(match[4])) if match else None
    except ValueError:
        return None
    return (day, day) if day else None


def _time(text: str) -> Span[dt.time] | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hour, minute, second, fraction = match.groups()
    if second == "60":
        second = "59"
    try:
        low = dt.time(int(hour), int(minute or 0), int(second or 0), int((fraction or "").ljust(6, "0")))
        high = dt.time(
            int(hour),
            int(minute) if minute is not None else 59,
            int(second) if second is not None else 59,
            int((fraction or "").ljust(6, "9")),
        )
    except ValueError:
        return None
    return low, high


def _moment(text: str) -> Span[dt.datetime] | None:
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    year, month, day, clock = match.group(1, 2, 3, 4)
    time = _time(clock) if clock else (dt.time.min, dt.time.max)
    if time is None:
        return None
    try:
        first = dt.date(int(year), int(month or 1), int(day or 1))
        final_month = int(month or 12)
        last = first.replace(
            month=final_month, day=int(day) if day else calendar.monthrange(first.year, final_month)[1]
        )
    except ValueError:
        return None
    zone = _zone(match[5])
    return dt.datetime.combine(first, time[0], zone), dt.datetime.combine(last, time[1], zone)


def _zone(offset: str | None) -> dt.tzinfo | None:
    """The zone of "+0130"; None without an offset, and for one that no place on earth has."""
    if not offset or int(offset[1:]) > _MAX_OFFSET:
        return None
    difference = dt.timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    return dt.timezone(-difference if offset[0] == "-" else difference)


def date_of(text: str) -> dt.date | None:
    """The date of a stored value."""
    found = _date(text.strip())
    return found[0] if found else None


def time_of(text: str) -> dt.time | None:
    """The time of a stored value, its beginning."""
    found = _time(text.strip())
    return found[0] if found else None


def moment_of(text: str) -> dt.datetime | None:
    """The moment of a stored value, its beginning, in the zone that it names."""
    found = _moment(text.strip())
    return found[0] if found else None
