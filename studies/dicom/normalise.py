"""Whether two files hold the same content in different encodings, told by a hash that no encoding changes.

What an encoding may change without changing the content (PS3.5 7, A): the form of VRs, the byte order, deflation, how
the ends of sequences and items are marked, group lengths, trailing padding of texts, the offset table of fragments.
Pixels are never decoded: native ones are the same in any byte order, compressed ones only in the same compression.
Where it cannot be told (private elements written once with and once without their VR) the hashes differ: two contents
taken for one would lose one of them, one taken for two only travels again.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO, Final, TypeAlias

from pydicom.datadict import dictionary_VR

from studies.dicom import tags
from studies.dicom.errors import DatasetError
from studies.dicom.inflate import BoundedInflater
from studies.dicom.part10 import file_meta_read
from studies.dicom.syntax import IMPLICIT_LITTLE_CODING, UNDEFINED, ElementCoding, element_coding, transfer_syntax

MAX_INFLATED_BYTES: Final = 64 * 1024**2
MAX_INFLATED_RATIO: Final = 200
MAX_ELEMENTS: Final = 200_000
MAX_DEPTH: Final = 64
_TEXT_BYTES: Final = 64 * 1024  # longer values are hashed as they are
_PIECE_BYTES: Final = 1 << 20  # a multiple of every width below
_WINDOW_BYTES: Final = 1 << 16
_HEADER_BYTES: Final = 12
_TEXT_VRS: Final = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_WIDTHS: Final = {
    **dict.fromkeys(b"US SS OW AT".split(), 2),
    **dict.fromkeys(b"UL SL FL OF OL".split(), 4),
    **dict.fromkeys(b"FD OD OV SV UV".split(), 8),
}
_PIXELS: Final = range(0x7FE00008, 0x7FE00011)
_PATIENT: Final = frozenset({tags.PATIENT_ID, tags.ISSUER_OF_PATIENT_ID})
_TRAILING_PADDING: Final = 0xFFFCFFFC

_Read: TypeAlias = Callable[[int, int], bytes]
"""Bytes of the dataset: at an offset, at most so many."""


@dataclass(frozen=True)
class Content:
    """Hashes in hex: of everything, of the pixels, and of what says whose they are (Patient ID and its issuer)."""

    sha256: str
    pixel_sha256: str
    patient_sha256: str


def content_read(stream: BinaryIO) -> Content:
    """The content of a Part 10 file, in memory that does not grow with it (a deflated one: at most 64 MiB).

    Raises DatasetError for what cannot be walked or goes beyond the bounds, OSError for the disk's faults.
    """
    meta = file_meta_read(stream)
    syntax = transfer_syntax(meta.transfer_syntax_uid)
    descriptor, offset = stream.fileno(), meta.dataset_offset
    size = os.fstat(descriptor).st_size - offset
    read: _Read = lambda at, count: os.pread(descriptor, count, offset + at)  # noqa: E731
    if syntax.deflated:
        inflated = _inflated(read, size)
        read, size = lambda at, count: inflated[at : at + count], len(inflated)
    walk = _Walk(read, size, meta.transfer_syntax_uid)
    walk.elements(0, size, element_coding(syntax), depth=0, delimited=False)
    return walk.content()


def _inflated(read: _Read, size: int) -> bytes:
    inflater = BoundedInflater(
        max_bytes=MAX_INFLATED_BYTES, max_ratio=MAX_INFLATED_RATIO, free_bytes=MAX_INFLATED_BYTES // 2
    )
    out = bytearray()
    for at in range(0, size, _PIECE_BYTES):
        for piece in inflater.pieces(read(at, _PIECE_BYTES)):
            out += piece
    inflater.finish()
    return bytes(out)


@lru_cache(maxsize=4096)
def _dictionary_vr(tag: int) -> bytes:
    if tag >> 16 & 1:
        return b""
    try:
        vr: str = dictionary_VR(tag)
    except KeyError:
        return b""
    return vr.encode()


class _Walk:
    """One walk over a dataset that feeds the digests; every rule that makes encodings equal is in here."""

    def __init__(self, read: _Read, size: int, transfer_syntax_uid: str) -> None:
        self._read = read
        self._size = size
        self._syntax_uid = transfer_syntax_uid
        self._window = b""
        self._window_at = 0
        self._elements_left = MAX_ELEMENTS
        self._all, self._pixels, self._patient = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._digests: tuple[Any, ...] = (self._all,)

    def content(self) -> Content:
        return Content(self._all.hexdigest(), self._pixels.hexdigest(), self._patient.hexdigest())

    def elements(self, at: int, end: int, coding: ElementCoding, *, depth: int, delimited: bool) -> int:
        """Walks the elements from `at` to `end`, or to an item's delimiter; answers the offset behind them."""
        while at < end:
            tag, vr, length, size = self._header(at, end, coding)
            at += size
            if delimited and tag == tags.ITEM_DELIMITER:
                return at
            if depth == 0:
                self._digests = self._digests_of(tag)
            at = self._element(tag, vr, length, at, end, coding, depth)
        if delimited or at != end:
            raise DatasetError("dataset-truncated")
        return at

    def _digests_of(self, tag: int) -> tuple[Any, ...]:
        if tag in _PIXELS:
            return self._all, self._pixels
        return (self._all, self._patient) if tag in _PATIENT else (self._all,)

    def _feed(self, data: bytes) -> None:
        for digest in self._digests:
            digest.update(data)

    def _mark(self, kind: bytes, number: int = 0) -> None:
        self._feed(kind + number.to_bytes(8, "big"))

    def _header(self, at: int, end: int, coding: ElementCoding) -> tuple[int, bytes, int, int]:
        start = at - self._window_at
        if start < 0 or start + _HEADER_BYTES > len(self._window):
            self._window, self._window_at, start = self._read(at, _WINDOW_BYTES), at, 0
        header = coding.header(self._window, start, min(len(self._window), end - self._window_at))
        self._elements_left -= 1
        if header is None:
            raise DatasetError("dataset-truncated")
        if self._elements_left < 0:
            raise DatasetError("dataset-too-many-elements")
        return header

    def _element(self, tag: int, vr: bytes, length: int, at: int, end: int, coding: ElementCoding, depth: int) -> int:
        if tag & 0xFFFF == 0 or tag == _TRAILING_PADDING:
            return self._checked(at, length, end)
        if length == UNDEFINED and (tag == tags.PIXEL_DATA or vr in (b"OB", b"OW")):
            return self._fragments(tag, at, end, coding)
        if length == UNDEFINED or vr == b"SQ" or (not vr and _dictionary_vr(tag) == b"SQ"):
            inner = IMPLICIT_LITTLE_CODING if vr == b"UN" else coding
            return self._sequence(tag, length, at, end, inner, depth)
        self._value(tag, vr, at, length, coding.big_endian, self._checked(at, length, end))
        return at + length

    def _checked(self, at: int, length: int, end: int) -> int:
        if length == UNDEFINED or at + length > end:
            raise DatasetError("dataset-truncated")
        return at + length

    def _value(self, tag: int, vr: bytes, at: int, length: int, big_endian: bool, end: int) -> None:
        if _dictionary_vr(tag) in _TEXT_VRS and length <= _TEXT_BYTES:
            text = self._read(at, length).rstrip(b"\0 ")
            self._mark(b"V" + tag.to_bytes(4, "big"), len(text))
            self._feed(text)
            return
        self._mark(b"V" + tag.to_bytes(4, "big"), length)
        width = _WIDTHS.get(vr, 1) if big_endian else 1
        while at < end:
            piece = self._read(at, min(_PIECE_BYTES, end - at))
            if not piece:
                raise DatasetError("dataset-truncated")
            at += len(piece)
            self._feed(piece if width == 1 else _swapped(piece, width))

    def _sequence(self, tag: int, length: int, at: int, end: int, coding: ElementCoding, depth: int) -> int:
        if depth >= MAX_DEPTH:
            raise DatasetError("dataset-too-deep")
        stop = end if length == UNDEFINED else self._checked(at, length, end)
        self._mark(b"S" + tag.to_bytes(4, "big"))
        while at < stop:
            inner, _vr, size, header = self._header(at, stop, coding)
            at += header
            if inner == tags.SEQUENCE_DELIMITER and length == UNDEFINED:
                self._mark(b"s")
                return at
            if inner != tags.ITEM:
                raise DatasetError("dataset-malformed", "no item where there must be one")
            self._mark(b"I")
            item_end = stop if size == UNDEFINED else self._checked(at, size, stop)
            at = self.elements(at, item_end, coding, depth=depth + 1, delimited=size == UNDEFINED)
            self._mark(b"i")
        if length == UNDEFINED:
            raise DatasetError("dataset-truncated")
        self._mark(b"s")
        return at

    def _fragments(self, tag: int, at: int, end: int, coding: ElementCoding) -> int:
        """The fragments as they are, without the offset table, under the compression's name."""
        self._mark(b"P" + tag.to_bytes(4, "big"), len(self._syntax_uid))
        self._feed(self._syntax_uid.encode())
        table = True
        while at < end:
            inner, _vr, length, header = self._header(at, end, coding)
            at += header
            if inner == tags.SEQUENCE_DELIMITER:
                return at
            if inner != tags.ITEM:
                raise DatasetError("dataset-malformed", "no fragment where there must be one")
            stop = self._checked(at, length, end)
            if not table:
                self._value(inner, b"OB", at, length, False, stop)
            at, table = stop, False
        raise DatasetError("dataset-truncated")


def _swapped(piece: bytes, width: int) -> bytes:
    """Every group of `width` bytes reversed; what is left over at the end stays."""
    whole = len(piece) - len(piece) % width
    out = bytearray(piece)
    for byte in range(width):
        out[byte:whole:width] = piece[width - 1 - byte : whole : width]
    return bytes(out)
