"""The recipient's answer to a canary: the proof that its private key opens what the gateway seals for it."""

import io
from dataclasses import dataclass
from pathlib import Path

from uploads.envelope.canary import NONCE_BYTES, canary_proof
from uploads.envelope.encoding import base64url_decode
from uploads.envelope.keys import PrivateKey, fingerprint, jwk_from_key, thumbprint
from uploads.vault.errors import VaultStoreError
from uploads.vault.recipient import Session

CANARY_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True)
class OpenedCanary:
    """What to tell the gateway's administrator, and whose canary it was."""

    upload_id: str
    kid: str
    proof: str
    gateway_id: str
    gateway_fingerprint: str


def canary_open(
    directory: Path, upload_id: str, *, private_key: PrivateKey, gateway_fingerprint: str | None = None
) -> OpenedCanary:
    """Opens map and file of a canary as `open_upload` opens a study; returns the proof. Besides: `not-a-canary`."""
    session = Session(directory, private_key)
    record = session.record(upload_id, gateway_fingerprint=gateway_fingerprint)
    document = session.map_document(record)
    canary = document.get("canary")
    if not isinstance(canary, dict) or not all(
        isinstance(canary.get(name), str) for name in ("nonce", "name", "sha256")
    ):
        raise VaultStoreError("not-a-canary")
    size_bytes = canary.get("size_bytes")
    if type(size_bytes) is not int or not 0 <= size_bytes <= CANARY_BYTES_MAX:
        raise VaultStoreError("not-a-canary")
    nonce = base64url_decode(canary["nonce"])
    if len(nonce) != NONCE_BYTES:
        raise VaultStoreError("not-a-canary")
    source = io.BytesIO(session.content(record, canary["name"], size_bytes_max=2 * CANARY_BYTES_MAX))
    sink = io.BytesIO()
    opened = session.opener.open(source, sink, content_size_bytes=size_bytes, content_sha256=canary["sha256"])
    if opened.upload_id != upload_id:
        raise VaultStoreError("file-damaged")
    kid = thumbprint({**jwk_from_key(private_key)})
    return OpenedCanary(
        upload_id=upload_id,
        kid=kid,
        proof=canary_proof(nonce, sink.getvalue(), upload_id=upload_id, kid=kid),
        gateway_id=record.gateway_id,
        gateway_fingerprint=fingerprint(record.gateway_jwk),
    )
