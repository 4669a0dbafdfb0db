"""Sizes, times and names as people say them; no database, no templates."""

import unicodedata
from datetime import datetime

from django.utils.timezone import localtime

BYTE_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
NO_BREAK = "\u00a0"
MINUTE, HOUR, DAY = 60, 3600, 86_400


def size_words(size_bytes: int | float | None) -> str:
    """`206 MB`: decimal units, three significant digits at most; the space in it does not break."""
    if size_bytes is None:
        return ""
    value, unit = float(size_bytes), 0
    while value >= 999.5 and unit < len(BYTE_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    if unit == 0:
        return f"{int(value)}{NO_BREAK}{'byte' if int(value) == 1 else 'bytes'}"
    return f"{value:.{0 if value >= 99.5 else 1}f}{NO_BREAK}{BYTE_UNITS[unit]}"


def duration_words(seconds: float) -> str:
    """`3 min 12 s`: the two largest units; nothing below a second."""
    seconds = max(int(seconds), 0)
    for unit, name, next_unit, next_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", 1, "s"),
    ):
        if seconds >= unit:
            rest = seconds % unit // next_unit
            return f"{seconds // unit} {name} {rest} {next_name}" if rest else f"{seconds // unit} {name}"
    return f"{seconds} s"


def within_words(seconds: float) -> str:
    """The same after "within" or "no more than": `1 s` for what was quicker than a second."""
    return duration_words(max(seconds, 1.0))


def clock_words(moment: datetime) -> str:
    """`22:00` by the clock on the wall here."""
    return f"{localtime(moment):%H:%M}"


def ago_words(moment: datetime, now: datetime) -> str:
    """`12 min ago`, `in 4 min`, `just now`: one unit, enough for a glance."""
    seconds = (now - moment).total_seconds()
    distance = abs(seconds)
    if distance < 5:
        return "just now"
    for unit, one, many in ((DAY, "day", "days"), (HOUR, "h", "h"), (MINUTE, "min", "min"), (1, "s", "s")):
        if distance >= unit:
            count = int(distance // unit)
            words = f"{count} {one if count == 1 else many}"
            return f"in {words}" if seconds < 0 else f"{words} ago"
    return "just now"


def count_words(count: int, one: str, many: str = "") -> str:
    """`1 study`, `1,204 studies`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def person_words(name: str) -> str:
    """`Family, Given Middle` of a DICOM person name; the first group that says anything (PS3.5 6.2.1)."""
    for group in name.split("="):
        family, given, middle = ([part.strip() for part in group.split("^")] + [""] * 3)[:3]
        rest = " ".join(part for part in (given, middle) if part)
        if family and rest:
            return f"{family}, {rest}"
        if family or rest:
            return family or rest
    return ""


def isolated(text: str) -> str:
    """For plain text: what is written from right to left stands between marks, so that it turns no neighbour round."""
    turns = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)
    return f"\u2068{text}\u2069" if turns else text


def uid_short(uid: str, *, head: int = 11, tail: int = 9) -> str:
    """A UID or fingerprint with its middle left out, when that saves anything."""
    return uid if len(uid) <= head + tail + 3 else f"{uid[:head]}…{uid[-tail:]}"


def actor_words(actor: str) -> str:
    """The person, device or program behind an audit actor; empty for our own processes."""
    kind, _colon, name = actor.partition(":")
    if kind == "token":
        return f"{name} (API token)"
    if kind == "command":
        return f"manage.py {name}"
    return name if kind in ("user", "ae") else ""
