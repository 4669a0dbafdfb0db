"""DICOMweb servers as vaults: set up without keys, known to them by a secret, spoken to by STOW-RS."""

import hashlib
import logging
import threading

from django.core.exceptions import ValidationError
from django.db import transaction

from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.secrets import SecretError, secret_decrypt, secret_encrypt
from gateway_project.core.services.audit import audit_record
from uploads.models import AuthKind, Transport, Vault
from uploads.ports import VaultError
from uploads.services.limits import vault_slowest
from uploads.services.vaults import vault_lane, vault_renamed
from uploads.stow.client import StowClient
from uploads.stow.credentials import ClientCredentials, Credentials, Fixed

logger = logging.getLogger(__name__)

AUDITED = (
    "name", "base_url", "required", "auth_kind", "auth_user", "oauth_token_url", "oauth_scope", "batch_instances",
    "batch_bytes", "deletion_allowed",
)  # fmt: skip
TOKEN_SOURCES_MAX = 64


def stow_vault_save(vault: Vault, *, secret: str = "", actor: str) -> None:
    """Writes a new or changed DICOMweb vault, with a lane of its own; `secret` is kept encrypted, "" keeps the old one.

    Raises ValidationError by field for what is missing or would show patients' data or the secret to the network.
    """
    vault.transport = Transport.STOW
    if secret:
        vault.token = secret_encrypt(secret)
    if vault.auth_kind == AuthKind.NONE:
        vault.token = ""
    vault.full_clean(exclude=["lane"])
    if vault.auth_kind != AuthKind.NONE and not vault.token:
        raise ValidationError("A token, password or client secret is needed to prove who we are.")
    with transaction.atomic():
        if vault.lane_id is None:
            vault.lane = vault_lane(vault.name)
        created = vault.pk is None
        vault.save()
        vault_renamed(vault)
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor,
            subject=f"vault:{vault.pk}",
            detail={
                "action": "DICOMweb vault added" if created else "DICOMweb vault changed",
                **{name: getattr(vault, name) for name in AUDITED},
                "secret": "set anew" if secret else "set" if vault.token else "not set",
            },
        )
    logger.info("stow vault saved", extra={"vault": vault.pk, "auth_kind": vault.auth_kind})


def stow_client(vault: Vault) -> StowClient:
    """How this server is spoken to. What is wrong with its settings is no study's fault: JobFault, the lane waits."""
    try:
        proxy = secret_decrypt(vault.proxy) if vault.proxy else None
        return StowClient(
            vault.base_url,
            credentials=_credentials(vault, proxy),
            timeout_seconds=option("VAULT.HTTP_SECONDS"),
            slowest_bytes_per_second=vault_slowest(vault),
            ca=vault.ca,
            proxy=proxy,
        )
    except SecretError as error:
        words = "The server's secret cannot be read: restore keys/config.key or enter the secret again, then resume."
        raise JobFault(words, code=error.code, hard_stop=True) from error
    except VaultError as error:
        raise JobFault(str(error), code=error.code, hard_stop=True) from error


def _credentials(vault: Vault, proxy: str | None) -> Credentials:
    if vault.auth_kind == AuthKind.NONE:
        return Fixed.none()
    secret = secret_decrypt(vault.token)
    if vault.auth_kind == AuthKind.BEARER:
        return Fixed.bearer(secret)
    if vault.auth_kind == AuthKind.BASIC:
        return Fixed.basic(vault.auth_user, secret)
    return _token_source(vault, secret, proxy)


class _TokenSources:
    """One source of tokens for each client, so that the jobs of a process share its token. Kept in memory alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: dict[tuple[str, ...], ClientCredentials] = {}

    def get(self, vault: Vault, secret: str, proxy: str | None) -> ClientCredentials:
        digest = hashlib.sha256(f"{secret}\n{proxy}\n{vault.ca}".encode()).hexdigest()
        key = (vault.oauth_token_url, vault.auth_user, vault.oauth_scope, digest)
        with self._lock:
            source = self._sources.get(key)
            if source is None:
                if len(self._sources) >= TOKEN_SOURCES_MAX:
                    self._sources.clear()
                source = self._sources[key] = ClientCredentials(
                    vault.oauth_token_url,
                    client_id=vault.auth_user,
                    secret=secret,
                    scope=vault.oauth_scope,
                    ca=vault.ca,
                    proxy=proxy,
                )
        return source


_token_source = _TokenSources().get
