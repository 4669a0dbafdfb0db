"""The canary: a small upload that only one key's holder can read, so that a proof of it shows that somebody can.

A receipt proves that a vault stores something; that a private key opens it, only its holder can show. What we keep of
the proof is its hash.
"""

import hashlib
import hmac
import io
import logging
import secrets
from collections.abc import Mapping

from django.db import transaction

from gateway_project.core.clock import database_now
from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from uploads.envelope.canary import NONCE_BYTES, canary_proof, proof_digest
from uploads.envelope.encoding import base64url_encode
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import thumbprint
from uploads.envelope.receipt import Commitment, StoredFile, commitment_sign, receipt_verify
from uploads.envelope.seal import SealingRun
from uploads.models import Vault, new_upload_id
from uploads.ports import VaultPort
from uploads.selectors import gateway_id_at
from uploads.services.identity import identity_ensure
from uploads.services.pins import PinError, pins_verify

logger = logging.getLogger(__name__)

CONTENT_BYTES = 4096
FILE_NAME = "file-00001.gve"


def canary_send(vault: Vault, port: VaultPort, *, actor: str, recovery: bool = False) -> str:
    """Seals a canary for the pinned recipient alone, uploads it, verifies the receipt; returns its upload id.

    With `recovery` for the pinned recovery key alone. The one before it for that key counts no more. Raises JobFault
    for another identity or key than pinned, VaultError, and PinError for a receipt that does not hold, a key that was
    changed meanwhile or one that is not there. What a crash leaves at the vault is of no use.
    """
    jwk, kid = _key(vault, recovery=recovery)
    pins_verify(vault, port)
    upload_id, nonce, content = new_upload_id(), secrets.token_bytes(NONCE_BYTES), secrets.token_bytes(CONTENT_BYTES)
    files = _sealed(vault, jwk, upload_id, nonce, content)
    for name, sealed in files.items():
        stored = _stored(name, sealed)
        port.put(upload_id, name, io.BytesIO(sealed), size_bytes=stored.size_bytes, sha256=stored.sha256)
    _committed(vault, port, upload_id, files)
    proof = canary_proof(nonce, content, upload_id=upload_id, kid=kid)
    with transaction.atomic():
        row = Vault.objects.select_for_update().get(pk=vault.pk)
        if _pinned(row, recovery=recovery) != jwk:
            raise PinError("The key was changed meanwhile. Send another canary.", code="key-changed")
        sent = {"upload_id": upload_id, "proof_sha256": proof_digest(proof), "sent_at": database_now()}
        Vault.objects.filter(pk=vault.pk).update(**{_field(name, recovery): value for name, value in sent.items()})
        _audited(vault, actor, "canary sent", kid, upload_id=upload_id)
    vault.refresh_from_db()
    return upload_id


def canary_prove(vault: Vault, proof: str, *, actor: str, recovery: bool = False) -> None:
    """The key's holder has opened the canary: it is proved for as long as it is known. Raises PinError, audited."""
    with transaction.atomic():
        row = Vault.objects.select_for_update().get(pk=vault.pk)
        _jwk, kid = _key(row, recovery=recovery)
        upload_id, expected, proved_at = (
            getattr(row, _field(name, recovery)) for name in ("upload_id", "proof_sha256", "proved_at")
        )
        good = bool(expected) and hmac.compare_digest(expected, proof_digest(proof))
        if good:
            moment = database_now()
            setattr(row, _field("proved_at", recovery), proved_at or moment)
            row.proved_keys = {kid: moment.isoformat(), **row.proved_keys}
            row.save(update_fields=[_field("proved_at", recovery), "proved_keys"])
            _audited(row, actor, "canary proved", kid, upload_id=upload_id)
    if not good:
        _audited(vault, actor, "canary proof refused", kid, outcome="failure", upload_id=upload_id)
        if not expected:
            raise PinError("No canary was sent for this key. Send one first.", code="canary-missing")
        raise PinError(
            "This is not the proof of the canary that was sent last. Let the key's holder open that one.",
            code="proof-wrong",
        )
    vault.refresh_from_db()


def _field(name: str, recovery: bool) -> str:
    return f"recovery_canary_{name}" if recovery else f"canary_{name}"


def _pinned(vault: Vault, *, recovery: bool) -> dict[str, str] | None:
    jwk: dict[str, str] | None = vault.recovery_jwk if recovery else vault.recipient_jwk
    return jwk


def _key(vault: Vault, *, recovery: bool) -> tuple[dict[str, str], str]:
    jwk = _pinned(vault, recovery=recovery)
    if jwk is None:
        raise PinError("No recovery key is pinned. Pin it first, with its fingerprint.", code="recovery-missing")
    return jwk, thumbprint(jwk)


def _sealed(vault: Vault, jwk: Mapping[str, object], upload_id: str, nonce: bytes, content: bytes) -> dict[str, bytes]:
    run = SealingRun.start(
        upload_id=upload_id,
        recipients=[jwk],
        gateway_id=gateway_id_at(vault),
        vault_id=vault.vault_id,
    )
    sink = io.BytesIO()
    sealed = run.seal(io.BytesIO(content), sink, file_id=secrets.token_hex(16))
    document: dict[str, object] = {
        "version": 1,
        "upload_id": upload_id,
        "canary": {
            "nonce": base64url_encode(nonce),
            "name": FILE_NAME,
            "size_bytes": sealed.content_size_bytes,
            "sha256": sealed.content_sha256,
        },
    }
    files = {each.name: each.content for each in run.key_documents}
    files[FILE_NAME] = sink.getvalue()
    files["map.jwe"] = run.seal_document(document, kind="map", identity=identity_ensure())
    return files


def _committed(vault: Vault, port: VaultPort, upload_id: str, files: dict[str, bytes]) -> None:
    commitment = Commitment(
        upload_id=upload_id,
        gateway_id=gateway_id_at(vault),
        vault_id=vault.vault_id,
        map_sha256=_stored("map.jwe", files["map.jwe"]).sha256,
        files=tuple(_stored(name, content) for name, content in sorted(files.items())),
    )
    token = commitment_sign(commitment, identity=identity_ensure())
    receipt = port.commit(upload_id, token)
    try:
        receipt_verify(receipt, vault.receipt_jwk, commitment_token=token, commitment=commitment)
    except EnvelopeError as error:
        raise PinError("The vault's receipt does not hold. Ask its operator.", code="receipt-invalid") from error


def _stored(name: str, content: bytes) -> StoredFile:
    return StoredFile(name, len(content), hashlib.sha256(content).hexdigest())


def _audited(vault: Vault, actor: str, action: str, kid: str, *, outcome: str = "success", **detail: object) -> None:
    audit_record(
        AuditEventType.CONFIGURATION,
        actor=actor,
        subject=f"vault:{vault.pk}",
        detail={"action": action, "recipient_key_id": kid, **detail},
        outcome=outcome,
    )
    logger.info("vault canary", extra={"vault": vault.pk, "action": action})
