"""The demonstration vault: runs beside the gateway with keys made at first start, until a real vault is set up.

The recipient's private key lies in a folder of its own (0600), which no process of the gateway reads: only the recipient's
tool does. Its receipts never allow deletion.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from gateway_project.core.options import option
from uploads.envelope.keys import jwk_from_key, key_generate, private_key_read, private_key_write
from uploads.models import Vault
from uploads.services.identity import identity_jwk
from uploads.services.vaults import vault_ensure
from uploads.vault.registry import gateway_register, recipient_register, vault_create, vault_signing_key

NAME = "demonstration"


@dataclass(frozen=True)
class Demonstration:
    """Where it lives. `recipient_key` is for the recipient's tool alone."""

    vault_id: str
    vault: Path
    recipient_key: Path
    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def demonstration_places() -> Demonstration:
    data = Path(settings.DATA_DIR)
    return Demonstration(
        vault_id=f"{option('INSTANCE.ID')}-{NAME}",
        vault=data / "vault",
        recipient_key=data / "demonstration-recipient" / "recipient.pem",
        port=option("VAULT_SERVER.PORT"),
    )


def demonstration_wanted() -> bool:
    """While it is not switched off and no real vault is set up."""
    return bool(option("VAULT_SERVER.ENABLED")) and not Vault.objects.filter(enabled=True, demonstration=False).exists()


def demonstration_prepare() -> Demonstration | None:
    """Makes vault, keys and pins when they are wanted and not there yet; switches the vault's row off when they are not.

    May be repeated and killed anywhere: each step looks for what is there.
    """
    if not demonstration_wanted():
        Vault.objects.filter(demonstration=True, enabled=True).update(enabled=False)
        return None
    places = demonstration_places()
    vault_create(places.vault, vault_id=places.vault_id, demonstration=True)
    places.recipient_key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not places.recipient_key.exists():
        private_key_write(places.recipient_key, key_generate())
    recipient_jwk = jwk_from_key(private_key_read(places.recipient_key))
    recipient_register(places.vault, recipient_jwk)
    token = secrets.token_urlsafe(32)
    gateway_register(places.vault, gateway_id=str(option("INSTANCE.ID")), token=token, jwk=identity_jwk())
    vault_ensure(
        NAME,
        base_url=places.base_url,
        vault_id=places.vault_id,
        recipient_jwk=recipient_jwk,
        receipt_jwk=jwk_from_key(vault_signing_key(places.vault)),
        token=token,
        actor="process:first-start",
        demonstration=True,
    )
    return places
