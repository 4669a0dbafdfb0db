"""An identifier as a typed question: its level, and a key for each attribute, with what matches (PS3.4 C.4.1.1.3)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pydicom.datadict import keyword_for_tag

from gateway_project.core.folding import name_trim, text_fold
from network.dimse.query import times
from network.dimse.query.dataset import NUMBERS, Element, Elements, numbers_read, vr_of
from network.dimse.query.errors import garbled, mismatch
from network.dimse.query.matching import (
    EmptyMatch,
    Folding,
    Glob,
    Match,
    NameMatch,
    NoMatch,
    NumberMatch,
    SequenceMatch,
    TextMatch,
    UidMatch,
    name_words,
)
from network.dimse.query.text import SPECIFIC_CHARACTER_SET, codecs_of, text_decode

PATIENT_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_STUDY_ONLY_FIND: Final = "1.2.840.10008.5.1.4.1.2.3.1"
QUERY_RETRIEVE_LEVEL: Final = 0x00080052
RETRIEVE_AE_TITLE: Final = 0x00080054
PATIENT_ID: Final = 0x00100020
INSTANCE_AVAILABILITY: Final = 0x00080056
TIMEZONE_OFFSET_FROM_UTC: Final = 0x00080201
MAX_VALUES: Final = 5_000
"""Of one key: UIDs in a list, mostly."""


class Level(IntEnum):
    """The levels, from the top."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


MODELS: Final[Mapping[str, tuple[Level, ...]]] = {
    PATIENT_ROOT_FIND: (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
    STUDY_ROOT_FIND: (Level.STUDY, Level.SERIES, Level.IMAGE),
    PATIENT_STUDY_ONLY_FIND: (Level.PATIENT, Level.STUDY),
}
"""The levels of each information model (PS3.4 C.6)."""

UNIQUE_KEYS: Final[Mapping[Level, int]] = {
    Level.PATIENT: PATIENT_ID,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}
# Descriptions and names of places: where case is no difference. Of ids, codes and titles it is one.
_DESCRIPTIONS: Final = frozenset(["LT", "ST", "UT", "UC"]) | {"LO"}
_IDENTIFYING: Final = frozenset({PATIENT_ID, 0x00100021, 0x00181000})
_NOT_KEYS: Final = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE})
# Wanted in answers; a value says how to ask, or nothing (PS3.4 C.4.1.1.3.2 and C.2.2.2.4.1).
_NOT_MATCHED: Final = frozenset({INSTANCE_AVAILABILITY, TIMEZONE_OFFSET_FROM_UTC})


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute of an identifier: wanted in the answer, and matched when `match` is not None. `items`: those of
    the one item of a sequence.
    """

    tag: int
    vr: str
    keyword: str
    match: Match | None = None
    items: "tuple[Key, ...]" = ()


@dataclass(frozen=True)
class Question:
    """What is asked. `keys` in the order of their tags, without those that only say how to ask. `charset`: the terms
    that the question declares. `texts`: the matching values as written, by keyword, for the audit trail alone: PHI.
    """

    model: str
    level: Level
    keys: tuple[Key, ...]
    charset: tuple[str, ...]
    texts: Mapping[str, str]
    combined: bool = False

    def match_of(self, tag: int) -> Match | None:
        return next((key.match for key in self.keys if key.tag == tag), None)


def question_read(
    elements: Elements, *, model: str, folding: Folding, relational: bool, combined: bool = False
) -> Question:
    """The question in an identifier. `relational`: unique keys of higher levels need not be there (C.4.1.2.2.1).

    Raises QueryError (`identifier-mismatch`, `identifier-garbled`).
    """
    declared = _declared(elements)
    level = _level(elements, model)
    read = _KeyReader(codecs_of(declared), folding)
    wanted = {**_upper_keys(model, level), **elements}
    keys = tuple(read.key(tag, element) for tag, element in sorted(wanted.items()) if tag not in _NOT_KEYS)
    question = Question(model, level, keys, declared, read.texts, combined)
    if not relational:
        _hierarchy_check(question)
    return question


def _declared(elements: Elements) -> tuple[str, ...]:
    element = elements.get(SPECIFIC_CHARACTER_SET)
    if element is None or not element.value.strip(b" \0"):
        return ()
    return tuple(term.strip(" \0") for term in element.value.decode("ascii", "replace").split("\\"))


def _level(elements: Elements, model: str) -> Level:
    element = elements.get(QUERY_RETRIEVE_LEVEL)
    word = element.value.decode("ascii", "replace").strip(" \0") if element is not None else ""
    level = Level.__members__.get(word)
    if level is None or level not in MODELS[model]:
        raise mismatch("QueryRetrieveLevel is missing or not of this model")
    return level


def _upper_keys(model: str, level: Level) -> dict[int, Element]:
    """The unique keys of the levels above, which every answer says, asked for or not (C.4.1.3.1.1)."""
    return {UNIQUE_KEYS[one]: Element(vr_of(UNIQUE_KEYS[one])) for one in MODELS[model] if one < level}


def is_single(match: Match | None) -> bool:
    """Whether it is one value, without wildcards."""
    if isinstance(match, UidMatch):
        return len(match.uids) == 1
    return isinstance(match, TextMatch) and len(match.globs) == 1 and match.globs[0].is_literal


def _hierarchy_check(question: Question) -> None:
    """Each level above the one that is asked has its one unique key, with a single value (C.4.1.2.1)."""
    for level in MODELS[question.model]:
        if level < question.level and not is_single(question.match_of(UNIQUE_KEYS[level])):
            raise mismatch(f"the unique key of level {level.name} must have one value")


class _KeyReader:
    """Makes keys of elements, in one character set."""

    def __init__(self, codecs: tuple[str, ...], folding: Folding) -> None:
        self._codecs = codecs
        self._folding = folding
        self.texts: dict[str, str] = {}

    def key(self, tag: int, element: Element, *, inside: bool = False) -> Key:
        keyword = keyword_for_tag(tag) or f"{tag:08X}"
        vr = vr_of(tag)
        if vr == "UN":
            vr = element.vr
        if tag in _NOT_MATCHED:
            return Key(tag, vr, keyword)
        if vr == "SQ" or element.items:
            return self._sequence(tag, keyword, element)
        if vr in NUMBERS:
            return Key(tag, vr, keyword, _binary(vr, element.value))
        text = text_decode(element.value, vr, self._codecs)
        if "\0" in text and vr != "UI":  # each UID of several may be padded; no other text is
            raise garbled("a NUL within a text")
        match = self._match(tag, vr, text)
        if match is not None and not inside:
            self.texts[keyword] = text
        return Key(tag, vr, keyword, match)

    def _sequence(self, tag: int, keyword: str, element: Element) -> Key:
        """An item with keys, or none: then it is only wanted. PS3.4 C.2.2.2.6 allows one item."""
        if len(element.items) > 1:
            raise garbled("a sequence key has one item")
        items = element.items[0] if element.items else {}
        keys = tuple(self.key(inner, one, inside=True) for inner, one in sorted(items.items()))
        matched = {key.tag: key.match for key in keys if key.match is not None}
        return Key(tag, "SQ", keyword, SequenceMatch(matched) if matched else None, keys)

    def _match(self, tag: int, vr: str, text: str) -> Match | None:
        if not text:
            return None
        if text == '""':
            return EmptyMatch()
        make = _MATCHES.get(vr)
        if make is not None:
            return make(text)
        if vr not in _TEXT_VRS:
            raise garbled("no key can be of this VR")
        if not text.strip("*"):
            return None
        return self._text(tag, vr, text)

    def _text(self, tag: int, vr: str, text: str) -> Match:
        values = [text] if vr in ("LT", "ST", "UT") else [part.strip() for part in _values(text) if part.strip()]
        folding = self._folding
        if vr == "PN":
            patterns = [text_fold(name_trim(one), case=folding.case, accents=folding.accents) for one in values]
            words = tuple(found for one in patterns if (found := name_words(one))) if folding.fuzzy else ()
            return NameMatch(tuple(map(Glob, patterns)), folding, words)
        if vr not in _DESCRIPTIONS or tag in _IDENTIFYING:
            return TextMatch(tuple(map(Glob, values)))
        patterns = [text_fold(one, case=folding.case, accents=folding.accents) for one in values]
        return TextMatch(tuple(map(Glob, patterns)), folding)


def _values(text: str) -> list[str]:
    values = text.split("\\", MAX_VALUES)
    if len(values) > MAX_VALUES:
        raise garbled(f"over {MAX_VALUES} values")
    return values


def _uids(text: str) -> Match | None:
    if not text.strip("*"):
        return None
    uids = tuple(uid for part in _values(text) if (uid := part.strip(" \0")))
    if any("\0" in uid for uid in uids):
        raise garbled("a NUL within a UID")
    return UidMatch(uids)


def _numbers(text: str) -> Match | None:
    try:
        return NumberMatch(tuple(int(part) for part in _values(text)))
    except ValueError:
        return NoMatch() if text.strip("*") else None


def _binary(vr: str, value: bytes) -> Match | None:
    numbers = numbers_read(vr, value)
    if numbers is None:
        raise garbled("a number has odd bytes")
    return NumberMatch(tuple(numbers)) if numbers else None


_MATCHES: Final[Mapping[str, Callable[[str], Match | None]]] = {
    "UI": _uids,
    "IS": _numbers,
    "DA": times.date_match,
    "TM": times.time_match,
    "DT": times.moment_match,
}
_TEXT_VRS: Final = frozenset(["AE", "AS", "CS", "DS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"])
