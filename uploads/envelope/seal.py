"""Sealing: what the gateway does with a study before anything of it leaves the house. Nothing here can open."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

import zstandard
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from uploads.envelope import aead, framing, randomness
from uploads.envelope.encoding import PARTY_ID, RANDOM_ID, VERSION, base64url_encode, canonical_json, identifier
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import CONTENT_ALGORITHM, KEY_ALGORITHM, jwe_compact, jws_sign, key_agree
from uploads.envelope.keys import PrivateKey, jwk_from_key, key_generate, thumbprint

COMPRESSION_LEVEL = 3
READ_BYTES = 1024 * 1024
RECIPIENTS_MAX = 8


@dataclass(frozen=True)
class KeyDocument:
    """One recipient's way to a run's session key: `content` is stored as the file `name`; `kid` says for whom."""

    name: str
    kid: str
    content: bytes


@dataclass(frozen=True)
class Sealed:
    """One sealed file: hash (hexadecimal SHA-256) and size of the ciphertext file, then of the content in it."""

    file_id: str
    run_id: str
    sha256: str
    size_bytes: int
    content_sha256: str
    content_size_bytes: int


@dataclass(frozen=True)
class SealingRun:
    """A session key that exists in this object only, and what is sealed under it.

    It is never written, printed or pickled: after a crash, what was not staged is sealed anew in a new run. Methods
    may be called from several threads at once, and after a fork: keys and IVs never repeat.
    """

    run_id: str
    upload_id: str
    gateway_id: str
    vault_id: str
    key_documents: tuple[KeyDocument, ...]
    _session_key: bytes = field(repr=False, compare=False)

    @classmethod
    def start(
        cls, *, upload_id: str, recipients: Sequence[Mapping[str, object]], gateway_id: str, vault_id: str
    ) -> "SealingRun":
        """A new run with a fresh session key, and one key document for each recipient's public JWK, in their order.

        Raises `identifier-invalid`, `recipients-invalid`, or as `key_from_jwk`.
        """
        identifier(upload_id, RANDOM_ID)
        identifier(gateway_id, PARTY_ID)
        identifier(vault_id, PARTY_ID)
        if not 1 <= len(recipients) <= RECIPIENTS_MAX:
            raise EnvelopeError("recipients-invalid")
        run_id = randomness.random_bytes(16).hex()
        session_key = randomness.random_bytes(framing.SESSION_KEY_BYTES)
        documents = tuple(
            KeyDocument(
                name=f"key-{run_id}-{number}.jwe",
                kid=thumbprint(recipient),
                content=key_document(
                    recipient,
                    session_key,
                    run_id=run_id,
                    upload_id=upload_id,
                    gateway_id=gateway_id,
                    vault_id=vault_id,
                ),
            )
            for number, recipient in enumerate(recipients, start=1)
        )
        return cls(run_id, upload_id, gateway_id, vault_id, documents, session_key)

    def seal(
        self, source: BinaryIO, sink: BinaryIO, *, file_id: str, on_progress: Callable[[int], None] | None = None
    ) -> Sealed:
        """`source` to its end, compressed and encrypted into `sink`; constant memory for any size.

        `file_id` is random hex of the caller's making. `on_progress` is told the content octets read so far, after
        each 1 MiB; what it raises ends the sealing. Sealing the same again gives another salt, another key and other
        ciphertext. After an error or a crash `sink` holds a part that no opener accepts. `sink.write` has to take
        all it is given (a buffered file does). Raises `identifier-invalid`, or OSError from the streams.
        """
        salt = randomness.random_bytes(framing.SALT_BYTES)
        encoded = framing.FileHeader(identifier(file_id, RANDOM_ID), self.run_id, self.upload_id, salt).encode()
        hashed_header = framing.header_hash(encoded)
        key = framing.file_key(self._session_key, salt=salt, hashed_header=hashed_header)
        segments = SegmentWriter(HashedSink(sink), key=key, encoded_header=encoded)
        # A context of its own for each file: sizes tell nothing about another file's content (and threads may seal).
        compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True).compressobj()
        content_hash = hashlib.sha256()
        content_size = 0
        while chunk := source.read(READ_BYTES):
            content_hash.update(chunk)
            content_size += len(chunk)
            segments.add(compressor.compress(chunk), declared=content_size)
            if on_progress is not None:
                on_progress(content_size)
        segments.add(compressor.flush(), declared=content_size)
        segments.finish(declared=content_size)
        return Sealed(
            file_id=file_id,
            run_id=self.run_id,
            sha256=segments.sink.sha256.hexdigest(),
            size_bytes=segments.sink.size_bytes,
            content_sha256=content_hash.hexdigest(),
            content_size_bytes=content_size,
        )

    def seal_document(self, document: Mapping[str, object], *, kind: str, identity: PrivateKey) -> bytes:
        """`document` (JSON) signed by the gateway's `identity`, padded to a power of two, encrypted for this run.

        `kind` is map, info or metadata. Held in memory, at most 128 MiB signed. Raises `document-invalid`, `too-large`.
        """
        if kind not in framing.DOCUMENT_KINDS:
            raise EnvelopeError("document-invalid")
        payload: dict[str, object] = {
            "document": dict(document),
            "gateway_id": self.gateway_id,
            "kind": kind,
            "run_id": self.run_id,
            "upload_id": self.upload_id,
            "vault_id": self.vault_id,
            "version": VERSION,
        }
        typ = f"gve1-{kind}"
        token = jws_sign(canonical_json(payload), identity, typ=typ).encode("ascii")
        padded = token.ljust(framing.document_bucket(len(token)), b" ")
        salt = randomness.random_bytes(framing.SALT_BYTES)
        header: dict[str, object] = {
            "alg": "dir",
            "enc": CONTENT_ALGORITHM,
            "kid": self.run_id,
            "salt": base64url_encode(salt),
            "typ": typ,
        }
        key = framing.document_key(self._session_key, salt=salt, kind=kind, run_id=self.run_id)
        return jwe_compact(padded, header=header, encrypted_key=b"", key=key)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A sealing run holds a session key and is never pickled or copied.")


class SegmentWriter:
    """Writes header and segments; a full segment is held back until more follows, so that the last one is final.

    What is held back stays in the pieces that it came in: nothing is copied. `segment_bytes` is smaller than the
    format's limit only in tests and vectors.
    """

    def __init__(
        self, sink: "HashedSink", *, key: bytes, encoded_header: bytes, segment_bytes: int = framing.SEGMENT_BYTES
    ) -> None:
        self.sink = sink
        self._key = key
        self._hashed_header = framing.header_hash(encoded_header)
        self._segment_bytes = segment_bytes
        self._held: list[bytes | memoryview] = []
        self._held_bytes = 0
        self._index = 0
        sink.write(encoded_header)

    def add(self, compressed: bytes, *, declared: int) -> None:
        """Takes compressed octets; `declared` is how much content all octets so far may decompress to."""
        rest = memoryview(compressed)
        while rest:
            if self._held_bytes == self._segment_bytes:
                self._write(declared, final=False)
            piece = rest[: self._segment_bytes - self._held_bytes]
            self._held.append(piece)
            self._held_bytes += len(piece)
            rest = rest[len(piece) :]

    def finish(self, *, declared: int) -> None:
        """Writes what is held back as the final segment; `declared` is the content's size."""
        self._write(declared, final=True)

    def _write(self, declared: int, *, final: bool) -> None:
        plaintext = [framing.DECLARED.pack(declared), *self._held]
        iv = randomness.random_bytes(aead.IV_BYTES)
        aad = framing.segment_aad(self._hashed_header, self._index, final=final)
        ciphertext, tag = aead.aead_encrypt_pieces(plaintext, key=self._key, iv=iv, aad=aad)
        self.sink.write(framing.SEGMENT_HEAD.pack(sum(map(len, ciphertext)), final) + iv)
        for piece in ciphertext:
            self.sink.write(piece)
        self.sink.write(tag)
        self._held, self._held_bytes = [], 0
        self._index += 1


class HashedSink:
    """Counts and hashes what goes through to the file."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.size_bytes += len(data)
        written = self._sink.write(data)
        if written is not None and written != len(data):
            raise OSError("The sink took a part of what it was given; open it buffered.")


def key_document(
    recipient: Mapping[str, object],
    session_key: bytes,
    *,
    run_id: str,
    upload_id: str,
    gateway_id: str,
    vault_id: str,
) -> bytes:
    """A run's session key, readable by this recipient alone: another document each time. Raises as `key_from_jwk`."""
    members: dict[str, object] = {
        "run_id": run_id,
        "session_key": base64url_encode(session_key),
        "upload_id": upload_id,
        "version": VERSION,
    }
    return _key_document(canonical_json(members), recipient, gateway_id=gateway_id, vault_id=vault_id)


def _key_document(plaintext: bytes, recipient: Mapping[str, object], *, gateway_id: str, vault_id: str) -> bytes:
    ephemeral = key_generate()
    apu, apv = gateway_id.encode("ascii"), vault_id.encode("ascii")
    content_key = randomness.random_bytes(aead.KEY_BYTES)
    wrapping_key = key_agree(ephemeral, recipient, apu=apu, apv=apv)
    header: dict[str, object] = {
        "alg": KEY_ALGORITHM,
        "apu": base64url_encode(apu),
        "apv": base64url_encode(apv),
        "enc": CONTENT_ALGORITHM,
        "epk": jwk_from_key(ephemeral),
        "kid": thumbprint(recipient),
        "typ": "gve1-key",
    }
    return jwe_compact(plaintext, header=header, encrypted_key=aes_key_wrap(wrapping_key, content_key), key=content_key)
