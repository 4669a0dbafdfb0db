"""Opening: what the recipient's tool does, and the gateway cannot. Imported by that tool only."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from uploads.envelope import aead, framing
from uploads.envelope.encoding import (
    PARTY_ID,
    RANDOM_ID,
    base64url_decode,
    identifier,
    json_object,
    members_exactly,
    version_check,
)
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import KEY_ALGORITHM, epk_parse, jwe_split, jws_verify, key_agree
from uploads.envelope.keys import PrivateKey, jwk_from_key, thumbprint
from uploads.envelope.seal import key_document

KEY_DOCUMENT_BYTES_MAX = 16 * 1024
DOCUMENT_BYTES_MAX = framing.DOCUMENT_BYTES_MAX * 4 // 3 + 16 * 1024
CONTENT_BYTES_MAX = 64 * 1024**3
"""What one file may decompress to when the caller does not say how much the study map lists."""
WRITE_BYTES = 256 * 1024


@dataclass(frozen=True)
class RunInfo:
    """Whose a sealing run is, as its key document says; believed once a document of the run has been verified."""

    run_id: str
    upload_id: str
    gateway_id: str
    vault_id: str


@dataclass(frozen=True)
class Opened:
    """One opened file: hash (hexadecimal SHA-256) and size of the ciphertext file, then of the content."""

    file_id: str
    run_id: str
    upload_id: str
    sha256: str
    size_bytes: int
    content_sha256: str
    content_size_bytes: int


class Opener:
    """Opens what was sealed for one private key; every failure is an `EnvelopeError`, bounded in memory and time.

    A key document proves nothing about its sender: anyone can seal for a public key. Files and documents are the
    gateway's only when `open_document` has verified its signature for that run, so open the study map first.
    """

    def __init__(self, private_key: PrivateKey) -> None:
        self._private_key = private_key
        self._kid = thumbprint({**jwk_from_key(private_key)})
        self._runs: dict[str, tuple[RunInfo, bytes]] = {}

    def add_key(self, document: bytes) -> str:
        """The id of the run whose session key was in this key document; adding the same again changes nothing.

        Raises `too-large`, `encoding-invalid`, `algorithm-refused`, `type-mismatch`, `not-for-this-key`,
        `key-invalid`, `authentication-failed`, `identifier-invalid`, `run-conflict`.
        """
        if len(document) > KEY_DOCUMENT_BYTES_MAX:
            raise EnvelopeError("too-large")
        members = ("alg", "apu", "apv", "enc", "epk", "kid", "typ")
        protected, header, parts = jwe_split(document, *members)
        _header_check(header, alg=KEY_ALGORITHM, typ="gve1-key")
        if header["kid"] != self._kid:
            raise EnvelopeError("not-for-this-key")
        apu, apv = _text_decode(header["apu"]), _text_decode(header["apv"])
        wrapping_key = key_agree(self._private_key, epk_parse(header["epk"]), apu=apu, apv=apv)
        plaintext = _decrypt(_unwrap(wrapping_key, parts[0]), parts, aad=protected)
        info, session_key = _session_parse(plaintext, apu=apu, apv=apv)
        known = self._runs.setdefault(info.run_id, (info, session_key))
        if known != (info, session_key):
            raise EnvelopeError("run-conflict")
        return info.run_id

    def run(self, run_id: str) -> RunInfo:
        """What the key document of that run says; `key-unknown` if none was added."""
        return self._run(run_id)[0]

    def rewrap(self, run_id: str, recipient: Mapping[str, object]) -> bytes:
        """A key document that gives the run to another recipient. Open a document of the run first: only then is it
        the gateway's. Raises `key-unknown`, or as `key_from_jwk`.
        """
        info, session_key = self._run(run_id)
        return key_document(
            recipient,
            session_key,
            run_id=info.run_id,
            upload_id=info.upload_id,
            gateway_id=info.gateway_id,
            vault_id=info.vault_id,
        )

    def open(
        self,
        source: BinaryIO,
        sink: BinaryIO,
        *,
        file_id: str | None = None,
        content_size_bytes: int | None = None,
        content_sha256: str | None = None,
    ) -> Opened:
        """The whole content of one sealed file in `sink`. Until it returns, nothing in `sink` is to be trusted.

        The caller gives a temporary file and renames it afterwards. The three expectations are what the study map
        lists; any that is given has to hold, and content never grows beyond `content_size_bytes` (else 64 GiB).
        Raises `file-invalid`, `key-unknown`, `file-truncated`, `authentication-failed`, `trailing-bytes`,
        `content-too-large`, `content-corrupt`, `content-mismatch`.
        """
        file = _HashedSource(source)
        encoded = file.read_exactly(framing.PREAMBLE.size)
        encoded += file.read_exactly(framing.header_size(encoded))
        header = framing.header_parse(encoded[framing.PREAMBLE.size :])
        if file_id is not None and header.file_id != file_id:
            raise EnvelopeError("content-mismatch")
        info, session_key = self._run(header.run_id)
        if header.upload_id != info.upload_id:
            raise EnvelopeError("file-invalid")
        hashed_header = framing.header_hash(encoded)
        key = framing.file_key(session_key, salt=header.salt, hashed_header=hashed_header)
        limit = CONTENT_BYTES_MAX if content_size_bytes is None else content_size_bytes
        content = _open_segments(file, _Content(sink, limit), key=key, hashed_header=hashed_header)
        file.end_check()
        if content_size_bytes not in (None, content.size_bytes):
            raise EnvelopeError("content-mismatch")
        if content_sha256 not in (None, content.sha256.hexdigest()):
            raise EnvelopeError("content-mismatch")
        return Opened(
            file_id=header.file_id,
            run_id=header.run_id,
            upload_id=header.upload_id,
            sha256=file.sha256.hexdigest(),
            size_bytes=file.size_bytes,
            content_sha256=content.sha256.hexdigest(),
            content_size_bytes=content.size_bytes,
        )

    def open_document(self, content: bytes, *, kind: str, gateway_jwk: Mapping[str, object]) -> dict[str, object]:
        """The JSON document that the gateway with this pinned key signed for this run, upload, vault and `kind`.

        Raises `too-large`, `encoding-invalid`, `algorithm-refused`, `type-mismatch`, `key-unknown`,
        `authentication-failed`, `document-mismatch`, and as `jws_verify`.
        """
        if len(content) > DOCUMENT_BYTES_MAX:
            raise EnvelopeError("too-large")
        typ = f"gve1-{kind}"
        protected, header, parts = jwe_split(content, "alg", "enc", "kid", "salt", "typ")
        _header_check(header, alg="dir", typ=typ)
        if parts[0]:
            raise EnvelopeError("algorithm-refused")  # RFC 7516 5.2, step 10: no encrypted key with "dir"
        info, session_key = self._run(header["kid"])
        salt = framing.salt_parse(header["salt"])
        key = framing.document_key(session_key, salt=salt, kind=kind, run_id=info.run_id)
        padded = _decrypt(key, parts, aad=protected)
        token = padded.rstrip(b" ")
        if len(padded) != framing.document_bucket(len(token)):
            raise EnvelopeError("document-mismatch")
        payload = json_object(jws_verify(token, gateway_jwk, typ=typ))
        return _document_parse(payload, info, kind=kind)

    def _run(self, run_id: object) -> tuple[RunInfo, bytes]:
        if not isinstance(run_id, str) or run_id not in self._runs:
            raise EnvelopeError("key-unknown")
        return self._runs[run_id]


class _HashedSource:
    """Reads exactly what is asked for, and counts and hashes it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def read_exactly(self, count: int) -> bytes:
        pieces: list[bytes] = []
        missing = count
        while missing:
            piece = self._source.read(missing)
            if not piece:
                raise EnvelopeError("file-truncated")
            pieces.append(piece)
            missing -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.sha256.update(data)
        self.size_bytes += count
        return data

    def end_check(self) -> None:
        if self._source.read(1):
            raise EnvelopeError("trailing-bytes")


class _Content:
    """Where decompressed pieces go: stops a bomb before the piece that passes what was declared or allowed."""

    def __init__(self, sink: BinaryIO, limit: int) -> None:
        self._sink = sink
        self._limit = limit
        self._declared = 0
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def declare(self, declared: int) -> None:
        """The next segment's authenticated word on how much content there may be by its end."""
        if declared > self._limit:
            raise EnvelopeError("content-too-large")
        if declared < self._declared:
            raise EnvelopeError("content-corrupt")
        self._declared = declared

    def write(self, piece: bytes) -> int:
        self.size_bytes += len(piece)
        if self.size_bytes > self._declared:
            raise EnvelopeError("content-too-large")
        self.sha256.update(piece)
        written = self._sink.write(piece)
        if written is not None and written != len(piece):
            raise OSError("The sink took a part of what it was given; open it buffered.")
        return len(piece)

    def complete_check(self) -> None:
        if self.size_bytes != self._declared:
            raise EnvelopeError("content-corrupt")


def _open_segments(file: _HashedSource, content: _Content, *, key: bytes, hashed_header: bytes) -> _Content:
    decompressor = zstandard.ZstdDecompressor(max_window_size=framing.ZSTD_WINDOW_BYTES_MAX)
    # Writes in pieces of WRITE_BYTES, however much a segment expands to.
    writer = decompressor.stream_writer(cast("BinaryIO", content), write_size=WRITE_BYTES, closefd=False)
    index, final = 0, False
    while not final:
        size_bytes, flag = framing.SEGMENT_HEAD.unpack(file.read_exactly(framing.SEGMENT_HEAD.size))
        if not aead.BLOCK_BYTES <= size_bytes <= framing.CIPHERTEXT_BYTES_MAX or size_bytes % aead.BLOCK_BYTES:
            raise EnvelopeError("file-invalid")
        if flag not in (0, 1):
            raise EnvelopeError("file-invalid")
        final = flag == 1
        iv = file.read_exactly(aead.IV_BYTES)
        ciphertext, tag = file.read_exactly(size_bytes), file.read_exactly(aead.TAG_BYTES)
        aad = framing.segment_aad(hashed_header, index, final=final)
        plain = memoryview(_aead_decrypt(ciphertext, tag, key=key, iv=iv, aad=aad))
        if len(plain) <= framing.DECLARED.size:
            raise EnvelopeError("content-corrupt")
        content.declare(framing.DECLARED.unpack_from(plain)[0])
        try:
            writer.write(plain[framing.DECLARED.size :])
        except zstandard.ZstdError as error:
            raise EnvelopeError("content-corrupt") from error
        index += 1
    content.complete_check()
    return content


def _aead_decrypt(ciphertext: bytes, tag: bytes, *, key: bytes, iv: bytes, aad: bytes) -> bytes:
    """RFC 7518 5.2.2.2: the tag first, in constant time; only then the cipher, and then the padding."""
    if len(iv) != aead.IV_BYTES or not ciphertext or len(ciphertext) % aead.BLOCK_BYTES:
        raise EnvelopeError("authentication-failed")
    if not hmac.compare_digest(tag, aead.aead_tag(ciphertext, key=key, iv=iv, aad=aad)):
        raise EnvelopeError("authentication-failed")
    padded = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).decryptor().update(ciphertext)
    size_bytes = len(padded) - padded[-1]
    # Authenticated already, so this tells nobody anything but that the sealer is wrong.
    if not 1 <= padded[-1] <= aead.BLOCK_BYTES or padded[size_bytes:] != aead.padding(size_bytes):
        raise EnvelopeError("content-corrupt")
    return padded[:size_bytes]


def _decrypt(key: bytes, parts: list[bytes], *, aad: bytes) -> bytes:
    return _aead_decrypt(parts[2], parts[3], key=key, iv=parts[1], aad=aad)


def _unwrap(wrapping_key: bytes, wrapped: bytes) -> bytes:
    try:
        key = aes_key_unwrap(wrapping_key, wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise EnvelopeError("authentication-failed") from error
    if len(key) != aead.KEY_BYTES:
        raise EnvelopeError("authentication-failed")
    return key


def _header_check(header: Mapping[str, object], *, alg: str, typ: str) -> None:
    if header["alg"] != alg:
        raise EnvelopeError("algorithm-refused")
    if header["typ"] != typ:
        raise EnvelopeError("type-mismatch")


def _text_decode(value: object) -> bytes:
    if not isinstance(value, str):
        raise EnvelopeError("encoding-invalid")
    return base64url_decode(value)


def _session_parse(plaintext: bytes, *, apu: bytes, apv: bytes) -> tuple[RunInfo, bytes]:
    members = json_object(plaintext)
    members_exactly(members, "run_id", "session_key", "upload_id", "version")
    session_key = _text_decode(members["session_key"])
    version_check(members["version"])
    if len(session_key) != framing.SESSION_KEY_BYTES:
        raise EnvelopeError("encoding-invalid")
    info = RunInfo(
        run_id=identifier(members["run_id"], RANDOM_ID),
        upload_id=identifier(members["upload_id"], RANDOM_ID),
        gateway_id=identifier(apu.decode("ascii", "replace"), PARTY_ID),
        vault_id=identifier(apv.decode("ascii", "replace"), PARTY_ID),
    )
    return info, session_key


def _document_parse(payload: Mapping[str, object], info: RunInfo, *, kind: str) -> dict[str, object]:
    bound = ("gateway_id", "kind", "run_id", "upload_id", "vault_id")
    members_exactly(payload, "document", "version", *bound)
    version_check(payload["version"])
    document = payload["document"]
    expected = (info.gateway_id, kind, info.run_id, info.upload_id, info.vault_id)
    if tuple(payload[name] for name in bound) != expected or not isinstance(document, dict):
        raise EnvelopeError("document-mismatch")
    return document
