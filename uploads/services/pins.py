"""Whose keys count: compared by people, pinned here, changed only by them or under the recipient's own signature."""

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import transaction

from gateway_project.core.clock import database_now
from gateway_project.core.errors import GatewayError, JobFault
from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.jobs import job_note
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import fingerprint, fingerprint_matches, jwk_from_key, key_from_jwk, thumbprint
from uploads.envelope.rotation import Rotation, rotation_verify
from uploads.models import UploadJob, Vault
from uploads.ports import VaultPort
from uploads.services.anew import KEY_ROTATED

logger = logging.getLogger(__name__)


class PinError(GatewayError):
    """A key was not pinned; nothing has changed."""

    code = "pin-refused"


@dataclass(frozen=True)
class Offer:
    """What a vault shows now. Nothing of it counts before somebody has compared it."""

    vault_id: str
    demonstration: bool
    receipt_jwk: dict[str, str]
    recipient_jwk: dict[str, str]


@dataclass(frozen=True)
class PinRow:
    """One thing as it is pinned and as the vault shows it; keys as fingerprints. `offered` is None: not its to show."""

    what: str
    pinned: str
    offered: str | None = None

    @property
    def same(self) -> bool:
        """Whether there is nothing to stop for."""
        return self.offered is None or self.offered == self.pinned

    def __str__(self) -> str:
        offered = "" if self.offered is None else f", offered {self.offered}"
        return f"{self.what}: pinned {self.pinned}{offered}"


def offer_fetch(vault: VaultPort, *, recipient_key_id: str) -> Offer:
    """Asks the vault who it is, and for the recipient's key by its id. Raises VaultError, or PinError for another key
    than that of the id.
    """
    description = vault.describe()
    jwk = vault.recipient_key(recipient_key_id)
    if key_id(jwk) != recipient_key_id:
        raise PinError("The vault gave another key than the one of this id. Ask the recipient.", code="key-differs")
    return Offer(description.vault_id, description.demonstration, description.receipt_jwk, jwk)


def pin_rows(vault: Vault, offer: Offer | None) -> list[PinRow]:
    """The vault's pins beside what it offers, for a person to compare."""
    recipient, receipt = (
        (fingerprint_shown(offer.recipient_jwk), fingerprint_shown(offer.receipt_jwk)) if offer else (None, None)
    )
    return [
        PinRow("vault id", vault.vault_id, offer.vault_id if offer else None),
        PinRow("recipient key", fingerprint_shown(vault.recipient_jwk), recipient),
        PinRow("receipt key", fingerprint_shown(vault.receipt_jwk), receipt),
        PinRow("recovery key", fingerprint_shown(vault.recovery_jwk)),
        PinRow("signing key", fingerprint_shown(vault.signing_jwk)),
    ]


def pins_verify(vault: Vault, port: VaultPort) -> None:
    """The vault must still show the recipient's and its own key as they were pinned; otherwise the lane is held."""
    description = port.describe()
    same = (description.vault_id, description.demonstration) == (vault.vault_id, vault.demonstration)
    if not same or key_id(description.receipt_jwk) != key_id(vault.receipt_jwk):
        raise JobFault(
            "The vault shows another identity than the one pinned. Nothing was sent. "
            "Ask its operator before you resume.",
            code="vault-identity-differs",
            hard_stop=True,
        )
    if key_id(port.recipient_key(vault.recipient_key_id)) != vault.recipient_key_id:
        raise JobFault(
            "The vault offers another recipient key than the one pinned. Nothing was sent. "
            "Compare fingerprints before you resume.",
            code="recipient-key-differs",
            hard_stop=True,
        )


def recipients_settle(job: UploadJob) -> list[dict[str, str]]:
    """Who a sealing run of this job is for, by the pins of this moment; noted with the job, fenced by its claim.

    An upload is sealed for the same recipients from its first octet to its last: when the pins have changed since its
    first run, JobFault `recipient-key-rotated`, and it is begun anew.
    """
    with transaction.atomic():
        vault = Vault.objects.select_for_update().get(pk=job.vault_id)
        recipients = [vault.recipient_jwk, *([vault.recovery_jwk] if vault.recovery_jwk else [])]
        key_ids = " ".join(thumbprint(jwk) for jwk in recipients)
        if job.recipient_key_ids and job.recipient_key_ids != key_ids:
            raise JobFault(
                "The recipient's key was changed while this upload was under way. It is sealed again for the new one.",
                code=KEY_ROTATED,
            )
        job_note(job, recipient_key_ids=key_ids)
    return recipients


def recipient_repin(vault: Vault, jwk: Mapping[str, object], *, expected_fingerprint: str, actor: str) -> None:
    """From now on this key of the recipient counts, because a person has compared its fingerprint. Raises PinError."""
    public = key_compared(jwk, expected_fingerprint)
    with _pins_changed(vault, actor=actor) as change:
        change.recipient(public, by="compared fingerprint")


def receipt_repin(vault: Vault, jwk: Mapping[str, object], *, expected_fingerprint: str, actor: str) -> None:
    """From now on this key verifies the vault's receipts; what the earlier one has signed still counts. Raises
    PinError.
    """
    public = key_compared(jwk, expected_fingerprint)
    with _pins_changed(vault, actor=actor) as change:
        old = change.row.receipt_jwk
        if old and key_id(old) != thumbprint(public):
            change.row.earlier_receipt_keys = {**change.row.earlier_receipt_keys, key_id(old): old}
        change.row.receipt_jwk = public
        change.note("receipt key changed", from_jwk=old, to_key_id=thumbprint(public))


def recovery_pin(vault: Vault, jwk: Mapping[str, object] | None, *, expected_fingerprint: str, actor: str) -> None:
    """From now on studies are sealed for this offline key too; None: no more. Raises PinError."""
    public = key_compared(jwk, expected_fingerprint) if jwk is not None else None
    with _pins_changed(vault, actor=actor) as change:
        if public is not None and thumbprint(public) == change.row.recipient_key_id:
            raise PinError("The recovery key is the recipient's own. Make another, and keep it offline.")
        change.recovery(public)
        change.note("recovery key changed", to_key_id=thumbprint(public) if public else "")


def signing_pin(vault: Vault, jwk: Mapping[str, object] | None, *, expected_fingerprint: str, actor: str) -> None:
    """From now on statements under this key of the recipient may change its key; None: none may. Raises PinError."""
    public = key_compared(jwk, expected_fingerprint) if jwk is not None else None
    with _pins_changed(vault, actor=actor) as change:
        if public is not None and key_id(public) == key_id(change.row.receipt_jwk):
            raise PinError("This is the vault's own key, which never speaks for the recipient.")
        change.row.signing_jwk = public
        change.note("signing key changed", to_key_id=thumbprint(public) if public else "")


def rotation_apply(vault: Vault, statement: str, *, actor: str) -> None:
    """From now on the key counts that the recipient's signed statement names. Raises PinError, which is audited too.

    Only under the pinned signing key, for this vault, from the key that is pinned now, with a higher serial than any
    before: a replayed or an older statement changes nothing.
    """
    try:
        with _pins_changed(vault, actor=actor) as change:
            rotation = _statement(statement, change.row)
            change.row.rotation_serial = rotation.serial
            change.recipient(rotation.recipient_jwk, by="recipient's statement", serial=rotation.serial)
    except PinError as error:
        detail = {"action": "rotation refused", "code": error.code}
        subject = f"vault:{vault.pk}"
        audit_record(AuditEventType.SECURITY_ALERT, actor=actor, subject=subject, detail=detail, outcome="failure")
        raise


def key_compared(jwk: Mapping[str, object], expected_fingerprint: str) -> dict[str, str]:
    """The public key, proved to be the one whose fingerprint a person was told. Raises PinError."""
    try:
        public = jwk_from_key(key_from_jwk(jwk))
    except EnvelopeError as error:
        raise PinError(str(error), code=error.code) from error
    if not fingerprint_matches(expected_fingerprint, {**public}):
        raise PinError(
            "The fingerprint is not this key's. Compare it again with the key's owner, by another way than the one "
            "that the key came by.",
            code="fingerprint-differs",
        )
    return public


def key_id(jwk: Mapping[str, object] | None) -> str:
    """The key's thumbprint; empty for what is no key of ours at all, which no pin equals."""
    try:
        return thumbprint(jwk or {})
    except EnvelopeError:
        return ""


def fingerprint_shown(jwk: Mapping[str, object] | None) -> str:
    """The fingerprint for people, or that there is none."""
    if not jwk:
        return "none"
    try:
        return fingerprint(jwk)
    except EnvelopeError:
        return "no usable key"


class _Change:
    """The vault's row, locked, while its pins change."""

    def __init__(self, row: Vault, actor: str) -> None:
        self.row = row
        self._actor = actor

    def recipient(self, jwk: dict[str, str], **detail: object) -> None:
        row, kid = self.row, thumbprint(jwk)
        if kid == row.recipient_key_id:
            raise PinError("This key is pinned already.", code="pinned-already")
        if row.demonstration:
            raise PinError("The demonstration vault keeps the key that it was made with.")
        if kid == key_id(row.recovery_jwk):
            raise PinError("This is the recovery key. The recipient needs one of its own.")
        old = row.recipient_key_id
        row.recipient_jwk, row.recipient_key_id, row.recipient_pinned_at = jwk, kid, database_now()
        row.canary_upload_id = row.canary_proof_sha256 = ""
        row.canary_sent_at = None
        row.canary_proved_at = self._proved_at(kid)
        self.note("recipient key changed", from_key_id=old, to_key_id=kid, **detail)

    def recovery(self, jwk: dict[str, str] | None) -> None:
        row = self.row
        row.recovery_jwk = jwk
        row.recovery_canary_upload_id = row.recovery_canary_proof_sha256 = ""
        row.recovery_canary_sent_at = None
        row.recovery_canary_proved_at = self._proved_at(thumbprint(jwk)) if jwk is not None else None

    def _proved_at(self, kid: str) -> dt.datetime | None:
        proved_at = self.row.proved_keys.get(kid)
        return dt.datetime.fromisoformat(proved_at) if proved_at else None

    def note(self, action: str, **detail: object) -> None:
        self.row.save()
        subject = f"vault:{self.row.pk}"
        audit_record(
            AuditEventType.CONFIGURATION, actor=self._actor, subject=subject, detail={"action": action, **detail}
        )
        logger.info("vault pins changed", extra={"vault": self.row.pk, "action": action})


@contextmanager
def _pins_changed(vault: Vault, *, actor: str) -> Iterator[_Change]:
    """The row under its lock; on return, and only then, the caller's object shows what was written."""
    with transaction.atomic():
        change = _Change(Vault.objects.select_for_update().get(pk=vault.pk), actor)
        yield change
    vault.refresh_from_db()


def _statement(statement: str, row: Vault) -> Rotation:
    if row.signing_jwk is None:
        raise PinError("No signing key of the recipient is pinned. Pin it first, with its fingerprint.")
    try:
        rotation = rotation_verify(statement, row.signing_jwk)
    except EnvelopeError as error:
        raise PinError(f"The statement does not hold: {error}", code=f"rotation-{error.code}") from error
    if rotation.vault_id != row.vault_id:
        raise PinError("The statement is for another vault.", code="rotation-mismatch")
    if rotation.serial <= row.rotation_serial:
        raise PinError("A statement of this or a later serial was taken already.", code="rotation-rollback")
    if rotation.from_kid != row.recipient_key_id:
        raise PinError("The statement is from another key than the pinned one.", code="rotation-mismatch")
    return rotation
