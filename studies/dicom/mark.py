"""The mark: 128 bytes in the preamble of a spooled file that say "this object is whole, and this is its hash".

It is written with the last bytes of an object, so that one flush makes the object and the proof of its wholeness
durable; neither the file's name nor its directory has to be flushed again before Success. It holds the file's own
random key, so no peer's bytes can be taken for one. It leaves the preamble when the index has committed and the slot is
released: stored files begin with 128 zero bytes (PS3.10 7.1).
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

MARK_BYTES: Final = 128
NO_MARK: Final = bytes(MARK_BYTES)

_MAGIC: Final = b"GWSPOOL1"
_MARK: Final = struct.Struct(">8s64sLQ32sL")  # magic, key, meta bytes, data set bytes, SHA-256, CRC-32 of the file meta
_CRC: Final = struct.Struct(">L")
_PADDING: Final = bytes(MARK_BYTES - _MARK.size - _CRC.size)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a whole file holds: file meta (preamble included) and data set in bytes, and the data set's SHA-256."""

    meta_bytes: int
    size_bytes: int
    sha256: str
    meta_crc: int

    def fits(self, *, sha256: str, size_bytes: int, meta: bytes) -> bool:
        """Whether that is what the file was when it was whole; `meta` as it now stands before the data set."""
        found = (len(meta), size_bytes, sha256, _meta_crc(meta))
        return found == (self.meta_bytes, self.size_bytes, self.sha256, self.meta_crc)


def mark_make(instance_key: str, *, meta: bytes, size_bytes: int, digest: bytes) -> bytes:
    """The mark of a whole object; `meta` is what stands before its data set, at least 128 bytes."""
    mark = _MARK.pack(_MAGIC, instance_key.encode("ascii"), len(meta), size_bytes, digest, _meta_crc(meta))
    return mark + _CRC.pack(zlib.crc32(mark)) + _PADDING


def mark_read(head: bytes, instance_key: str) -> Mark | None:
    """The mark in a file's first 128 bytes, if it is one and this file's; else None."""
    if len(head) < MARK_BYTES or not head.startswith(_MAGIC):
        return None
    (crc,) = _CRC.unpack_from(head, _MARK.size)
    _magic, key, meta_bytes, size_bytes, digest, meta_crc = _MARK.unpack_from(head)
    if crc != zlib.crc32(head[: _MARK.size]) or key.rstrip(b"\0") != instance_key.encode("ascii"):
        return None
    return Mark(meta_bytes, size_bytes, digest.hex(), meta_crc)


def _meta_crc(meta: bytes) -> int:
    return zlib.crc32(meta[MARK_BYTES:])
