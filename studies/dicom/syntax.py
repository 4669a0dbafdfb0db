"""Transfer syntaxes as a scanner sees them, and the headers of data elements (PS3.5 7.1, 10, A)."""

import struct
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from studies.dicom.errors import DatasetError

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
DEFLATED_LITTLE: Final = "1.2.840.10008.1.2.1.99"
RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"
# Two syntaxes of old archives whose data elements are those of implicit VR little endian.
_GE_PRIVATE_IMPLICIT: Final = "1.2.840.113619.5.2"
_PAPYRUS_3_IMPLICIT: Final = "1.2.840.10008.1.20"
# JPIP refers to its pixels elsewhere; the second of each pair is deflated (PS3.5 A.6, A.7, A.11).
_JPIP: Final = frozenset({"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.204"})
_JPIP_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_ENCAPSULATED_ROOTS: Final = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.8.")

UNDEFINED: Final = 0xFFFFFFFF
DELIMITER_GROUP: Final = 0xFFFE
# PS3.5 Table 7.1-2: sixteen bits of length. All other VRs, also those yet to be invented, have thirty-two (PS3.5 6.2).
_SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
KNOWN_VRS: Final = _SHORT_VRS | _LONG_VRS

Buffer: TypeAlias = bytes | memoryview
ElementHeader: TypeAlias = tuple[int, bytes, int, int]
"""Tag as 0xGGGGEEEE, VR (empty where the syntax has none), value length in bytes, size of the header in bytes."""


class PixelForm(Enum):
    """How Pixel Data of the top level must be written in a transfer syntax (PS3.5 A)."""

    NATIVE = "native"
    ENCAPSULATED = "encapsulated"
    EITHER = "either"


class TransferSyntax(NamedTuple):
    """What the walk needs to know of a transfer syntax."""

    explicit: bool = True
    big_endian: bool = False
    deflated: bool = False
    pixel_form: PixelForm = PixelForm.EITHER


@lru_cache(maxsize=256)
def transfer_syntax(uid: str) -> TransferSyntax:
    """The facts about any transfer syntax: unknown ones are taken for explicit VR little endian (PS3.5 10)."""
    if uid in (IMPLICIT_LITTLE, _GE_PRIVATE_IMPLICIT, _PAPYRUS_3_IMPLICIT):
        return TransferSyntax(explicit=False, pixel_form=PixelForm.NATIVE)
    if uid == EXPLICIT_LITTLE:
        return TransferSyntax(pixel_form=PixelForm.NATIVE)
    if uid == EXPLICIT_BIG:
        return TransferSyntax(big_endian=True, pixel_form=PixelForm.NATIVE)
    if uid == DEFLATED_LITTLE or uid in _JPIP_DEFLATED:
        return TransferSyntax(deflated=True, pixel_form=PixelForm.NATIVE)
    if uid in _JPIP:
        return TransferSyntax()
    if uid == RLE_LOSSLESS or uid.startswith(_ENCAPSULATED_ROOTS):
        return TransferSyntax(pixel_form=PixelForm.ENCAPSULATED)
    return TransferSyntax()


class ElementCoding:
    """Reads the headers of data elements in one VR form and byte order; holds no state of a walk."""

    def __init__(self, *, explicit: bool, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        self.explicit = explicit
        self.big_endian = big_endian
        self.header = self._explicit if explicit else self._implicit
        self.item = struct.Struct(order + "HHL")
        self._with_vr = struct.Struct(order + "HH2sH")
        self.plain = self._with_vr if explicit else self.item
        self.short_vrs = _SHORT_VRS if explicit else frozenset({b""})
        self._length = struct.Struct(order + "L")

    def _implicit(self, buffer: Buffer, at: int, end: int) -> ElementHeader | None:
        """PS3.5 7.1.3: tag and 32 bits of length. None while bytes are missing."""
        if end - at < 8:
            return None
        group, element, length = self.item.unpack_from(buffer, at)
        return group << 16 | element, b"", length, 8

    def _explicit(self, buffer: Buffer, at: int, end: int) -> ElementHeader | None:
        """PS3.5 7.1.2: tag, VR, and 16 bits of length, or two reserved bytes and 32. None while bytes are missing."""
        if end - at < 8:
            return None
        group, element, vr, length = self._with_vr.unpack_from(buffer, at)
        if vr in _SHORT_VRS:
            return group << 16 | element, vr, length, 8
        if group == DELIMITER_GROUP:
            return group << 16 | element, b"", self._length.unpack_from(buffer, at + 4)[0], 8
        if vr not in _LONG_VRS and not (vr.isalpha() and vr.isupper()):
            raise DatasetError("dataset-malformed", f"no VR after tag {group:04X},{element:04X}")
        if end - at < 12:
            return None
        return group << 16 | element, vr, self._length.unpack_from(buffer, at + 8)[0], 12


IMPLICIT_LITTLE_CODING: Final = ElementCoding(explicit=False, big_endian=False)
EXPLICIT_LITTLE_CODING: Final = ElementCoding(explicit=True, big_endian=False)
EXPLICIT_BIG_CODING: Final = ElementCoding(explicit=True, big_endian=True)


def element_coding(syntax: TransferSyntax) -> ElementCoding:
    """The coding of a transfer syntax's top level."""
    if not syntax.explicit:
        return IMPLICIT_LITTLE_CODING
    return EXPLICIT_BIG_CODING if syntax.big_endian else EXPLICIT_LITTLE_CODING
