"""The demonstration vault: runs beside the gateway with keys made at first start, until a real vault is set up.

The recipient's private key lies in a folder of its own (0600). The gateway makes it and pins its public half; from then
on only the recipient's tool reads it. Its receipts never allow deletion.
"""

import logging
import secrets
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from gateway_project.core.machine import database_is_shared
from gateway_project.core.options import option
from gateway_project.core.secrets import SecretError, secret_decrypt
from uploads.envelope.keys import jwk_from_key, key_generate, private_key_read, private_key_write
from uploads.models import Vault
from uploads.selectors import gateway_id_at
from uploads.services.identity import identity_jwk
from uploads.services.vaults import vault_ensure, vault_switch
from uploads.vault.errors import VaultStoreError
from uploads.vault.registry import (
    gateway_register,
    recipient_register,
    token_usable,
    vault_create,
    vault_identity,
    vault_receipt_jwk,
)

logger = logging.getLogger(__name__)

NAME = "demonstration"
ACTOR = "process:first-start"


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
        vault_id=_vault_id(data / "vault"),
        vault=data / "vault",
        recipient_key=data / "demonstration-recipient" / "recipient.pem",
        port=option("VAULT_SERVER.PORT"),
    )


def demonstration_wanted() -> bool:
    """While it is not switched off and no real vault was ever pinned: a real one that rests does not bring it back."""
    return bool(option("VAULT_SERVER.ENABLED")) and not Vault.objects.filter(demonstration=False).exists()


def demonstration_prepare() -> Demonstration | None:
    """Makes vault, keys and pins when they are wanted and not there yet; switches the vault off when they are not.

    May be repeated and killed anywhere: each step looks for what is there. Keys and token stay what they are, so that
    an upload under way at that moment is not disturbed.
    """
    known = Vault.objects.filter(demonstration=True).select_related("lane").first()
    places = demonstration_places()
    if known is not None and database_is_shared() and not places.vault.exists():
        return None  # another machine's: it runs there
    if not demonstration_wanted():
        if known is not None:
            vault_switch(known, enabled=False, actor=ACTOR)
        return None
    vault_create(places.vault, vault_id=places.vault_id, demonstration=True)
    recipient_jwk = known.recipient_jwk if known is not None else _recipient_jwk(places)
    recipient_register(places.vault, recipient_jwk)
    token = _token(known)
    gateway_id = gateway_id_at(known) if known is not None else str(option("INSTANCE.ID"))
    gateway_register(places.vault, gateway_id=gateway_id, token=token, jwk=identity_jwk())
    vault = vault_ensure(
        NAME,
        base_url=places.base_url,
        vault_id=places.vault_id,
        recipient_jwk=recipient_jwk,
        receipt_jwk=vault_receipt_jwk(places.vault),
        token=token,
        actor=ACTOR,
        demonstration=True,
    )
    vault_switch(vault, enabled=True, actor=ACTOR)
    return places


def _vault_id(directory: Path) -> str:
    """The name it was made with, whatever the gateway has been called since."""
    try:
        return vault_identity(directory).vault_id
    except VaultStoreError as error:
        if error.code != "vault-missing":
            raise
        return f"{option('INSTANCE.ID')}-{NAME}"


def _recipient_jwk(places: Demonstration) -> dict[str, str]:
    """The public half of the recipient's key, which is made here, and read by us before its vault is pinned only."""
    places.recipient_key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not places.recipient_key.exists():
        private_key_write(places.recipient_key, key_generate())
    return jwk_from_key(private_key_read(places.recipient_key))


def _token(known: Vault | None) -> str:
    if known is not None:
        try:
            token = secret_decrypt(known.token)
        except SecretError:  # encrypted with a key that is gone
            token = ""
        if token_usable(token):
            return token
        logger.warning("demonstration token replaced")  # the vault is ours, so it simply learns a new one
    return secrets.token_urlsafe(32)
