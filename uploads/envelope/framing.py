"""The layout of a sealed file and the keys below a session key: what sealer and opener must agree on."""

import hashlib
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from uploads.envelope import aead
from uploads.envelope.encoding import (
    RANDOM_ID,
    VERSION,
    base64url_decode,
    base64url_encode,
    canonical_json,
    identifier,
    json_object,
    members_exactly,
    version_check,
)
from uploads.envelope.errors import EnvelopeError

MAGIC = b"GVE1"
PREAMBLE = struct.Struct(">4sH")
"""Magic, then the octets of header JSON."""
HEADER_BYTES_MAX = 1024
SEGMENT_HEAD = struct.Struct(">IB")
"""Octets of ciphertext, then the final flag (0 or 1); an IV, the ciphertext and a tag follow."""
SEGMENT_BYTES = 1024 * 1024
"""The most compressed octets in one segment."""
DECLARED = struct.Struct(">Q")
"""Leads each segment's plaintext: how many content octets all segments up to here may decompress to."""
CIPHERTEXT_BYTES_MAX = SEGMENT_BYTES + aead.BLOCK_BYTES
SALT_BYTES = 32
SESSION_KEY_BYTES = 32
ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024

DOCUMENT_KINDS = ("map", "info", "metadata")
DOCUMENT_BYTES_MIN = 4096
DOCUMENT_BYTES_MAX = 128 * 1024 * 1024
"""Padded sizes of a document are the powers of two between these; a map of 100,000 instances has about 105 MB."""


@dataclass(frozen=True)
class FileHeader:
    """What stands readable before the first segment: random ids and a salt, nothing about the content."""

    file_id: str
    run_id: str
    upload_id: str
    salt: bytes

    def encode(self) -> bytes:
        """Preamble and header JSON as they stand in the file."""
        members: dict[str, object] = {
            "file_id": self.file_id,
            "run_id": self.run_id,
            "salt": base64url_encode(self.salt),
            "upload_id": self.upload_id,
            "version": VERSION,
        }
        text = canonical_json(members)
        return PREAMBLE.pack(MAGIC, len(text)) + text


def header_parse(text: bytes) -> FileHeader:
    """The header in the JSON text, every member checked; `file-invalid` where it is not one of this version."""
    try:
        members = json_object(text)
        members_exactly(members, "file_id", "run_id", "salt", "upload_id", "version")
        version_check(members["version"])
        return FileHeader(
            file_id=identifier(members["file_id"], RANDOM_ID),
            run_id=identifier(members["run_id"], RANDOM_ID),
            upload_id=identifier(members["upload_id"], RANDOM_ID),
            salt=salt_parse(members["salt"]),
        )
    except EnvelopeError as error:
        raise EnvelopeError("file-invalid") from error


def header_size(preamble: bytes) -> int:
    """Octets of header JSON that follow this preamble; `file-invalid` before anything is allocated for it."""
    magic, size_bytes = PREAMBLE.unpack(preamble)
    if magic != MAGIC or size_bytes > HEADER_BYTES_MAX:
        raise EnvelopeError("file-invalid")
    return int(size_bytes)


def salt_parse(value: object) -> bytes:
    """32 octets out of base64url."""
    if not isinstance(value, str) or len(value) != 43:
        raise EnvelopeError("encoding-invalid")
    return base64url_decode(value)


def header_hash(encoded: bytes) -> bytes:
    """SHA-512 over everything before the first segment; it enters the file's key and each segment's tag."""
    return hashlib.sha512(encoded).digest()


def segment_aad(hashed_header: bytes, index: int, *, final: bool) -> bytes:
    """What a segment's tag binds beside its ciphertext: the file, the place in it, and whether the file ends here."""
    return hashed_header + index.to_bytes(8, "big") + (b"\x01" if final else b"\x00")


def file_key(session_key: bytes, *, salt: bytes, hashed_header: bytes) -> bytes:
    """The 64-octet A256CBC-HS512 key of one file."""
    return _hkdf(session_key, salt=salt, info=b"GVE1 file\x00" + hashed_header)


def document_key(session_key: bytes, *, salt: bytes, kind: str, run_id: str) -> bytes:
    """The 64-octet A256CBC-HS512 key of one document."""
    return _hkdf(session_key, salt=salt, info=f"GVE1 document\x00{kind}\x00{run_id}".encode("ascii"))


def document_bucket(size_bytes: int) -> int:
    """The padded size of a document: the smallest allowed power of two that holds it; else `too-large`."""
    bucket = DOCUMENT_BYTES_MIN
    while bucket < size_bytes:
        bucket *= 2
    if bucket > DOCUMENT_BYTES_MAX:
        raise EnvelopeError("too-large")
    return bucket


def _hkdf(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA512(), length=aead.KEY_BYTES, salt=salt, info=info).derive(secret)
