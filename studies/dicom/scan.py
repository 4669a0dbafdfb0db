"""The walk over a dataset while it arrives: whole or refused, in constant memory, without decoding a value."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from studies.dicom import tags
from studies.dicom.charset import charset_is_known
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from studies.dicom.inflate import BoundedInflater
from studies.dicom.syntax import (
    DELIMITER_GROUP,
    IMPLICIT_LITTLE_CODING,
    KNOWN_VRS,
    UNDEFINED,
    Buffer,
    ElementCoding,
    PixelForm,
    element_coding,
    transfer_syntax,
)
from studies.dicom.uids import uid_clean, uid_flaw

MAX_DEPTH: Final = 64
MAX_ITEMS: Final = 200_000
MAX_ELEMENTS: Final = 1_000_000
MAX_FRAGMENTS: Final = 4_000_000
MAX_INFLATED_BYTES: Final = 4 * 1024**3
MAX_INFLATED_RATIO: Final = 200
FREE_INFLATED_BYTES: Final = 32 * 1024**2
VALUE_LIMIT: Final = 1024
"""Bytes kept of an index attribute; longer values are cut and flagged."""

_JOIN_BYTES: Final = 2 * VALUE_LIMIT  # more than the largest header and kept value together
_TAG_BYTES: Final = 8
_LAST_FORBIDDEN_TAG: Final = 0x0002FFFF  # command and file meta elements; group 0001 was never anything
_FIRST_PLAIN_TAG: Final = _LAST_FORBIDDEN_TAG + 1
_FIRST_PIXEL_TAG: Final = tags.PIXEL_DATA  # from here on an element may be Pixel Data, padding or a delimiter
_FIRST_GROUP_LIMIT: Final = 0x0008
_KNOWN_VRS: Final = KNOWN_VRS | {b""}
_TEXT_LIKE_VRS: Final = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UN UR UT".split())

_Walk: TypeAlias = Callable[[Buffer, int, int], int]
"""Walks a buffer from one offset to its end, as far as it can; the result lies beyond the end when a value does."""


class DatasetScanner:
    """Says of one dataset that it is whole, and what the index wants of it, from chunks of any size.

    Memory is constant (under 100 KiB) and values are skipped by counting. Sequences, items and UN of defined length are
    skipped whole, in every syntax, so the depth and item limits hold for those of undefined length; whoever decodes
    later needs limits of its own. A scanner serves one dataset; after an error it gives the same error for ever.

    Flags: "charset-unknown", "deflate-trailer", "delimiter-length" (a delimiter that declares a length),
    "duplicate-element" (the first wins), "long-value" (an index attribute, cut), "odd-length", "uid-leading-zero",
    "uid-malformed", "unknown-vr" (read as PS3.5 6.2 wants VRs yet unknown), "unordered" (these at the top level), and
    "wrong-vr" (an index attribute; left out if not text).

    Raises DatasetError from `feed` and `finish`: "dataset-empty", "dataset-forbidden-group", "dataset-malformed",
    "dataset-too-deep", "dataset-too-many-elements", "dataset-too-many-items", "dataset-truncated", "deflate-invalid",
    "deflate-too-large", "encapsulation-invalid", "transfer-syntax-mismatch". PS3.5 7, 10, A.
    """

    def __init__(
        self,
        transfer_syntax_uid: str,
        *,
        keep: Mapping[int, bytes] = tags.INDEX_VRS,
        max_depth: int = MAX_DEPTH,
        max_items: int = MAX_ITEMS,
        max_elements: int = MAX_ELEMENTS,
        max_fragments: int = MAX_FRAGMENTS,
        max_inflated_bytes: int = MAX_INFLATED_BYTES,
        max_inflated_ratio: int = MAX_INFLATED_RATIO,
    ) -> None:
        syntax = transfer_syntax(transfer_syntax_uid.rstrip("\0 "))
        self._kept_vrs = keep  # the attributes to keep, with their VRs; b"" where any VR will do
        self._max_depth = max_depth
        self._pixel_form = syntax.pixel_form
        self._inflater = (
            BoundedInflater(max_bytes=max_inflated_bytes, max_ratio=max_inflated_ratio, free_bytes=FREE_INFLATED_BYTES)
            if syntax.deflated
            else None
        )
        self._coding: ElementCoding = element_coding(syntax)
        self._walk: _Walk = self._first_element
        self._levels: list[tuple[_Walk, ElementCoding]] = []  # those that enclose the present one
        self._last_tag = -1  # of the top level
        self._table_due = False  # the next item is a Basic Offset Table
        self._elements_left = max_elements
        self._items_left = max_items
        self._fragments_left = max_fragments
        self._skip_bytes = 0  # of a value that has not come yet
        self._tail = b""  # an element's beginning, at most a header and a kept value
        self._values: dict[int, bytes] = {}
        self._flags: set[str] = set()
        self._failed: DatasetError | None = None

    def feed(self, data: Buffer) -> None:
        """Takes the next bytes, any number of them; keeps no reference to `data`. Raises DatasetError."""
        self._check_not_failed()
        try:
            if self._inflater is None:
                self._take(data)
            else:
                for piece in self._inflater.pieces(data):
                    self._take(piece)
        except DatasetError as error:
            self._fail(error)
            raise

    def finish(self) -> Header:
        """The index attributes, if the dataset ended exactly where its last element does. Raises DatasetError."""
        self._check_not_failed()
        try:
            self._check_complete()
        except DatasetError as error:
            self._fail(error)
            raise
        for tag in tags.IDENTITY:
            self._flag_uid(self._values.get(tag, b""))
        if not charset_is_known(self._values.get(tags.SPECIFIC_CHARACTER_SET, b"")):
            self._flags.add("charset-unknown")
        return Header(self._values, tuple(sorted(self._flags)), self._coding.big_endian)

    def header_so_far(self) -> Header:
        """What was met before the end, or before the error: for a person who decides about a broken object."""
        top = self._levels[0][1] if self._levels else self._coding
        return Header(dict(self._values), tuple(sorted(self._flags)), top.big_endian)

    def _fail(self, error: DatasetError) -> None:
        # A copy without traceback: that would hold the caller's buffer.
        self._failed = error.copy()
        self._tail = b""

    def _check_not_failed(self) -> None:
        if self._failed is not None:
            raise self._failed.copy()

    def _check_complete(self) -> None:
        if self._inflater is not None:
            self._inflater.finish()
            if self._inflater.has_trailer:
                self._flags.add("deflate-trailer")
        if self._tail or self._skip_bytes or self._levels:
            raise DatasetError("dataset-truncated")
        if self._last_tag < 0:
            raise DatasetError("dataset-empty")

    def _flag_uid(self, raw: bytes) -> None:
        try:
            flaw = uid_flaw(uid_clean(raw)) if raw else ""
        except DatasetError:  # the caller's identity check says which, and refuses
            flaw = "uid-malformed"
        if flaw:
            self._flags.add(flaw)

    # -- bytes to walks ----------------------------------------------------------------------------------------------

    def _take(self, data: Buffer) -> None:
        at, end = self._skip_bytes, len(data)
        if at >= end:
            self._skip_bytes = at - end
            return
        self._skip_bytes = 0
        if self._tail:
            # Enough of the new bytes to complete what is begun, so that a large chunk is never copied.
            joined = self._tail + bytes(data[:_JOIN_BYTES])
            at = self._walk_on(joined, 0) - len(self._tail)
            if at < 0:  # still not enough, so `data` lies in `joined` whole
                self._tail = joined[len(self._tail) + at :]
                return
        if at < end:
            at = self._walk_on(data, at)
        self._tail = bytes(data[at:])
        self._skip_bytes = max(0, at - end)

    def _walk_on(self, buffer: Buffer, at: int) -> int:
        end = len(buffer)
        while at < end:
            reached = self._walk(buffer, at, end)
            if reached == at:
                break
            at = reached
        return at

    # -- walks: one for each kind of level ---------------------------------------------------------------------------

    def _first_element(self, buffer: Buffer, at: int, end: int) -> int:
        """Tells bytes of another transfer syntax by their first element, which stands in group 0008 or below."""
        if end - at < _TAG_BYTES:
            return at
        group = self._coding.item.unpack_from(buffer, at)[0]
        if group > _FIRST_GROUP_LIMIT and (group & 0xFF) == 0 and group >> 8 <= _FIRST_GROUP_LIMIT:
            raise DatasetError("transfer-syntax-mismatch", "the other byte order")
        vr = bytes(buffer[at + 4 : at + 6])
        if self._coding.explicit and group != DELIMITER_GROUP and not (vr.isalpha() and vr.isupper()):
            raise DatasetError("transfer-syntax-mismatch", "no VR where there must be one")
        if not self._coding.explicit and vr in KNOWN_VRS:
            raise DatasetError("transfer-syntax-mismatch", "a VR where there must be none")
        self._walk = self._top_elements
        return self._top_elements(buffer, at, end)

    def _plain_elements(self, buffer: Buffer, at: int, end: int) -> int:
        """As many elements of the top level as are as most are; the first that is not, or is cut, is left to the rest.

        Plain is: in ascending order, of an even length that stands in the first eight bytes, below Pixel Data - and if
        the index wants it, whole, of its VR, and not too long.
        """
        unpack, short_vrs, kept_vrs = self._coding.plain.unpack_from, self._coding.short_vrs, self._kept_vrs
        explicit, last_tag, most = self._coding.explicit, self._last_tag, self._elements_left
        vr, count = b"", 0
        while end - at >= _TAG_BYTES and count < most:
            if explicit:
                group, element, vr, length = unpack(buffer, at)
            else:
                group, element, length = unpack(buffer, at)
            tag = group << 16 | element
            if not last_tag < tag < _FIRST_PIXEL_TAG or vr not in short_vrs or tag < _FIRST_PLAIN_TAG or length & 1:
                break
            after = at + _TAG_BYTES + length
            if (expected := kept_vrs.get(tag)) is not None:
                cut = after > end or length > VALUE_LIMIT
                if cut or tag in self._values or not expected or vr not in (expected, b""):
                    break
                self._values[tag] = bytes(buffer[at + _TAG_BYTES : after])
            at, last_tag = after, tag
            count += 1
        self._last_tag = last_tag
        self._elements_left -= count
        return at

    def _top_elements(self, buffer: Buffer, at: int, end: int) -> int:
        at = self._plain_elements(buffer, at, end)
        read_header, index_vr, known_vrs = self._coding.header, self._kept_vrs.get, _KNOWN_VRS
        while (header := read_header(buffer, at, end)) is not None:
            tag, vr, length, size = header
            if (vr_expected := index_vr(tag)) is not None and length != UNDEFINED:
                if end - at - size < min(length, VALUE_LIMIT):
                    return at
                self._keep(
                    tag, vr, vr_expected, bytes(buffer[at + size : at + size + min(length, VALUE_LIMIT)]), length
                )
            if tag <= self._last_tag:
                self._flags.add("duplicate-element" if tag == self._last_tag else "unordered")
            self._last_tag = tag
            self._elements_left -= 1
            if vr not in known_vrs or not _FIRST_PLAIN_TAG <= tag < _FIRST_PIXEL_TAG or self._elements_left < 0:
                self._check_unusual(tag, vr)
                self._check_pixel_form(tag, length)
            at += size
            if length == UNDEFINED:
                self._enter_value(tag, vr)
                return at
            if length & 1:
                self._flags.add("odd-length")
            at = self._plain_elements(buffer, at + length, end)
        return at

    def _item_elements(self, buffer: Buffer, at: int, end: int) -> int:
        """The elements of an item of undefined length, up to its delimiter."""
        read_header, known_vrs = self._coding.header, _KNOWN_VRS
        while (header := read_header(buffer, at, end)) is not None:
            tag, vr, length, size = header
            at += size
            if tag == tags.ITEM_DELIMITER:
                self._leave(length)
                return at
            self._elements_left -= 1
            if vr not in known_vrs or not _FIRST_PLAIN_TAG <= tag < _FIRST_PIXEL_TAG or self._elements_left < 0:
                self._check_unusual(tag, vr)
            if length == UNDEFINED:
                self._enter_value(tag, vr)
                return at
            if length & 1:
                self._flags.add("odd-length")
            at += length
        return at

    def _sequence_items(self, buffer: Buffer, at: int, end: int) -> int:
        """The items of a sequence of undefined length, up to its delimiter (PS3.5 7.5)."""
        unpack = self._coding.item.unpack_from
        while end - at >= _TAG_BYTES:
            group, element, length = unpack(buffer, at)
            at += _TAG_BYTES
            tag = group << 16 | element
            if tag == tags.SEQUENCE_DELIMITER:
                self._leave(length)
                return at
            if tag != tags.ITEM:
                raise DatasetError("dataset-malformed", "no item where there must be one")
            self._items_left -= 1
            if self._items_left < 0:
                raise DatasetError("dataset-too-many-items")
            if length == UNDEFINED:
                self._enter(self._item_elements, self._coding)
                return at
            at += length
        return at

    def _fragments(self, buffer: Buffer, at: int, end: int) -> int:
        """Encapsulated Pixel Data: offset table, fragments, delimiter (PS3.5 A.4)."""
        unpack = self._coding.item.unpack_from
        while end - at >= _TAG_BYTES:
            group, element, length = unpack(buffer, at)
            tag = group << 16 | element
            if self._table_due:
                if length and end - at < _TAG_BYTES + 4:
                    return at
                self._check_offset_table(tag, length, bytes(buffer[at + _TAG_BYTES : at + _TAG_BYTES + 4]))
            at += _TAG_BYTES
            if tag == tags.SEQUENCE_DELIMITER:
                self._leave(length)
                return at
            if tag != tags.ITEM or length == UNDEFINED:
                raise DatasetError("dataset-malformed", "no fragment where there must be one")
            self._fragments_left -= 1
            if self._fragments_left < 0:
                raise DatasetError("dataset-too-many-items", "fragments")
            if length & 1:
                self._flags.add("odd-length")
            at += length
        return at

    # -- levels ------------------------------------------------------------------------------------------------------

    def _enter_value(self, tag: int, vr: bytes) -> None:
        """Goes down into a value of undefined length."""
        if tag == tags.PIXEL_DATA or vr in (b"OB", b"OW"):
            self._table_due = True
            self._enter(self._fragments, self._coding)
        elif vr in (b"SQ", b""):
            self._enter(self._sequence_items, self._coding)
        elif vr == b"UN":  # PS3.5 6.2.2 note 4: implicit VR little endian, whatever surrounds it
            self._enter(self._sequence_items, IMPLICIT_LITTLE_CODING)
        else:
            raise DatasetError("dataset-malformed", f"undefined length of {tag >> 16:04X},{tag & 0xFFFF:04X}")

    def _enter(self, walk: _Walk, coding: ElementCoding) -> None:
        if walk != self._item_elements and len(self._levels) >= 2 * self._max_depth:  # a sequence and its item are two
            raise DatasetError("dataset-too-deep", f"over {self._max_depth}")
        self._levels.append((self._walk, self._coding))
        self._walk, self._coding = walk, coding

    def _leave(self, delimiter_length: int) -> None:
        if delimiter_length:
            self._flags.add("delimiter-length")
        self._walk, self._coding = self._levels.pop()

    # -- checks ------------------------------------------------------------------------------------------------------

    def _check_unusual(self, tag: int, vr: bytes) -> None:
        """What may be wrong with an element whose tag or VR is out of the ordinary, or that is one too many."""
        if tag <= _LAST_FORBIDDEN_TAG and tag >> 16 != 1:
            raise DatasetError("dataset-forbidden-group", f"{tag >> 16:04X},{tag & 0xFFFF:04X}")
        if tag >> 16 == DELIMITER_GROUP:
            raise DatasetError("dataset-malformed", "an item or delimiter where there must be an element")
        if vr not in _KNOWN_VRS:
            self._flags.add("unknown-vr")
        if self._elements_left < 0:
            raise DatasetError("dataset-too-many-elements")

    def _check_pixel_form(self, tag: int, length: int) -> None:
        if tag != tags.PIXEL_DATA:
            return
        if self._pixel_form is PixelForm.NATIVE and length == UNDEFINED:
            raise DatasetError("transfer-syntax-mismatch", "encapsulated Pixel Data in a native syntax")
        if self._pixel_form is PixelForm.ENCAPSULATED and 0 < length < UNDEFINED:
            raise DatasetError("transfer-syntax-mismatch", "native Pixel Data in an encapsulated syntax")

    def _check_offset_table(self, tag: int, length: int, first_offset: bytes) -> None:
        """The first item is the table: empty, or offsets of 32 bits of which the first is zero (PS3.5 A.4)."""
        if tag != tags.ITEM or length % 4 or any(first_offset if length else b""):
            raise DatasetError("encapsulation-invalid")
        self._table_due = False

    def _keep(self, tag: int, vr: bytes, vr_expected: bytes, value: bytes, length: int) -> None:
        if tag in self._values:
            self._flags.add("duplicate-element")
            return
        if not vr_expected:
            self._values[tag] = value
            return
        if vr not in (vr_expected, b"", b"UN"):
            self._flags.add("wrong-vr")
        if vr not in (vr_expected, b"") and (vr_expected == b"US" or vr not in _TEXT_LIKE_VRS):
            return
        if length > VALUE_LIMIT:
            self._flags.add("long-value")
        self._values[tag] = value
