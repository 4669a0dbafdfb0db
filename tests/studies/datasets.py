"""Datasets made byte by byte, so that a test can make them wrong in one place."""

import struct

from studies.dicom.header import Header
from studies.dicom.scan import DatasetScanner

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
PRIVATE = "1.2.826.0.1.3680043.2.1.1"

UNDEFINED = 0xFFFFFFFF
CT = "1.2.840.10008.5.1.4.1.1.2"
LONG_VRS = ("OB", "OW", "SQ", "UN", "UT", "UC", "UR", "ZZ", "QQ")


def element(tag: int, vr: str, value: bytes = b"", *, length: int | None = None, order: str = "<") -> bytes:
    """Explicit VR; `length` declares another length than the value has."""
    length = len(value) if length is None else length
    group, number = tag >> 16, tag & 0xFFFF
    if vr in LONG_VRS:
        return struct.pack(order + "HH2sHL", group, number, vr.encode(), 0, length) + value
    return struct.pack(order + "HH2sH", group, number, vr.encode(), length) + value


def implicit(tag: int, value: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(value: bytes = b"", *, length: int | None = None) -> bytes:
    """An item of defined length, or with `length=UNDEFINED` one that is closed by its delimiter."""
    end = implicit(0xFFFEE00D) if length == UNDEFINED else b""
    return implicit(0xFFFEE000, value, length=length) + end


SEQUENCE_END = implicit(0xFFFEE0DD)


def sequence(tag: int, *items: bytes) -> bytes:
    """A sequence of undefined length in explicit VR."""
    return element(tag, "SQ", b"".join(items) + SEQUENCE_END, length=UNDEFINED)


def uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def identity(**overrides: bytes) -> dict[int, bytes]:
    values = {"sop_class": uid(CT), "instance": uid("1.2.3.4"), "study": uid("1.2.5"), "series": uid("1.2.6")}
    values |= overrides
    return {
        0x00080016: values["sop_class"],
        0x00080018: values["instance"],
        0x0020000D: values["study"],
        0x0020000E: values["series"],
    }


def elements(*more: bytes, order: str = "<", **overrides: bytes) -> list[bytes]:
    """The four identity elements and whatever is given besides, in the order of their tags (explicit VR)."""
    own = [element(tag, "UI", value, order=order) for tag, value in identity(**overrides).items()]
    return sorted([*own, *more], key=lambda part: struct.unpack(order + "HH", part[:4]))


def dataset(*more: bytes, order: str = "<", **overrides: bytes) -> bytes:
    return b"".join(elements(*more, order=order, **overrides))


def dataset_implicit(*more: bytes) -> bytes:
    own = [implicit(tag, value) for tag, value in identity().items()]
    return b"".join(sorted([*own, *more], key=lambda part: struct.unpack("<HH", part[:4])))


def scan(data: bytes, syntax: str = EXPLICIT, *, chunk: int = 0, **limits: int) -> Header:
    """Feeds the bytes, all at once or in chunks of one size, and finishes."""
    scanner = DatasetScanner(syntax, **limits)
    for at in range(0, len(data), chunk or max(1, len(data))):
        scanner.feed(data[at : at + chunk] if chunk else data)
    return scanner.finish()
