"""Just enough of a Part 10 file to send it: its identity, its encoding, and where its data set begins (PS3.10 7.1)."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_PREAMBLE_BYTES = 128
_META_BYTES_MAX = 65_536
_GROUP_LENGTH_BYTES = 12  # of its element, which stands first and does not count itself
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
_GROUP_LENGTH = 0x0000
_SOP_CLASS = 0x0002
_SOP_INSTANCE = 0x0003
_TRANSFER_SYNTAX = 0x0010
_DEFLATED = frozenset(f"1.2.840.10008.1.2.{tail}".encode() for tail in ("1.99", "4.95", "4.205"))


@dataclass(frozen=True)
class SendableFile:
    """A file that can be sent without opening its data set, which is `dataset_bytes` from `dataset_offset` on."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_offset: int
    dataset_bytes: int

    def open_dataset(self) -> BinaryIO:
        """The file at the beginning of its data set. Raises OSError."""
        stream = self.path.open("rb", buffering=0)
        try:
            stream.seek(self.dataset_offset)
        except OSError:
            stream.close()
            raise
        return stream


def sendable_file(path: Path) -> SendableFile | None:
    """Read the head of the file; None when it is no whole Part 10 file with the three UIDs that sending needs.

    Reads at most 64 KiB. Raises OSError when the file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(_META_BYTES_MAX)
        size = stream.seek(0, 2)
    if head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] != b"DICM":
        return None
    try:
        values, offset = _group_2(head, _PREAMBLE_BYTES + 4)
        sop_class, sop_instance, syntax = (_uid(values[tag]) for tag in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX))
    except (KeyError, struct.error, UnicodeDecodeError):
        return None
    if offset >= size or not all(0 < len(uid) <= 64 for uid in (sop_class, sop_instance, syntax)):
        return None
    return SendableFile(path, sop_class, sop_instance, syntax, dataset_offset=offset, dataset_bytes=size - offset)


def _group_2(head: bytes, offset: int) -> tuple[dict[int, bytes], int]:
    """The elements of group 0002 (always explicit VR little endian) and where the next group begins.

    What is deflated may begin like another element of the group: there its declared length decides.
    """
    values: dict[int, bytes] = {}
    start = offset + _GROUP_LENGTH_BYTES
    while offset + 8 <= len(head):
        group, element, vr, length = struct.unpack_from("<HH2sH", head, offset)
        ends = offset - start == int.from_bytes(values.get(_GROUP_LENGTH, b""), "little")
        if group != 0x0002 or (ends and values.get(_TRANSFER_SYNTAX, b"").rstrip(b"\0 ") in _DEFLATED):
            return values, offset
        offset += 8
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from("<L", head, offset)
            offset += 4
        values[element] = head[offset : offset + length]
        offset += length
    raise struct.error("file meta information without end")


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii")
