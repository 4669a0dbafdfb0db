"""Answers in bytes: an identifier for each match, encoded once, in the order of its tags (PS3.4 C.4.1.1.3.2)."""

import datetime as dt
import struct
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

from network.dimse.query.dataset import NUMBERS, OPAQUE_VRS, Element, numbers_read, vr_of
from network.dimse.query.matching import Value
from network.dimse.query.question import (
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    TIMEZONE_OFFSET_FROM_UTC,
    Key,
    Question,
)
from network.dimse.query.text import SPECIFIC_CHARACTER_SET, answer_charset, codecs_of, text_decode, text_encode
from network.dimse.query.times import date_of, moment_of, time_of

_PLAIN: Final = struct.Struct("<HHL")
_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2sHL")
_LONG_VRS: Final = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
_NUL_PADDED: Final = frozenset(["UI", "OB", "UN"])
_ITEM: Final = (0xFFFE, 0xE000)
_SHORT_MAX: Final = 65_534
_UNIQUE_TEXT: Final = frozenset(["LT", "ST", "UT", "UR"])
_TYPED: Final[Mapping[str, Callable[[str], object]]] = {"DA": date_of, "TM": time_of, "DT": moment_of}

Values = Mapping[int, Value]


class AnswerEncoder:
    """Encodes the answers to one question in one transfer syntax: what it asked for, in explicit or implicit VR little
    endian. What a row lacks is there with zero length, but for the time zone, which is there with a value or not at
    all (PS3.4 C.4.1.1.3.2). `left_out`: keys that are not supported, which no answer has (C.2.2.1.3).
    """

    def __init__(
        self, question: Question, *, explicit: bool, retrieve_ae_title: str, left_out: Container[int] = ()
    ) -> None:
        self._explicit = explicit
        self._declared = question.charset
        constant = {
            QUERY_RETRIEVE_LEVEL: ("CS", question.level.name),
            RETRIEVE_AE_TITLE: ("AE", retrieve_ae_title),
        }
        fixed = [(tag, self._whole(tag, vr, text.encode("ascii", "replace"))) for tag, (vr, text) in constant.items()]
        keys: list[tuple[int, Key | bytes]] = [
            *fixed,
            *((key.tag, key) for key in question.keys if key.tag not in left_out),
        ]
        self._parts = [part for _tag, part in sorted(keys, key=lambda one: one[0])]
        self._heads: dict[tuple[int, str], bytes] = {}

    def encode(self, values: Values) -> bytes:
        """One identifier. A text beyond ASCII brings Specific Character Set with it."""
        charset = answer_charset(_texts(values.values()), self._declared)
        codecs = codecs_of(charset)
        parts = []
        if charset:
            parts.append(self._whole(SPECIFIC_CHARACTER_SET, "CS", "\\".join(charset).encode("ascii")))
        parts += [
            part if isinstance(part, bytes) else self._element(part, values.get(part.tag), codecs)
            for part in self._parts
            if isinstance(part, bytes) or part.tag != TIMEZONE_OFFSET_FROM_UTC or values.get(part.tag)
        ]
        return b"".join(parts)

    def _element(self, key: Key, value: Value, codecs: tuple[str, ...]) -> bytes:
        if key.vr == "SQ":
            return self._whole(key.tag, "SQ", self._items(key, value, codecs))
        return self._whole(key.tag, key.vr, value_encode(value, key.vr, codecs))

    def _items(self, key: Key, value: Value, codecs: tuple[str, ...]) -> bytes:
        """Each item with the keys that were asked for; with all that it has when none was (PS3.4 C.2.2.2.6)."""
        encoded = []
        for item in value if isinstance(value, tuple) else ():
            if isinstance(item, Mapping):
                wanted = key.items or [Key(tag, vr_of(tag), "") for tag in sorted(item)]
                body = b"".join(self._element(inner, item.get(inner.tag), codecs) for inner in wanted)
                encoded.append(_PLAIN.pack(*_ITEM, len(body)) + body)
        return b"".join(encoded)

    def _whole(self, tag: int, vr: str, value: bytes) -> bytes:
        size = len(value)
        if size & 1:
            value += b"\0" if vr in _NUL_PADDED else b" "
            size += 1
        if not self._explicit:
            return _PLAIN.pack(tag >> 16, tag & 0xFFFF, size) + value
        if vr in _LONG_VRS:
            return _LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, size) + value
        if size > _SHORT_MAX:
            value, size = b"", 0
        return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), size) + value


def value_encode(value: Value, vr: str, codecs: tuple[str, ...]) -> bytes:
    """The bytes of one value or of several; empty for None and for what this VR cannot be."""
    if value is None:
        return b""
    if isinstance(value, str):
        return text_encode(value, vr, codecs)
    if vr in NUMBERS:
        return b"".join(_number(one, vr) for one in (value if isinstance(value, tuple) else (value,)))
    if isinstance(value, tuple):
        return b"\\".join(value_encode(one, vr, codecs) for one in value if not isinstance(one, Mapping))
    return _plain_text(value).encode("ascii")


def _plain_text(value: float | dt.date | dt.time) -> str:
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dt.datetime):
        return f"{value.year:04}{value:%m%d%H%M%S}" + _fraction(value.microsecond)
    if isinstance(value, dt.date):
        return f"{value.year:04}{value.month:02}{value.day:02}"
    return f"{value.hour:02}{value.minute:02}{value.second:02}" + _fraction(value.microsecond)


def _fraction(microsecond: int) -> str:
    return f".{microsecond:06}".rstrip("0") if microsecond else ""


def _number(value: object, vr: str) -> bytes:
    unsigned, signed = NUMBERS[vr]
    try:
        return struct.pack(unsigned if isinstance(value, int) and value >= 0 else signed, value)
    except (struct.error, OverflowError):
        return b""


def value_of(element: Element, vr: str, codecs: tuple[str, ...], *, typed: bool = True) -> Value:
    """A stored element as a value: texts, dates, numbers, items of sequences; None for what no key can ask for.

    `typed`: as it is compared; else as it is told, in which dates, times and numbers in text stay as they are written.
    """
    if vr == "SQ" or element.items:
        return tuple(
            {tag: value_of(one, one.vr, codecs, typed=typed) for tag, one in item.items()} for item in element.items
        )
    if vr in OPAQUE_VRS:
        return None
    if vr in NUMBERS:
        return _one_or_several(numbers_read(vr, element.value) or [])
    text = text_decode(element.value, vr, codecs)
    if not text:
        return None
    if vr in _UNIQUE_TEXT:
        return text
    parts = [part.strip(" \0") for part in text.split("\\")]
    return _one_or_several([_typed(part, vr) for part in parts] if typed else parts)


def _typed(text: str, vr: str) -> object:
    """As it is compared; what is not what it should be stays text."""
    if vr == "IS":
        try:
            return int(text)
        except ValueError:
            return text
    make = _TYPED.get(vr)
    return text if make is None else make(text) or text


def _one_or_several(values: Sequence[object]) -> Value:
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)  # type: ignore[return-value]


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts(value.values())
        elif isinstance(value, tuple):
            yield from _texts(value)
