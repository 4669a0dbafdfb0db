"""What one search box understands: a name, an ID, an accession number, a date or a span of dates, a UID.

It says in words what it understood, so that nobody wonders why a study is not there.
"""

import re
import unicodedata
from calendar import monthrange
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Q

from gateway_project.core.folding import text_fold
from studies.models import Instance, Series

UID_LIKE = re.compile(r"[0-9]+(\.[0-9]+){3,}")
MOST_WORDS = 12
# Umlauts as they are spelled where there are none, and back.
_SPELLED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_TWO_LETTERS = (("ae", "a"), ("oe", "o"), ("ue", "u"))

_DAY = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{8}|\d{1,2}\.\d{1,2}\.\d{4}|\d{1,2}/\d{1,2}/\d{4}"
_MONTH = r"\d{4}-\d{1,2}|\d{1,2}[./]\d{4}|(?:19|20)\d{2}"
_SPAN = re.compile(
    rf"(?<!\S)(?P<from>{_DAY}|{_MONTH})\s*(?:\.\.+|\u2013|\u2014|\bto\b|\buntil\b|\bbis\b|\s-\s|-(?=\d{{8}}))\s*"
    rf"(?P<to>{_DAY}|{_MONTH})(?!\S)",
    re.IGNORECASE,
)
_SINGLE = re.compile(rf"(?<!\S)(?:{_DAY}|{_MONTH})(?!\S)")
_WORDS = re.compile(
    r"(?<!\S)(?:today|yesterday|(?P<which>this|last)\s+(?P<unit>week|month|year)"
    r"|last\s+(?P<count>\d{1,3})\s+(?P<units>days|weeks|months))(?!\S)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Span:
    """From the first day to the last, both included. `doubtful`: it may as well be an ID."""

    first: date
    last: date
    doubtful: bool = False

    @property
    def words(self) -> str:
        if self.first == self.last:
            return f"{self.first}"
        return f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Understood:
    """What to look for, and the same in words."""

    where: Q
    words: str


def search_read(text: str, *, today: date) -> Understood:
    """Never fails: what is nothing else is taken for words of a name, an ID or an accession number."""
    storable = text.replace("\0", " ").encode("utf-8", "ignore").decode()  # PostgreSQL has no place for the rest
    text = " ".join(storable.split())
    if UID_LIKE.fullmatch(text) and _span(text) is None:
        return Understood(_uid(text), "the UID of a study, of a series or of an object; or an ID")
    span, rest = _span_taken(text, today)
    if span is None:
        return _person(rest)
    dated = Q(study_date__gte=span.first, study_date__lte=span.last)
    words = f"study date {span.words}"
    if rest:
        person = _person(rest)
        return Understood(dated & person.where, f"{words}, and {person.words}")
    if span.first == span.last:
        dated |= Q(patient_birth_date=span.first)
        words = f"study date or date of birth {span.words}"
    if span.doubtful:
        dated |= _identifier(text)
        words += f"; or an ID or accession number “{text}”"
    return Understood(dated, words)


def _uid(text: str) -> Q:
    return (
        Q(study_instance_uid=text)
        | Q(pk__in=Series.objects.filter(series_instance_uid=text).values("study_id"))
        | Q(pk__in=Instance.objects.filter(sop_instance_uid=text).values("study_id"))
        | Q(patient_id=text)
        | Q(accession_number=text)
    )


def _person(text: str) -> Understood:
    parts = [part for part in re.split(r"[\s,;^=]+", text) if part][:MOST_WORDS]
    name = Q()
    for part in parts:
        either = Q()
        for spelling in spellings(part):
            either |= Q(patient_name_folded__contains=spelling)
        name &= either
    where = _identifier(text) | name if name else _identifier(text)
    listed = " and ".join(f"“{part}”" for part in parts)
    return Understood(where, f"a name with {listed}, or an ID or accession number “{text}”" if parts else f"“{text}”")


def spellings(word: str) -> list[str]:
    """How a word that was typed may stand in a folded name: "müller" also finds Mueller, "mueller" also Müller."""
    folded = text_fold(word)
    spelled = text_fold(unicodedata.normalize("NFC", word).lower().translate(_SPELLED))
    short = folded
    for two, one in _TWO_LETTERS:
        short = short.replace(two, one)
    return list(dict.fromkeys((folded, spelled, short)))


def _identifier(text: str) -> Q:
    """An ID or an accession number must be whole."""
    return Q(patient_id__iexact=text) | Q(accession_number__iexact=text) | Q(study_id=text) | Q(study_instance_uid=text)


def _span_taken(text: str, today: date) -> tuple[Span | None, str]:
    """The first date or span of dates in the text, and the text without it."""
    for pattern in (_SPAN, _WORDS, _SINGLE):
        found = pattern.search(text)
        span = _read(found, today) if found else None
        if found and span:
            return span, " ".join((text[: found.start()] + " " + text[found.end() :]).split())
    return None, text


def _read(found: re.Match[str], today: date) -> Span | None:
    if found.re is _SPAN:
        first, last = _span(found["from"]), _span(found["to"])
        return Span(min(first.first, last.first), max(first.last, last.last)) if first and last else None
    return _span(found[0]) if found.re is _SINGLE else _said(found, today)


def _span(text: str) -> Span | None:
    """A day, a month or a year as people and DICOM write them; the day first, where slashes leave it open."""
    for form in ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d"):
        with suppress(ValueError):
            day = datetime.strptime(text, form).date()
            return Span(day, day, doubtful=form == "%Y%m%d")
    for form in ("%Y-%m", "%m.%Y", "%m/%Y"):
        with suppress(ValueError):
            return _month(datetime.strptime(text, form).date())
    if re.fullmatch(r"(?:19|20)\d{2}", text):
        return Span(date(int(text), 1, 1), date(int(text), 12, 31), doubtful=True)
    return None


def _month(day: date) -> Span:
    return Span(day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1]))


def _said(found: re.Match[str], today: date) -> Span:
    said = found[0].lower()
    if said == "today":
        return Span(today, today)
    if said == "yesterday":
        return Span(today - timedelta(days=1), today - timedelta(days=1))
    if found["count"]:
        days = {"days": 1, "weeks": 7, "months": 30}[found["units"].lower()] * int(found["count"])
        return Span(today - timedelta(days=max(days - 1, 0)), today)
    return _named(found["unit"].lower(), today, last=found["which"].lower() == "last")


def _named(unit: str, today: date, *, last: bool) -> Span:
    if unit == "week":
        monday = today - timedelta(days=today.weekday() + (7 if last else 0))
        return Span(monday, monday + timedelta(days=6))
    if unit == "month":
        return _month(today.replace(day=1) - timedelta(days=1) if last else today)
    year = today.year - (1 if last else 0)
    return Span(date(year, 1, 1), date(year, 12, 31))
