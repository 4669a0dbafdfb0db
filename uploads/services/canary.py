"""The canary: a small upload whose content only the recipient can read, so that a proof of it shows that somebody can.

A receipt proves that a vault stores something; that a private key opens it, only its holder can show. What we keep of
the proof is its hash.
"""

import hashlib
import hmac
import io
import logging
import secrets

from django.db import transaction

from gateway_project.core.clock import database_now
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.audit import audit_record
from uploads.envelope.canary import NONCE_BYTES, canary_proof, proof_digest
from uploads.envelope.encoding import base64url_encode
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.receipt import Commitment, StoredFile, commitment_sign, receipt_verify
from uploads.envelope.seal import SealingRun
from uploads.models import Vault, new_upload_id
from uploads.ports import VaultPort
from uploads.services.identity import identity_ensure
from uploads.services.pins import PinError, pins_verify

logger = logging.getLogger(__name__)

CONTENT_BYTES = 4096
FILE_NAME = "file-00001.gve"


def canary_send(vault: Vault, port: VaultPort, *, actor: str) -> str:
    """Seals a canary for the pinned recipient alone, uploads it, verifies the receipt; returns its upload id.

    The one before it counts no more. Raises JobFault for another identity or key than pinned, VaultError, and PinError
    for a receipt that does not hold or a key that was changed meanwhile. What a crash leaves at the vault is of no use.
    """
    pins_verify(vault, port)
    upload_id, nonce, content = new_upload_id(), secrets.token_bytes(NONCE_BYTES), secrets.token_bytes(CONTENT_BYTES)
    files = _sealed(vault, upload_id, nonce, content)
    for name, sealed in files.items():
        stored = _stored(name, sealed)
        port.put(upload_id, name, io.BytesIO(sealed), size_bytes=stored.size_bytes, sha256=stored.sha256)
    _committed(vault, port, upload_id, files)
    proof = canary_proof(nonce, content, upload_id=upload_id, kid=vault.recipient_key_id)
    with transaction.atomic():
        written = Vault.objects.filter(pk=vault.pk, recipient_key_id=vault.recipient_key_id).update(
            canary_upload_id=upload_id, canary_proof_sha256=proof_digest(proof), canary_sent_at=database_now()
        )
        if not written:
            raise PinError("The recipient's key was changed meanwhile. Send another canary.", code="key-changed")
        _audited(vault, actor, "canary sent", upload_id=upload_id)
    vault.refresh_from_db()
    return upload_id


def canary_prove(vault: Vault, proof: str, *, actor: str) -> None:
    """The recipient has opened the canary: its key is proved for as long as it is known. Raises PinError, audited."""
    with transaction.atomic():
        row = Vault.objects.select_for_update().get(pk=vault.pk)
        expected = row.canary_proof_sha256
        good = bool(expected) and hmac.compare_digest(expected, proof_digest(proof))
        if good:
            moment = database_now()
            row.canary_proved_at = row.canary_proved_at or moment
            row.proved_keys = {row.recipient_key_id: moment.isoformat(), **row.proved_keys}
            row.save(update_fields=["canary_proved_at", "proved_keys"])
            _audited(row, actor, "canary proved", upload_id=row.canary_upload_id)
    if not good:
        _audited(vault, actor, "canary proof refused", outcome="failure", upload_id=row.canary_upload_id)
        if not expected:
            raise PinError("No canary was sent for this key. Send one first.", code="canary-missing")
        raise PinError(
            "This is not the proof of the canary that was sent last. Let the recipient open that one.",
            code="proof-wrong",
        )
    vault.refresh_from_db()


def _sealed(vault: Vault, upload_id: str, nonce: bytes, content: bytes) -> dict[str, bytes]:
    run = SealingRun.start(
        upload_id=upload_id,
        recipients=[vault.recipient_jwk],
        gateway_id=str(option("INSTANCE.ID")),
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
        gateway_id=str(option("INSTANCE.ID")),
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


def _audited(vault: Vault, actor: str, action: str, *, outcome: str = "success", **detail: object) -> None:
    audit_record(
        AuditEventType.CONFIGURATION,
        actor=actor,
        subject=f"vault:{vault.pk}",
        detail={"action": action, "recipient_key_id": vault.recipient_key_id, **detail},
        outcome=outcome,
    )
    logger.info("vault canary", extra={"vault": vault.pk, "action": action})
