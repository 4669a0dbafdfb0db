"""A stored data set in another encoding of the same content: VRs implicit or explicit, byte order, deflation.

Pixels are never coded anew, so only what is native has alternatives, and what is compressed is sent as it is or not at
all. The walk is that of a reader (PS3.5 7, 7.5, A): sequences and items come out with undefined length, so that nothing
has to be known before it has been read, and memory does not grow with the object.
"""

import io
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO, Final

from pydicom.datadict import dictionary_VR

from studies.dicom import tags
from studies.dicom.errors import DatasetError
from studies.dicom.inflate import BoundedInflater
from studies.dicom.syntax import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    IMPLICIT_LITTLE_CODING,
    UNDEFINED,
    ElementCoding,
    element_coding,
    transfer_syntax,
)

NATIVE: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG)
"""What can be made of what; the best first."""
MAX_INFLATED_BYTES: Final = 2 << 30
MAX_INFLATED_RATIO: Final = 1000
MAX_ELEMENTS: Final = 2_000_000
MAX_DEPTH: Final = 64
_PIECE_BYTES: Final = 1 << 20
_WINDOW_BYTES: Final = 1 << 16
_HEADER_BYTES: Final = 12
_SHORT_MAX: Final = 0xFFFF
_WIDTHS: Final = {
    **dict.fromkeys(b"US SS OW AT".split(), 2),
    **dict.fromkeys(b"UL SL FL OF OL".split(), 4),
    **dict.fromkeys(b"FD OD OV SV UV".split(), 8),
}
_SIGNED_BY_PIXELS: Final = {"US or SS": b"US", "US or OW": b"OW", "US or SS or OW": b"OW", "OB or OW": b"OW"}
_Read = Callable[[int, int], bytes]


def alternatives(transfer_syntax_uid: str) -> tuple[str, ...]:
    """What `recode` can make of an object in this transfer syntax, the best first; nothing of compressed pixels."""
    if transfer_syntax_uid not in NATIVE:
        return ()
    return tuple(uid for uid in NATIVE if uid != transfer_syntax_uid)


def recode(source: BinaryIO, size: int, *, from_uid: str, to_uid: str, out: BinaryIO) -> int:
    """Write the data set that begins where `source` stands, `size` bytes, in another native transfer syntax; how many
    bytes that are.

    Group lengths are left out, they would be wrong. Elements of implicit VR that no dictionary knows become UN. Raises
    DatasetError for what cannot be walked, or is beyond the bounds, or has 32-bit pixels in big endian, of which
    readers disagree; OSError.
    """
    if to_uid not in alternatives(from_uid):
        raise DatasetError("dataset-malformed", "this encoding cannot be made without coding pixels")
    with io.BytesIO() as inflated:
        plain = source
        if transfer_syntax(from_uid).deflated:
            size = _inflate(source, size, inflated)
            plain = inflated
        start = 0 if plain is inflated else source.tell()
        return _recode_plain(plain, start, size, from_uid, to_uid, out)


def _recode_plain(plain: BinaryIO, start: int, size: int, from_uid: str, to_uid: str, out: BinaryIO) -> int:
    def read(at: int, count: int) -> bytes:
        plain.seek(start + at)
        return plain.read(count)

    target = transfer_syntax(to_uid)
    deflated = _Deflating(out) if target.deflated else None
    walk = _Recoder(read, element_coding(target), deflated.write if deflated else out.write)
    walk.elements(0, size, element_coding(transfer_syntax(from_uid)), depth=0, delimited=False)
    return walk.written if deflated is None else deflated.finish()


def _inflate(source: BinaryIO, size: int, out: io.BytesIO) -> int:
    inflater = BoundedInflater(
        max_bytes=MAX_INFLATED_BYTES, max_ratio=MAX_INFLATED_RATIO, free_bytes=MAX_INFLATED_BYTES // 32
    )
    left, total = size, 0
    while left:
        data = source.read(min(_PIECE_BYTES, left))
        if not data:
            raise DatasetError("dataset-truncated")
        left -= len(data)
        for piece in inflater.pieces(data):
            total += out.write(piece)
    inflater.finish()
    return total


class _Deflating:
    """Raw deflate, padded to an even length (PS3.5 A.5)."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._coder = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._written = 0

    def write(self, data: bytes) -> int:
        self._written += self._out.write(self._coder.compress(data))
        return len(data)

    def finish(self) -> int:
        self._written += self._out.write(self._coder.flush())
        if self._written % 2:
            self._written += self._out.write(b"\0")
        return self._written


@lru_cache(maxsize=4096)
def _vr_of(tag: int) -> bytes:
    """The VR of an element that travels without (PS3.5 A.1, PS3.6 6); UN where nobody can know it."""
    if tag >> 16 & 1:
        return b"LO" if 0x10 <= tag & 0xFFFF <= 0xFF else b"UN"
    try:
        vr: str = dictionary_VR(tag)
    except KeyError:
        return b"UN"
    return _SIGNED_BY_PIXELS.get(vr) or vr.encode()


class _Recoder:
    """One walk that reads in one coding and writes in another."""

    def __init__(self, read: _Read, target: ElementCoding, write: Callable[[bytes], int]) -> None:
        self.written = 0
        self._read = read
        self._target = target
        self._write_out = write
        self._window = b""
        self._window_at = 0
        self._elements_left = MAX_ELEMENTS
        self._signed = False
        self._bits_allocated = 0

    def elements(self, at: int, end: int, coding: ElementCoding, *, depth: int, delimited: bool) -> int:
        """The elements from `at` to `end`, or to an item's delimiter; the offset behind them."""
        while at < end:
            tag, vr, length, size = self._header(at, end, coding)
            at += size
            if delimited and tag == tags.ITEM_DELIMITER:
                return at
            at = self._element(tag, vr, length, at, end, coding, depth)
        if delimited or at != end:
            raise DatasetError("dataset-truncated")
        return at

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
        if tag & 0xFFFF == 0:
            return self._checked(at, length, end)
        known = vr or self._implied(tag)
        if length == UNDEFINED or known == b"SQ":
            if known in (b"OB", b"OW") or tag == tags.PIXEL_DATA:
                raise DatasetError("dataset-malformed", "fragments in a native encoding")
            inner = IMPLICIT_LITTLE_CODING if vr == b"UN" else coding
            return self._sequence(tag, length, at, end, inner, depth)
        stop = self._checked(at, length, end)
        self._remember(tag, at, length, coding, depth)
        self._value(tag, known, at, stop, coding.big_endian)
        return stop

    def _implied(self, tag: int) -> bytes:
        vr = _vr_of(tag)
        if vr == b"US" and self._signed and dictionary_VR(tag) == "US or SS":
            return b"SS"
        return vr

    def _remember(self, tag: int, at: int, length: int, coding: ElementCoding, depth: int) -> None:
        """Whether pixel values are signed and how wide they are, which later elements depend on."""
        if depth or length != 2 or tag not in (tags.PIXEL_REPRESENTATION, tags.BITS_ALLOCATED):
            return
        number = int.from_bytes(self._read(at, 2), "big" if coding.big_endian else "little")
        if tag == tags.PIXEL_REPRESENTATION:
            self._signed = number == 1
        else:
            self._bits_allocated = number

    def _checked(self, at: int, length: int, end: int) -> int:
        if length == UNDEFINED or at + length > end:
            raise DatasetError("dataset-truncated")
        return at + length

    # -- writing

    def _write(self, data: bytes) -> None:
        self._write_out(data)
        self.written += len(data)

    def _write_header(self, tag: int, vr: bytes, length: int) -> None:
        target = self._target
        if not target.explicit:
            self._write(target.item.pack(tag >> 16, tag & 0xFFFF, length))
            return
        if vr in target.short_vrs:
            if length <= _SHORT_MAX:
                self._write(target.plain.pack(tag >> 16, tag & 0xFFFF, vr, length))
                return
            vr = b"UN"  # PS3.5 6.2.2: a value too long for its VR in this encoding
        order = "big" if target.big_endian else "little"
        self._write(target.plain.pack(tag >> 16, tag & 0xFFFF, vr, 0) + length.to_bytes(4, order))  # type: ignore[arg-type]

    def _write_mark(self, tag: int, length: int) -> None:
        """An item or a delimiter, which has no VR in any encoding."""
        self._write(self._target.item.pack(tag >> 16, tag & 0xFFFF, length))

    def _value(self, tag: int, vr: bytes, at: int, stop: int, big_endian: bool) -> None:
        length = stop - at
        self._write_header(tag, vr, length)
        width = _WIDTHS.get(vr, 1)  # OW by its words of 16 bits, 8-bit pixels too (PS3.5 8.1.1, A.3)
        swaps = width > 1 and big_endian != self._target.big_endian
        if tag == tags.PIXEL_DATA and vr == b"OW" and swaps and self._bits_allocated > 16:
            raise DatasetError("dataset-malformed", "pixels of more than 16 bits have no agreed big endian form")
        if swaps and length % width:
            raise DatasetError("dataset-malformed", "a value is no whole number of its units")
        while at < stop:
            piece = self._read(at, min(_PIECE_BYTES, stop - at))
            if not piece:
                raise DatasetError("dataset-truncated")
            at += len(piece)
            self._write(_swapped(piece, width) if swaps else piece)

    def _sequence(self, tag: int, length: int, at: int, end: int, coding: ElementCoding, depth: int) -> int:
        if depth >= MAX_DEPTH:
            raise DatasetError("dataset-too-deep")
        stop = end if length == UNDEFINED else self._checked(at, length, end)
        self._write_header(tag, b"SQ", UNDEFINED)
        while at < stop:
            inner, _vr, size, header = self._header(at, stop, coding)
            at += header
            if inner == tags.SEQUENCE_DELIMITER and length == UNDEFINED:
                self._write_mark(tags.SEQUENCE_DELIMITER, 0)
                return at
            if inner != tags.ITEM:
                raise DatasetError("dataset-malformed", "no item where there must be one")
            self._write_mark(tags.ITEM, UNDEFINED)
            item_end = stop if size == UNDEFINED else self._checked(at, size, stop)
            at = self.elements(at, item_end, coding, depth=depth + 1, delimited=size == UNDEFINED)
            self._write_mark(tags.ITEM_DELIMITER, 0)
        if length == UNDEFINED:
            raise DatasetError("dataset-truncated")
        self._write_mark(tags.SEQUENCE_DELIMITER, 0)
        return at


def _swapped(piece: bytes, width: int) -> bytes:
    """Every group of `width` bytes reversed."""
    out = bytearray(len(piece))
    for byte in range(width):
        out[byte::width] = piece[width - 1 - byte :: width]
    return bytes(out)
