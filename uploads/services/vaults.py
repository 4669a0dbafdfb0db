"""Vaults: set up with what is pinned, spoken to through the Vault port."""

import copy
import logging
import secrets
from collections.abc import Mapping
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEventType, Lane
from gateway_project.core.options import option
from gateway_project.core.secrets import SecretError, secret_decrypt, secret_encrypt
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.lanes import lane_ensure, lane_pause, lane_resume, lane_wait
from uploads.client import VaultClient
from uploads.envelope.encoding import PARTY_ID
from uploads.envelope.keys import key_from_jwk, thumbprint
from uploads.models import Transport, Vault
from uploads.ports import ArchivePort, VaultError
from uploads.services.limits import vault_block_bytes, vault_slowest
from uploads.services.pins import Offer, PinError, key_compared, pins_verify
from uploads.ways import way_check

logger = logging.getLogger(__name__)

NAME_MOST = 60
SETTINGS_NAME = "default"
"""Of the vault that VAULT.BASE_URL and the settings beside it set up."""
ASKED_SECONDS = 20.0
"""How long a vault may take to answer a person, who waits for it; workers have VAULT.HTTP_SECONDS."""


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
            gateway_id=str(option("INSTANCE.ID")),
            recipient_key_id=thumbprint(recipient_jwk),
            recipient_jwk=dict(recipient_jwk),
            receipt_jwk=dict(receipt_jwk),
            token=secret_encrypt(token),
            demonstration=demonstration,
            lane=vault_lane(name),
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


def vault_lane(name: str) -> Lane:
    """The lane of a new vault of that name; a vault that had the name before keeps its own."""
    key = f"vault:{name}"
    if Vault.objects.filter(lane__name=key).exists():
        key = f"{key}:{secrets.token_hex(4)}"
    return lane_ensure(key, title=f"Vault {name}")


def vault_renamed(vault: Vault) -> None:
    """Its lane, which alerts and pages name, is called after it too."""
    Lane.objects.filter(pk=vault.lane_id).update(title=f"Vault {vault.name}")


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
    ca: str = "",
    proxy: str = "",
) -> Vault:
    """A new vault, pinned as it was offered, because a person has compared both fingerprints. Raises PinError.

    `ca` and `proxy` are the way by which the offer came.
    """
    if Vault.objects.filter(name=name).exists():
        raise PinError(f"There is a vault {name} already. Its keys are changed, not added.", code="vault-exists")
    if not 1 <= len(name.strip()) <= NAME_MOST:
        raise PinError(f"A vault's name has from 1 to {NAME_MOST} characters.")
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
        way = {"ca": ca, "proxy": secret_encrypt(proxy) if proxy else ""}
        Vault.objects.filter(pk=vault.pk).update(required=required, **way)
    vault.refresh_from_db()
    return vault


def vault_locked(vault: Vault) -> bool:
    """Whether the settings hold its address and its token."""
    return vault.name == SETTINGS_NAME and bool(option("VAULT.BASE_URL"))


def vault_access_set(
    vault: Vault,
    *,
    base_url: str = "",
    token: str = "",
    ca: str | None = None,
    proxy: str | None = None,
    gateway_id: str = "",
    actor: str,
    by_settings: bool = False,
) -> None:
    """From now on the vault is reached so: at another address, with another token, through another authority or proxy,
    under another name of ours.

    Only after the vault that answers so has shown what is pinned, and has taken the token. What is empty (None for
    `ca` and `proxy`) stays as it is; a held lane waits until a person resumes it. Raises PinError, VaultError or
    JobFault, and has changed nothing then.
    """
    if vault.transport == Transport.STOW:
        raise PinError("A DICOMweb server is changed on its own page: DICOMweb vaults.")
    if vault.demonstration:
        raise PinError("The demonstration vault keeps the address and the token that it was made with.")
    if vault_locked(vault) and not by_settings and (base_url or token):
        words = "Address and token of this vault are those of VAULT.BASE_URL and VAULT.BEARER_TOKEN: change them there."
        raise PinError(words, code="vault-locked")
    way_check(proxy=proxy, ca=ca or "")
    if gateway_id and not PARTY_ID.fullmatch(gateway_id):
        raise PinError("A gateway's id is 1 to 128 of A-Z, a-z, 0-9, dot, underscore, colon and hyphen.")
    new = {"base_url": base_url or None, "token": secret_encrypt(token) if token else None, "ca": ca}
    new |= {"proxy": proxy and secret_encrypt(proxy), "gateway_id": gateway_id or None}
    changed = {name: value for name, value in new.items() if value is not None}
    trial = copy.copy(vault)
    for name, value in changed.items():
        setattr(trial, name, value)
    pins_verify(trial, vault_client(trial, asked=True))
    with transaction.atomic():
        Vault.objects.filter(pk=vault.pk).update(**changed)
        said = {"action": "way to the vault changed", "changed": sorted(changed)}
        told = {"base_url": base_url, "gateway_id": gateway_id}
        detail = said | {name: value for name, value in told.items() if value}
        audit_record(AuditEventType.CONFIGURATION, actor=actor, subject=f"vault:{vault.pk}", detail=detail)
    vault.refresh_from_db()
    logger.info("way to a vault changed", extra={"vault": vault.pk, "changed": sorted(changed)})


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


def vault_client(vault: Vault, *, asked: bool = False) -> ArchivePort:
    """How this vault is spoken to; `asked`: by a person, who waits for the answer. What is wrong with its settings is
    no study's fault: JobFault, the lane waits.
    """
    patience_seconds = float(option("VAULT.HTTP_SECONDS"))
    try:
        token = secret_decrypt(vault.token)
        proxy = secret_decrypt(vault.proxy) if vault.proxy else None
        return VaultClient(
            vault.base_url,
            token=token,
            timeout_seconds=min(patience_seconds, ASKED_SECONDS) if asked else patience_seconds,
            ca=vault.ca,
            proxy=proxy,
            slowest_bytes_per_second=vault_slowest(vault),
            block_bytes=vault_block_bytes(vault),
        )
    except SecretError as error:
        words = (
            "The vault's token or proxy cannot be read: restore keys/config.key or enter the token again, then resume."
        )
        raise JobFault(words, code=error.code, hard_stop=True) from error
    except VaultError as error:
        raise JobFault(str(error), code=error.code, hard_stop=True) from error
