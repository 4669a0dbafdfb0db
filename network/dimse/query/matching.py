"""What a key matches (PS3.4 C.2.2.2): each kind of matching as one small object that says yes or no to a value.

This is the whole truth about matching; a database may narrow the field, but these decide.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final, Protocol, TypeAlias

from gateway_project.core.folding import name_trim, text_fold

Scalar: TypeAlias = str | int | float | dt.date | dt.time | dt.datetime | None
Value: TypeAlias = "Scalar | tuple[Scalar, ...] | tuple[Mapping[int, Value], ...]"

WILDCARDS: Final = frozenset("*?")


@dataclass(frozen=True, slots=True)
class Folding:
    """What does not count when names and descriptions are compared; `fuzzy`: a name's words, in any order."""

    case: bool = True
    accents: bool = True
    fuzzy: bool = False


class Match(Protocol):
    """One kind of matching with its values."""

    def matches(self, value: Value) -> bool:
        """Whether the value, or one of several, is meant. None and "" are values too: empty ones."""


def glob_matches(pattern: str, text: str) -> bool:
    """`*` stands for any characters and `?` for one; in time proportional to the product of both lengths at worst."""
    at = on = 0
    star = resume = -1
    while at < len(text):
        if on < len(pattern) and pattern[on] == "*":
            star, resume = on, at
            on += 1
        elif on < len(pattern) and pattern[on] in ("?", text[at]):
            at, on = at + 1, on + 1
        elif star >= 0:
            resume += 1
            at, on = resume, star + 1
        else:
            return False
    return all(character == "*" for character in pattern[on:])


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern, or a literal where it has no wildcard, of which the commonest forms cost next to nothing."""

    pattern: str

    @property
    def is_literal(self) -> bool:
        return WILDCARDS.isdisjoint(self.pattern)

    @property
    def prefix(self) -> str:
        """What every match begins with."""
        for at, character in enumerate(self.pattern):
            if character in WILDCARDS:
                return self.pattern[:at]
        return self.pattern

    def matches(self, text: str) -> bool:
        pattern = self.pattern
        prefix = self.prefix
        if len(prefix) == len(pattern):
            return text == pattern
        if len(prefix) == len(pattern) - 1 and pattern[-1] == "*":
            return text.startswith(prefix)
        return glob_matches(pattern, text)


@dataclass(frozen=True, slots=True)
class TextMatch:
    """Single value, several values, wildcards (C.2.2.2.1, .4, .8). A `folding` is for descriptions: ids and codes are
    compared as they are written.
    """

    globs: tuple[Glob, ...]
    folding: Folding | None = None

    def matches(self, value: Value) -> bool:
        return any(self._one(text) for text in _texts(value))

    def _one(self, text: str) -> bool:
        if self.folding is not None:
            text = text_fold(text, case=self.folding.case, accents=self.folding.accents)
        return any(glob.matches(text) for glob in self.globs)


@dataclass(frozen=True, slots=True)
class NameMatch:
    """Person names: the whole, or its alphabetic group; what is not ASCII is looked for in the other groups too. A
    question of several groups matches group by group, of which an empty one matches any. Empty components at the ends
    do not count (C.2.2.2.1.1), nor does a last one that may be anything: "DOE^*" is "DOE" too. Fuzzy: every word of the
    question begins a word of the name.
    """

    globs: tuple[Glob, ...]
    folding: Folding
    words: tuple[tuple[str, ...], ...] = ()
    """With fuzzy matching the words of each pattern."""

    def matches(self, value: Value) -> bool:
        return any(self._one(text) for text in _texts(value))

    def _one(self, text: str) -> bool:
        name = text_fold(name_trim(text), case=self.folding.case, accents=self.folding.accents)
        if any(_is_name(glob, name) for glob in self.globs):
            return True
        if not self.folding.fuzzy:
            return False
        theirs = name_words(name)
        return any(all(any(word.startswith(ours) for word in theirs) for ours in words) for words in self.words)


def _is_name(glob: Glob, name: str) -> bool:
    if glob.matches(name):
        return True
    pattern, groups = glob.pattern, name.split("=")
    if "=" in pattern:
        pairs = zip_longest(pattern.split("="), groups, fillvalue="")
        return all(not wanted or _is_group(wanted, group) for wanted, group in pairs)
    return any(_is_group(pattern, group) for group in (groups[:1] if pattern.isascii() else groups))


def _is_group(pattern: str, group: str) -> bool:
    whole = name_tail_strip(pattern)
    return Glob(pattern).matches(group) or (whole != pattern and Glob(whole).matches(group))


def name_tail_strip(pattern: str) -> str:
    """The pattern of one group without last components that may be anything."""
    while pattern.endswith("^*"):
        pattern = pattern[:-2].rstrip("^")
    return pattern


def name_words(name: str) -> tuple[str, ...]:
    """The words of a person name, whichever component they are in."""
    return tuple("".join(" " if c in "^=,-*?" else c for c in name).split())


@dataclass(frozen=True, slots=True)
class UidMatch:
    """One UID, or a list of which each is one (C.2.2.2.1, .2)."""

    uids: tuple[str, ...]

    def matches(self, value: Value) -> bool:
        return any(text in self.uids for text in _texts(value))


@dataclass(frozen=True, slots=True)
class NumberMatch:
    """A number is a number, however it is written: "1", "+1" and "001"."""

    numbers: tuple[int | float, ...]

    def matches(self, value: Value) -> bool:
        return any(one in self.numbers for one in _several(value) if isinstance(one, int | float))


@dataclass(frozen=True, slots=True)
class RangeMatch:
    """From `low` to `high`, both included and either of them open (C.2.2.2.5); a single date or time is one from
    its own beginning to its own end (`is_single`). What is empty is in no range.

    Of date-times those with an offset from UTC are compared by it with all others, which are then read as moments in
    this machine's time zone.
    """

    low: dt.date | dt.time | dt.datetime | None
    high: dt.date | dt.time | dt.datetime | None
    is_single: bool = False

    def matches(self, value: Value) -> bool:
        return any(self._one(one) for one in _several(value))

    def _one(self, value: object) -> bool:
        if not isinstance(value, (dt.date, dt.time)):
            return False
        return (self.low is None or _reaches(value, self.low)) and (self.high is None or _reaches(self.high, value))

    def has_form_of(self, other: "RangeMatch") -> bool:
        """Whether both are single values, or ranges open on the same side or on none."""
        return (self.is_single, self.low is None, self.high is None) == (
            other.is_single,
            other.low is None,
            other.high is None,
        )


@dataclass(frozen=True, slots=True)
class EmptyMatch:
    """Two quotation marks: the attribute is empty, or not there (C.2.2.2.7)."""

    def matches(self, value: Value) -> bool:
        return value in (None, "", ())


@dataclass(frozen=True, slots=True)
class NoMatch:
    """A value that no value can be, such as a date that is none: matches nothing."""

    def matches(self, value: Value) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class SequenceMatch:
    """One item of the sequence matches every key (C.2.2.2.6)."""

    keys: Mapping[int, Match] = field(default_factory=dict)

    def matches(self, value: Value) -> bool:
        return any(self.item_matches(item) for item in _several(value))

    def item_matches(self, item: object) -> bool:
        """Whether this one item matches every key."""
        return isinstance(item, Mapping) and all(match.matches(item.get(tag)) for tag, match in self.keys.items())


def combined(date: RangeMatch, time: RangeMatch) -> RangeMatch:
    """A range of dates and one of times read as one of moments (C.2.2.2.5.4): from the first date at the first time to
    the last date at the last time.
    """
    low = high = None
    if isinstance(date.low, dt.date):
        low = dt.datetime.combine(date.low, time.low if isinstance(time.low, dt.time) else dt.time.min)
    if isinstance(date.high, dt.date):
        high = dt.datetime.combine(date.high, time.high if isinstance(time.high, dt.time) else dt.time.max)
    return RangeMatch(low, high)


def _reaches(one: object, other: object) -> bool:
    """Whether `one` is as late as `other`, or later."""
    if isinstance(one, dt.datetime) and isinstance(other, dt.datetime) and (one.tzinfo or other.tzinfo):
        return _utc(one) >= _utc(other)
    return one >= other  # type: ignore[operator,no-any-return]


def _utc(moment: dt.datetime) -> dt.datetime:
    """The moment in UTC; at the ends of the calendar, where there is none, as it is written."""
    try:
        return moment.astimezone(dt.UTC)
    except (OverflowError, ValueError, OSError):
        return moment.replace(tzinfo=dt.UTC)


def _several(value: Value) -> Iterable[object]:
    return value if isinstance(value, tuple) else (value,)


def _texts(value: Value) -> Iterable[str]:
    return (one for one in _several(value) if isinstance(one, str))
