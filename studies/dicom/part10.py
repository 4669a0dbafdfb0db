"""The File Meta Information of DICOM files: written by us, read of anyone, always bounded (PS3.10 7.1)."""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, Final

from studies.dicom.errors import DatasetError
from studies.dicom.syntax import EXPLICIT_LITTLE_CODING, KNOWN_VRS, UNDEFINED, transfer_syntax
from studies.dicom.uids import uid_clean

IMPLEMENTATION_CLASS_UID: Final = "2.25.55847883695003521381620672720009234914"
"""This program, whatever its version: the UUID 2a03e941-618f-4269-ac44-3142946109e2, by PS3.5 B.2."""
IMPLEMENTATION_VERSION_NAME: Final = "GATEWAY_01"

_PREAMBLE_BYTES: Final = 128
_PREFIX: Final = b"DICM"
_META_OFFSET: Final = _PREAMBLE_BYTES + len(_PREFIX)
_MAX_META_BYTES: Final = 64 * 1024
_GROUP_LENGTH_BYTES: Final = 12  # of its element, which stands first and does not count itself
_META_GROUP: Final = 0x0002
_AE_TITLE_LENGTH: Final = 16

_GROUP_LENGTH: Final = 0x00020000
_VERSION: Final = 0x00020001
_SOP_CLASS_UID: Final = 0x00020002
_SOP_INSTANCE_UID: Final = 0x00020003
_TRANSFER_SYNTAX_UID: Final = 0x00020010
_IMPLEMENTATION_CLASS_UID: Final = 0x00020012
_IMPLEMENTATION_VERSION_NAME: Final = 0x00020013
_SOURCE_AE_TITLE: Final = 0x00020016
_RECEIVING_AE_TITLE: Final = 0x00020018

# What a preamble may be besides a DICOM file's (PS3.10 7.5, CVE-2019-11687); TIFF alone has an honest use.
_MAGIC: Final = (
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"MZ", "pe"),
    (b"\x7fELF", "elf"),
    (b"\xfe\xed\xfa\xce", "mach-o"),
    (b"\xfe\xed\xfa\xcf", "mach-o"),
    (b"\xce\xfa\xed\xfe", "mach-o"),
    (b"\xcf\xfa\xed\xfe", "mach-o"),
    (b"\xca\xfe\xba\xbe", "mach-o"),
    (b"PK\x03\x04", "zip"),
    (b"#!", "script"),
    (b"%PDF", "pdf"),
)


@dataclass(frozen=True)
class FileMeta:
    """The File Meta Information of one file; "" for what it does not say, except the transfer syntax, always there.

    `dataset_offset` counts bytes from where the stream stood. `preamble` is as in `preamble_kind`. `flags`, sorted:
    "group-length-missing", "group-length-wrong", "ae-title-invalid" and "uid-invalid" (such a value reads as "").
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str
    receiving_ae_title: str
    dataset_offset: int
    preamble: str = "zero"
    flags: tuple[str, ...] = ()


def file_meta(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    source_ae_title: str,
    receiving_ae_title: str,
) -> bytes:
    """What stands before the dataset in every file of ours: zeroed preamble, prefix, and group 0002 (PS3.10 7.1).

    UIDs may be ugly as `uid_clean` tolerates it, for the file must name what it holds. An empty AE title leaves its
    element out (an object that came by file or by web). Raises DatasetError "uid-invalid", "ae-title-invalid".
    """
    before, after = _around(sop_class_uid, transfer_syntax_uid, source_ae_title, receiving_ae_title)
    body = before + _element(_SOP_INSTANCE_UID, b"UI", _uid_bytes(sop_instance_uid)) + after
    return b"".join(
        (bytes(_PREAMBLE_BYTES), _PREFIX, _element(_GROUP_LENGTH, b"UL", struct.pack("<L", len(body))), body)
    )


@lru_cache(maxsize=256)
def _around(
    sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str, receiving_ae_title: str
) -> tuple[bytes, bytes]:
    """What stands before and after the SOP Instance UID: the same for all objects of a kind in an association."""
    before = _element(_VERSION, b"OB", b"\0\1") + _element(_SOP_CLASS_UID, b"UI", _uid_bytes(sop_class_uid))
    after = [
        _element(_TRANSFER_SYNTAX_UID, b"UI", _uid_bytes(transfer_syntax_uid)),
        _element(_IMPLEMENTATION_CLASS_UID, b"UI", _uid_bytes(IMPLEMENTATION_CLASS_UID)),
        _element(_IMPLEMENTATION_VERSION_NAME, b"SH", _even(IMPLEMENTATION_VERSION_NAME, " ")),
    ]
    for tag, ae_title in ((_SOURCE_AE_TITLE, source_ae_title), (_RECEIVING_AE_TITLE, receiving_ae_title)):
        if ae_title:
            after.append(_element(tag, b"AE", _even(ae_title_clean(ae_title), " ")))
    return before, b"".join(after)


def ae_title_clean(raw: str) -> str:
    """The AE title without the spaces around it: 1 to 16 printable ASCII characters, no backslash (PS3.5 6.2, AE).

    Raises DatasetError "ae-title-invalid".
    """
    title = raw.strip(" ")
    if not 1 <= len(title) <= _AE_TITLE_LENGTH or not (title.isascii() and title.isprintable()) or "\\" in title:
        raise DatasetError("ae-title-invalid")
    return title


def preamble_kind(preamble: bytes) -> str:
    """What the 128 bytes before DICM would be to another program: "zero", "tiff", "pe", "elf", "mach-o", "zip", ...

    "html" where a tag opens the file, "other" for anything else that is not zero. Ours are always zero.
    """
    if not any(preamble):
        return "zero"
    for magic, kind in _MAGIC:
        if preamble.startswith(magic):
            return kind
    return "html" if preamble.lstrip().startswith(b"<") else "other"


def file_meta_read(stream: BinaryIO) -> FileMeta:
    """Reads at most 64 KiB of group 0002 from a seekable stream, and leaves it at the dataset's first byte.

    The group is walked by its elements, as pydicom does: the declared group length may be missing or wrong. Only a
    deflated dataset may begin with the two bytes that would be another element of the group; there the length decides.
    Raises DatasetError "not-part10", "file-meta-malformed", "file-meta-no-transfer-syntax".
    """
    start = stream.tell()
    head = stream.read(_META_OFFSET + _MAX_META_BYTES)
    if head[_PREAMBLE_BYTES:_META_OFFSET] != _PREFIX:
        raise DatasetError("not-part10")
    values, offset = _walk_group(head)
    flags: set[str] = set()
    if _GROUP_LENGTH not in values:
        flags.add("group-length-missing")
    elif _length_of(values[_GROUP_LENGTH]) != offset - _META_OFFSET - _GROUP_LENGTH_BYTES:
        flags.add("group-length-wrong")
    transfer_syntax_uid = _read_uid(values, _TRANSFER_SYNTAX_UID, flags)
    if not transfer_syntax_uid:
        raise DatasetError("file-meta-no-transfer-syntax")
    meta = FileMeta(
        sop_class_uid=_read_uid(values, _SOP_CLASS_UID, flags),
        sop_instance_uid=_read_uid(values, _SOP_INSTANCE_UID, flags),
        transfer_syntax_uid=transfer_syntax_uid,
        source_ae_title=_read_ae_title(values, _SOURCE_AE_TITLE, flags),
        receiving_ae_title=_read_ae_title(values, _RECEIVING_AE_TITLE, flags),
        dataset_offset=offset,
        preamble=preamble_kind(head[:_PREAMBLE_BYTES]),
        flags=tuple(sorted(flags)),
    )
    stream.seek(start + offset)
    return meta


def _length_of(raw: bytes) -> int | None:
    """The value of a UL; None when it is not four bytes, whatever else they say."""
    return int.from_bytes(raw, "little") if len(raw) == 4 else None


def _walk_group(head: bytes) -> tuple[dict[int, bytes], int]:
    """The values of group 0002, first occurrences, and the offset where another group (or nothing) begins."""
    values: dict[int, bytes] = {}
    at, end = _META_OFFSET, len(head)
    while (
        at + 2 <= end
        and int.from_bytes(head[at : at + 2], "little") == _META_GROUP
        and not _deflated_dataset_begins(values, at)
    ):
        try:
            header = EXPLICIT_LITTLE_CODING.header(head, at, end)
        except DatasetError as error:
            raise DatasetError("file-meta-malformed", error.detail) from error
        if header is None:
            raise DatasetError("file-meta-malformed", "it ends inside an element, or is over 64 KiB")
        tag, vr, length, size = header
        at += size + length
        if vr not in KNOWN_VRS or length == UNDEFINED or at > end:
            raise DatasetError("file-meta-malformed", f"at {tag >> 16:04X},{tag & 0xFFFF:04X}")
        values.setdefault(tag, head[at - length : at])
    if not values:
        raise DatasetError("file-meta-malformed", "there is none")
    return values, at


def _deflated_dataset_begins(values: dict[int, bytes], at: int) -> bool:
    declared = _length_of(values.get(_GROUP_LENGTH, b""))
    if declared is None or at != _META_OFFSET + _GROUP_LENGTH_BYTES + declared:
        return False
    return transfer_syntax(values.get(_TRANSFER_SYNTAX_UID, b"").rstrip(b"\0 ").decode("latin-1")).deflated


def _read_uid(values: dict[int, bytes], tag: int, flags: set[str]) -> str:
    raw = values.get(tag, b"").rstrip(b"\0 ")
    try:
        return uid_clean(raw) if raw else ""
    except DatasetError:  # the dataset says the same again, so a flag is enough
        flags.add("uid-invalid")
        return ""


def _read_ae_title(values: dict[int, bytes], tag: int, flags: set[str]) -> str:
    raw = values.get(tag, b"").decode("latin-1").strip("\0 ")
    try:
        return ae_title_clean(raw) if raw else ""
    except DatasetError:  # who once wrote the file is no reason to refuse it
        flags.add("ae-title-invalid")
        return ""


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element in explicit VR little endian; of the long VRs only OB is ever written here."""
    group, element = tag >> 16, tag & 0xFFFF
    if vr == b"OB":
        return struct.pack("<HH2sHL", group, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value


def _uid_bytes(uid: str) -> bytes:
    return _even(uid_clean(uid), "\0")


def _even(text: str, padding: str) -> bytes:
    return (text + padding * (len(text) % 2)).encode("ascii")
