"""Makes docs/vectors/gve1.json: `python -m tests.uploads.envelope_vectors docs/vectors/gve1.json`.

The only hook is `scripted_randomness`: `uploads.envelope.randomness.random_bytes` becomes a counted SHA-512 stream.
"""

import base64
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives.asymmetric import ec

from uploads.envelope import framing, jose, randomness
from uploads.envelope.encoding import base64url_encode
from uploads.envelope.keys import PrivateKey, fingerprint, jwk_from_key, key_generate, thumbprint
from uploads.envelope.receipt import Commitment, StoredFile, commitment_sign, receipt_sign
from uploads.envelope.seal import HashedSink, SealingRun, SegmentWriter

UPLOAD_ID = "00112233445566778899aabbccddeeff"
GATEWAY_ID = "gateway-example"
VAULT_ID = "vault-example"
EPHEMERAL_SCALAR = int.from_bytes(hashlib.sha512(b"gve1 ephemeral 435").digest(), "big")
"""Found by counting up from 0: with the vectors' recipient key, Z begins with two zero octets (one chance in 512)."""
CONTENTS = (("empty", b"", 1024 * 1024), ("short", b"not a DICOM file", 1024 * 1024), ("segments", b"", 64))
MANY_SEGMENTS_CONTENT = b"".join(hashlib.sha512(bytes([number])).digest() for number in range(3))


@contextmanager
def scripted_randomness(seed: str, *, scalar: int | None = None) -> Iterator[None]:
    """Every draw n (from 0) is SHA-512(seed || n as 4 octets || block as 4 octets), cut; 66 octets give the scalar."""
    draws = iter(range(1_000_000))
    original = randomness.random_bytes

    def scripted(count: int) -> bytes:
        draw = next(draws)
        if count == 66 and scalar is not None:
            return scalar.to_bytes(66, "big")
        blocks = (
            hashlib.sha512(seed.encode() + draw.to_bytes(4, "big") + block.to_bytes(4, "big")).digest()
            for block in range(count // 64 + 1)
        )
        return b"".join(blocks)[:count]

    randomness.random_bytes = scripted
    try:
        yield
    finally:
        randomness.random_bytes = original


def vector_key(name: str) -> PrivateKey:
    with scripted_randomness(f"gve1 public test key {name}"):
        return key_generate()


def private_scalar(key: PrivateKey) -> int:
    return key.private_numbers().private_value


def build() -> dict[str, object]:
    recipient, gateway, vault = vector_key("recipient"), vector_key("gateway"), vector_key("vault")
    with scripted_randomness("gve1 vector run", scalar=EPHEMERAL_SCALAR):
        run = SealingRun.start(
            upload_id=UPLOAD_ID, recipients=[jwk_from_key(recipient)], gateway_id=GATEWAY_ID, vault_id=VAULT_ID
        )
    files = [_file(run, name, content, size) for name, content, size in CONTENTS[:2]]
    files.append(_file(run, "segments", MANY_SEGMENTS_CONTENT, 64))
    map_document = {"files": [{"file_id": file["file_id"], "sha256": file["content_sha256"]} for file in files]}
    documents = [_document(run, "map", map_document, gateway), _document(run, "info", {"text": "Grüße 日本"}, gateway)]
    return {
        "note": "GVE1 test vectors. The private keys here are public and protect nothing. See docs/envelope.md.",
        "zstd_version": ".".join(map(str, zstandard.ZSTD_VERSION)),
        "keys": {name: _key(key) for name, key in (("recipient", recipient), ("gateway", gateway), ("vault", vault))},
        "key_document": _key_document(run, recipient),
        "files": files,
        "documents": documents,
        "receipts": _receipts(run, files, str(documents[0]["content"]), gateway, vault),
        "refused": REFUSED,
    }


REFUSED = [
    {"file": "short", "change": "flip", "offset": 0, "xor": 1, "code": "file-invalid", "why": "magic"},
    {"file": "short", "change": "flip", "offset": 30, "xor": 1, "code": "authentication-failed", "why": "file id"},
    {"file": "segments", "change": "flip", "offset": -1, "xor": 128, "code": "authentication-failed", "why": "tag"},
    {"file": "segments", "change": "flip", "offset": -40, "xor": 1, "code": "authentication-failed", "why": "data"},
    {"file": "segments", "change": "cut", "count": 1, "code": "file-truncated", "why": "last octet missing"},
    {"file": "segments", "change": "cut-segments", "count": 1, "code": "file-truncated", "why": "no final segment"},
    {"file": "segments", "change": "swap-segments", "code": "authentication-failed", "why": "first two exchanged"},
    {"file": "segments", "change": "repeat-segment", "code": "authentication-failed", "why": "first one twice"},
    {"file": "segments", "change": "append", "hex": "00", "code": "trailing-bytes", "why": "one octet too many"},
]


def _key(key: PrivateKey) -> dict[str, object]:
    jwk = jwk_from_key(key)
    return {
        "public_test_private_key_d": base64url_encode(private_scalar(key).to_bytes(66, "big")),
        "jwk": jwk,
        "kid": thumbprint(jwk),
        "fingerprint": fingerprint(jwk),
    }


def _key_document(run: SealingRun, recipient: PrivateKey) -> dict[str, object]:
    ephemeral = ec.derive_private_key(EPHEMERAL_SCALAR, ec.SECP521R1())
    agreed = {"apu": GATEWAY_ID.encode(), "apv": VAULT_ID.encode()}
    return {
        "name": run.key_documents[0].name,
        "content": run.key_documents[0].content.decode("ascii"),
        "ephemeral_d": base64url_encode(EPHEMERAL_SCALAR.to_bytes(66, "big")),
        "z": ephemeral.exchange(ec.ECDH(), recipient.public_key()).hex(),
        "key_wrapping_key": jose.key_agree(ephemeral, jwk_from_key(recipient), **agreed).hex(),
        "session_key": run._session_key.hex(),
        "run_id": run.run_id,
        "upload_id": run.upload_id,
        "gateway_id": run.gateway_id,
        "vault_id": run.vault_id,
    }


def _file(run: SealingRun, name: str, content: bytes, segment_bytes: int) -> dict[str, object]:
    seed = f"gve1 vector file {name}"
    file_id = hashlib.sha256(seed.encode()).hexdigest()[:32]
    sink = io.BytesIO()
    with scripted_randomness(seed):
        if segment_bytes == framing.SEGMENT_BYTES:
            run.seal(io.BytesIO(content), sink, file_id=file_id)
        else:
            _seal_in_small_segments(run, content, sink, file_id, segment_bytes)
    sealed = sink.getvalue()
    header_end = 6 + int.from_bytes(sealed[4:6], "big")
    header = framing.header_parse(sealed[6:header_end])
    hashed = framing.header_hash(sealed[:header_end])
    return {
        "name": name,
        "file_id": file_id,
        "header": sealed[6:header_end].decode(),
        "header_hash": hashed.hex(),
        "file_key": framing.file_key(run._session_key, salt=header.salt, hashed_header=hashed).hex(),
        "segment_aad_0": framing.segment_aad(hashed, 0, final=sealed[header_end + 4] == 1).hex(),
        "content": base64.b64encode(content).decode(),
        "content_sha256": hashlib.sha256(content).hexdigest(),
        "sealed": base64.b64encode(sealed).decode(),
        "sha256": hashlib.sha256(sealed).hexdigest(),
    }


def _seal_in_small_segments(run: SealingRun, content: bytes, sink: io.BytesIO, file_id: str, size: int) -> None:
    salt = randomness.random_bytes(framing.SALT_BYTES)
    encoded = framing.FileHeader(file_id, run.run_id, run.upload_id, salt).encode()
    key = framing.file_key(run._session_key, salt=salt, hashed_header=framing.header_hash(encoded))
    writer = SegmentWriter(HashedSink(sink), key=key, encoded_header=encoded, segment_bytes=size)
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    writer.add(compressor.compress(content) + compressor.flush(), declared=len(content))
    writer.finish(declared=len(content))


def _document(run: SealingRun, kind: str, document: dict[str, object], gateway: PrivateKey) -> dict[str, object]:
    with scripted_randomness(f"gve1 vector document {kind}"):
        content = run.seal_document(document, kind=kind, identity=gateway)
    _, header, _ = jose.jwe_split(content, "alg", "enc", "kid", "salt", "typ")
    salt = framing.salt_parse(header["salt"])
    key = framing.document_key(run._session_key, salt=salt, kind=kind, run_id=run.run_id)
    return {"kind": kind, "document": document, "document_key": key.hex(), "content": content.decode("ascii")}


def _receipts(
    run: SealingRun, files: list[dict[str, object]], sealed_map: str, gateway: PrivateKey, vault: PrivateKey
) -> dict[str, object]:
    stored = tuple(
        StoredFile(f"file-{number}.gve", len(base64.b64decode(str(file["sealed"]))), str(file["sha256"]))
        for number, file in enumerate(files, start=1)
    )
    map_sha256 = hashlib.sha256(sealed_map.encode()).hexdigest()
    commitment = Commitment(run.upload_id, run.gateway_id, run.vault_id, map_sha256, stored)
    token = commitment_sign(commitment, identity=gateway)
    receipt = receipt_sign(
        token, commitment, receipt_id="receipt-1", stored_at="2024-02-29T12:00:00Z", demonstration=True, key=vault
    )
    return {"commitment": token, "receipt": receipt}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
