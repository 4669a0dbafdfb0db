"""Data sets in little endian that are small or read only in part: every element, within bounds, nothing decoded.

Identifiers, and the beginning of a stored instance. PS3.5 7.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from network.dimse.query.errors import garbled

MAX_DEPTH: Final = 16
MAX_ELEMENTS: Final = 2_000
PIXEL_DATA: Final = 0x7FE00010
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_DELIMITER_GROUP: Final = 0xFFFE
_PLAIN: Final = struct.Struct("<HHL")
_WITH_VR: Final = struct.Struct("<HH2sH")
_LENGTH: Final = struct.Struct("<L")
_LONG_VRS: Final = frozenset(vr.value for vr in EXPLICIT_VR_LENGTH_32)
_SHORT_VRS: Final = frozenset(vr.value for vr in EXPLICIT_VR_LENGTH_16)
NUMBERS: Final[Mapping[str, tuple[str, str]]] = {
    "US": ("<H", "<h"),
    "SS": ("<h", "<h"),
    "UL": ("<L", "<l"),
    "SL": ("<l", "<l"),
    "UV": ("<Q", "<q"),
    "SV": ("<q", "<q"),
    "FL": ("<f", "<f"),
    "FD": ("<d", "<d"),
    "AT": ("<L", "<L"),
}
"""How `struct` reads a binary number of each VR, and how it writes a negative one. A tag is one number here."""
OPAQUE_VRS: Final = frozenset(["OB", "OD", "OF", "OL", "OV", "OW"])
"""Bytes that no key matches and no answer tells."""


@dataclass(frozen=True, slots=True)
class Element:
    """A value as its bytes are, or the items of a sequence."""

    vr: str
    value: bytes = b""
    items: "tuple[Elements, ...]" = ()


Elements: TypeAlias = Mapping[int, Element]


def numbers_read(vr: str, value: bytes) -> list[int | float] | None:
    """The binary numbers of a value; None when they are cut short."""
    form = NUMBERS[vr][0]
    return None if len(value) % struct.calcsize(form) else [one for (one,) in struct.iter_unpack(form, value)]


@lru_cache(maxsize=4096)
def vr_of(tag: int) -> str:
    """The VR that PS3.6 gives this tag, the first of several; "UN" when there is none."""
    try:
        return str(dictionary_VR(tag))[:2]
    except KeyError:
        return "UN"


def elements_read(
    data: bytes, *, explicit: bool, beginning: bool = False, max_elements: int = MAX_ELEMENTS
) -> dict[int, Element]:
    """The elements by tag (0xGGGGEEEE) in the order in which they come, the first of those that are repeated.

    Private elements and group lengths are walked and left out. `beginning`: the data is only the first part of a data
    set; what is not whole, and Pixel Data and all behind it, is left out. Raises QueryError (`identifier-garbled`) for
    whatever is not so, more than `max_elements` in all or sequences more than 16 deep: never anything else.
    """
    reader = _Reader(data, beginning=beginning, max_elements=max_elements)
    found, _end = reader.elements(0, len(data), 0, explicit=explicit, delimited=False)
    return found


class _Reader:
    """The walk; its depth is bounded, so it may call itself."""

    def __init__(self, data: bytes, *, beginning: bool, max_elements: int) -> None:
        self._data = data
        self._beginning = beginning
        self._left = max_elements

    def elements(
        self, at: int, end: int, depth: int, *, explicit: bool, delimited: bool
    ) -> tuple[dict[int, Element], int]:
        found: dict[int, Element] = {}
        lenient = self._beginning and not depth
        while at < end:
            if lenient and end - at < _PLAIN.size + _LENGTH.size:
                return found, end
            tag, vr, length, at = self._head(at, end, explicit=explicit)
            if tag == _ITEM_END and delimited:
                return found, at
            if lenient and (tag >= PIXEL_DATA or (length != _UNDEFINED and at + length > end)):
                return found, end
            self._count(tag)
            element, at = self._element(vr, length, at, end, depth, explicit=explicit)
            if not tag >> 16 & 1 and tag & 0xFFFF:
                found.setdefault(tag, element)
        if delimited:
            raise garbled("an item has no end")
        return found, at

    def _head(self, at: int, end: int, *, explicit: bool) -> tuple[int, str, int, int]:
        """Tag, VR, length, and where the value begins."""
        if end - at < _PLAIN.size:
            raise garbled("cut short")
        if not explicit:
            group, element, length = _PLAIN.unpack_from(self._data, at)
            tag = group << 16 | element
            return tag, vr_of(tag), length, at + _PLAIN.size
        group, element, raw, short = _WITH_VR.unpack_from(self._data, at)
        tag, vr = group << 16 | element, raw.decode("latin-1")
        if group == _DELIMITER_GROUP:
            return tag, "", _LENGTH.unpack_from(self._data, at + 4)[0], at + _PLAIN.size
        if vr in _SHORT_VRS:
            return tag, vr, short, at + _PLAIN.size
        if vr not in _LONG_VRS or end - at < _PLAIN.size + _LENGTH.size:
            raise garbled("no VR")
        return tag, vr, _LENGTH.unpack_from(self._data, at + _PLAIN.size)[0], at + _PLAIN.size + _LENGTH.size

    def _element(self, vr: str, length: int, at: int, end: int, depth: int, *, explicit: bool) -> tuple[Element, int]:
        if length == _UNDEFINED:
            if vr not in ("SQ", "UN"):
                raise garbled("undefined length")
            items, at = self._items(at, end, depth + 1, explicit=explicit and vr == "SQ", delimited=True)
            return Element("SQ", items=items), at
        if at + length > end:
            raise garbled("cut short")
        if vr == "SQ":
            items, _at = self._items(at, at + length, depth + 1, explicit=explicit, delimited=False)
            return Element(vr, items=items), at + length
        return Element(vr, self._data[at : at + length]), at + length

    def _items(
        self, at: int, end: int, depth: int, *, explicit: bool, delimited: bool
    ) -> tuple[tuple[Elements, ...], int]:
        if depth > MAX_DEPTH:
            raise garbled(f"sequences over {MAX_DEPTH} deep")
        items: list[Elements] = []
        while at < end:
            if end - at < _PLAIN.size:
                raise garbled("cut short")
            group, element, length = _PLAIN.unpack_from(self._data, at)
            tag = group << 16 | element
            at += _PLAIN.size
            if tag == _SEQUENCE_END and delimited:
                return tuple(items), at
            if tag != _ITEM or (length != _UNDEFINED and at + length > end):
                raise garbled("no item")
            self._left -= 1
            if length == _UNDEFINED:
                found, at = self.elements(at, end, depth, explicit=explicit, delimited=True)
            else:
                found, _at = self.elements(at, at + length, depth, explicit=explicit, delimited=False)
                at += length
            items.append(found)
        if delimited:
            raise garbled("a sequence has no end")
        return tuple(items), at

    def _count(self, tag: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise garbled("too many elements")
        if tag >> 16 == _DELIMITER_GROUP:
            raise garbled("a delimiter of nothing")
