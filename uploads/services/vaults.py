"""Vaults: set up with what is pinned, spoken to through the Vault port."""

import logging
from collections.abc import Mapping

from django.db import transaction
from django.utils.timezone import now

from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.secrets import secret_decrypt, secret_encrypt
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.lanes import lane_ensure
from uploads.client import VaultClient
from uploads.envelope.keys import key_from_jwk, thumbprint
from uploads.models import Vault
from uploads.ports import VaultPort

logger = logging.getLogger(__name__)


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
            created_at=now(),
        )
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor,
            subject=f"vault:{vault.pk}",
            detail={"action": "pinned", "recipient_key_id": vault.recipient_key_id, "demonstration": demonstration},
        )
    logger.info("vault pinned", extra={"vault": vault.pk, "recipient_key_id": vault.recipient_key_id})
    return vault


def vault_client(vault: Vault) -> VaultPort:
    """How this vault is spoken to."""
    return VaultClient(vault.base_url, token=secret_decrypt(vault.token), timeout_seconds=option("VAULT.HTTP_SECONDS"))
