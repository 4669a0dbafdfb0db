"""Time windows: what the text means, over midnight and over the days on which clocks are changed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway_project.core.windows import window_closes, window_opens, windows_parse

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("windows", "moment", "opens", "closes"),
    [
        ("", "2026-05-04 12:00", None, None),
        ("22:00-06:00", "2026-05-04 12:00", "2026-05-04 20:00", None),
        ("22:00-06:00", "2026-05-04 22:00", None, "2026-05-05 04:00"),
        ("22:00-06:00", "2026-05-04 05:59", None, "2026-05-04 04:00"),
        ("22:00-06:00", "2026-05-04 06:00", "2026-05-04 20:00", None),
        ("12:30-13:30, 22:00-06:00", "2026-05-04 10:00", "2026-05-04 10:30", None),
        ("08:00-24:00", "2026-05-04 23:59", None, "2026-05-04 22:00"),
        ("08:00-09:00", "2026-05-04 10:00", "2026-05-05 06:00", None),
        ("08:00-10:00,09:00-12:00", "2026-05-04 09:30", None, "2026-05-04 10:00"),
        # clocks go from 02:00 to 03:00: an hour less
        ("22:00-06:00", "2026-03-28 23:00", None, "2026-03-29 04:00"),
        ("02:30-05:00", "2026-03-29 01:00", "2026-03-29 01:30", None),
        # clocks go from 03:00 back to 02:00: an hour more
        ("22:00-06:00", "2026-10-25 01:00", None, "2026-10-25 05:00"),
    ],
)
def test_when_it_opens_and_closes(windows: str, moment: str, opens: str | None, closes: str | None) -> None:
    parsed = windows_parse(windows)
    assert window_opens(parsed, at(moment)) == (utc(opens) if opens else None)
    assert window_closes(parsed, at(moment)) == (utc(closes) if closes else None)


@pytest.mark.parametrize(
    "text", ["22-6", "22:00", "24:00-06:00", "08:00-08:00", "25:00-26:00", "8:00-9:00", "08:00-09:60", "at night"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"22:00-06:00"):
        windows_parse(text)
