"""Time windows of a day as text: `22:00-06:00, 12:30-13:30`. Pure: no Django.

Times are those of the machine's time zone, as an aware moment in that zone brings it along. A window may span midnight;
`24:00` is an end.
"""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-((?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)")
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Window:
    """Open from `begins` until `ends` of the same day, or of the next where that is not later."""

    begins: dt.time
    ends: dt.time


def windows_parse(text: str) -> tuple[Window, ...]:
    """The windows, none for an empty text. ValueError with the reason for anything else."""
    windows = []
    for each in filter(None, (part.strip() for part in text.split(","))):
        match = _WINDOW.fullmatch(each)
        if match is None or each.partition("-")[0] == match[3]:
            raise ValueError("must be times such as 22:00-06:00, several separated by commas")
        begins = dt.time(int(match[1]), int(match[2]))
        ends = dt.time(0) if match[3] == "24:00" else dt.time.fromisoformat(match[3])
        windows.append(Window(begins, ends))
    return tuple(windows)


def window_opens(windows: Sequence[Window], moment: dt.datetime) -> dt.datetime | None:
    """When the next window begins; None while one is open, or if there is none: always open. In UTC."""
    if not windows or window_closes(windows, moment) is not None:
        return None
    return min(begins for begins, _ends in _around(windows, moment) if begins > moment)


def window_closes(windows: Sequence[Window], moment: dt.datetime) -> dt.datetime | None:
    """When what is open now closes; None while nothing is, or if there is no window at all. In UTC."""
    ends = [end for begins, end in _around(windows, moment) if begins <= moment < end]
    return max(ends, default=None)


def _around(windows: Sequence[Window], moment: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Beginning and end of every window of yesterday, today and tomorrow, in UTC: so that comparing is exact when
    clocks are put forward or back.
    """
    for shift in (-_DAY, dt.timedelta(0), _DAY):
        day = moment.date() + shift
        for window in windows:
            last = day if window.ends > window.begins else day + _DAY
            begins = dt.datetime.combine(day, window.begins, moment.tzinfo)
            ends = dt.datetime.combine(last, window.ends, moment.tzinfo)
            yield begins.astimezone(dt.UTC), ends.astimezone(dt.UTC)
