"""Vaults: set up with what is pinned, spoken to through the Vault port."""

import logging
from collections.abc import Mapping
from copy import copy
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.secrets import SecretError, secret_decrypt, secret_encrypt
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.lanes import lane_ensure, lane_pause, lane_resume, lane_wait
from uploads.client import SLOWEST_BYTES_PER_SECOND, VaultClient
from uploads.envelope.keys import key_from_jwk, thumbprint
from uploads.models import Vault
from uploads.ports import ArchivePort, VaultError
from uploads.services.limits import vault_share
from uploads.services.pins import Offer, PinError, key_compared, offer_fetch, pin_rows
from uploads.ways import way_check

logger = logging.getLogger(__name__)

FILES_AT_ONCE_MOST = 4


def vault_ensure(
    name: str,
    *,
    base_url: str,
    vault_id: str,
    recipient_jwk: Mapping[str, object],
    receipt_jwk: Mapping[str, object],
    token: str,
    actor: str,
    demonstration: bool = False,
) -> Vault:
    """The vault of that name, made with these pins, or its address and token brought up to date.

    The pins of a known vault are never replaced here. Raises EnvelopeError for a key that is not P-521.
    """
    key_from_jwk(recipient_jwk)
    key_from_jwk(receipt_jwk)
    with transaction.atomic():
        vault = Vault.objects.filter(name=name).first()
        if vault is not None:
            vault.base_url, vault.token = base_url, secret_encrypt(token)
            vault.save(update_fields=["base_url", "token"])
            return vault
        vault = Vault.objects.create(
            name=name,
            base_url=base_url,
            vault_id=vault_id,
            recipient_key_id=thumbprint(recipient_jwk),
            recipient_jwk=dict(recipient_jwk),
            receipt_jwk=dict(receipt_jwk),
            token=secret_encrypt(token),
            demonstration=demonstration,
            lane=lane_ensure(f"vault:{name}", title=f"Vault {name}"),
            created_at=timezone.now(),
        )
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor,
            subject=f"vault:{vault.pk}",
            detail={"action": "pinned", "recipient_key_id": vault.recipient_key_id, "demonstration": demonstration},
        )
    logger.info("vault pinned", extra={"vault": vault.pk, "recipient_key_id": vault.recipient_key_id})
    return vault


def vault_add(
    name: str,
    *,
    base_url: str,
    token: str,
    offer: Offer,
    recipient_fingerprint: str,
    receipt_fingerprint: str,
    actor: str,
    required: bool = True,
) -> Vault:
    """A new vault, pinned as it was offered, because a person has compared both fingerprints. Raises PinError."""
    if Vault.objects.filter(name=name).exists():
        raise PinError(f"There is a vault {name} already. Its keys are changed, not added.", code="vault-exists")
    if offer.demonstration:
        raise PinError("This vault calls itself a demonstration; nothing real belongs there.", code="demonstration")
    recipient = key_compared(offer.recipient_jwk, recipient_fingerprint)
    receipt = key_compared(offer.receipt_jwk, receipt_fingerprint)
    with transaction.atomic():
        vault = vault_ensure(
            name,
            base_url=base_url,
            vault_id=offer.vault_id,
            recipient_jwk=recipient,
            receipt_jwk=receipt,
            token=token,
            actor=actor,
        )
        Vault.objects.filter(pk=vault.pk).update(required=required)
    vault.refresh_from_db()
    return vault


def vault_reach(vault: Vault, *, base_url: str = "", token: str = "", actor: str) -> Offer:
    """Another address or token for a vault that is set up, once it was tried: the same vault must answer there, with
    the keys that are pinned. Answers what it offers; its lane stays as it is.

    Raises VaultError, JobFault or PinError, and nothing is changed.
    """
    tried = {"base_url": base_url, "token": secret_encrypt(token) if token else ""}
    changed = {name: value for name, value in tried.items() if value}
    candidate = copy(vault)
    for name, value in changed.items():
        setattr(candidate, name, value)
    offer = offer_fetch(vault_client(candidate), recipient_key_id=vault.recipient_key_id)
    if not all(row.same for row in pin_rows(vault, offer)):
        raise PinError("What answers there has other keys than those pinned. Nothing was changed.", code="key-differs")
    with transaction.atomic():
        Vault.objects.filter(pk=vault.pk).update(**changed)
        what = " and ".join(label for name, label in (("base_url", "address"), ("token", "token")) if name in changed)
        audit_record(
            AuditEventType.CONFIGURATION, actor=actor, subject=f"vault:{vault.pk}", detail={"action": f"{what} changed"}
        )
    vault.refresh_from_db(fields=list(changed))
    return offer


def vault_switch(vault: Vault, *, enabled: bool, actor: str) -> None:
    """Off: nothing more is planned for the vault, and what is planned waits in its paused lane. On: it flows again."""
    with transaction.atomic():
        if not Vault.objects.filter(pk=vault.pk, enabled=not enabled).update(enabled=enabled):
            return
        if enabled:
            lane_resume(vault.lane, actor=actor, now=timezone.now())
        else:
            lane_pause(vault.lane, actor=actor, now=timezone.now())
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor,
            subject=f"vault:{vault.pk}",
            detail={"action": "switched on" if enabled else "switched off"},
        )
    vault.enabled = enabled


def vault_way_set(vault: Vault, *, proxy: str | None, actor: str, now: datetime) -> None:
    """What a person changed of the way to a vault takes effect: `proxy` is a new address, "" takes it away, None keeps.

    The lane asks for its time windows anew. Raises VaultError, and writes nothing, for what cannot be used.
    """
    way_check(proxy=proxy, ca=vault.ca)
    with transaction.atomic():
        if proxy is not None:
            vault.proxy = secret_encrypt(proxy) if proxy else ""
            Vault.objects.filter(pk=vault.pk).update(proxy=vault.proxy)
            detail = {"action": "proxy set" if proxy else "proxy taken away"}
            audit_record(AuditEventType.CONFIGURATION, actor=actor, subject=f"vault:{vault.pk}", detail=detail)
        lane_wait(vault.lane_id, until=None, now=now)


def vault_client(vault: Vault) -> ArchivePort:
    """How this vault is spoken to. What is wrong with its settings is no study's fault: JobFault, the lane waits."""
    try:
        token = secret_decrypt(vault.token)
        proxy = secret_decrypt(vault.proxy) if vault.proxy else None
        share = vault_share(vault)
        return VaultClient(
            vault.base_url,
            token=token,
            timeout_seconds=option("VAULT.HTTP_SECONDS"),
            ca=vault.ca,
            proxy=proxy,
            slowest_bytes_per_second=min(SLOWEST_BYTES_PER_SECOND, share / FILES_AT_ONCE_MOST / 2)
            if share
            else SLOWEST_BYTES_PER_SECOND,
        )
    except SecretError as error:
        words = (
            "The vault's token or proxy cannot be read: restore keys/config.key or enter the token again, then resume."
        )
        raise JobFault(words, code=error.code, hard_stop=True) from error
    except VaultError as error:
        raise JobFault(str(error), code=error.code, hard_stop=True) from error
