"""The vault of the settings: VAULT.BASE_URL and what goes with it set up the vault "default", and hold its address and
its token from then on.
"""

import logging

from gateway_project.core.errors import JobFault
from gateway_project.core.models import Severity
from gateway_project.core.options import option
from gateway_project.core.secrets import SecretError, secret_decrypt
from gateway_project.core.services.alerts import alert_heal, alert_open
from uploads.client import VaultClient
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import fingerprint
from uploads.models import Vault
from uploads.ports import VaultError
from uploads.services.pins import PinError, fingerprint_shown, offer_fetch
from uploads.services.vaults import SETTINGS_NAME, vault_access_set, vault_add

logger = logging.getLogger(__name__)

ALERT = "vault-settings"
ACTOR = "process:settings"
PATIENCE_SECONDS = 5.0


def vault_seed() -> None:
    """The vault that the settings name is there, with their address and token; while it cannot be, an alert says why.

    Its keys are pinned once, when it is made: the recipient's by its id, which is the key's own hash, the receipt key
    by VAULT.RECEIPT_FINGERPRINT. From then on they change as those of any vault. May be repeated.
    """
    base_url = str(option("VAULT.BASE_URL"))
    if base_url:
        try:
            _seeded(base_url, str(option("VAULT.BEARER_TOKEN")))
        except (PinError, VaultError, JobFault, EnvelopeError) as error:
            words = f"The vault of VAULT.BASE_URL is not set up as the settings say. {error}"
            alert_open(ALERT, code=error.code, words=words[:400], severity=Severity.CRITICAL)
            return
    alert_heal(ALERT)


def _seeded(base_url: str, token: str) -> None:
    vault = Vault.objects.filter(name=SETTINGS_NAME).select_related("lane").first()
    if vault is None:
        _make(base_url, token)
        return
    changed_token = token if token and token != _token(vault) else ""
    if base_url != vault.base_url or changed_token:
        vault_access_set(vault, base_url=base_url, token=changed_token, actor=ACTOR, by_settings=True)


def _make(base_url: str, token: str) -> None:
    kid = str(option("VAULT.PUBLIC_KEY_ID"))
    if not (token and kid):
        raise PinError("VAULT.BEARER_TOKEN and VAULT.PUBLIC_KEY_ID are needed too.", code="vault-settings-incomplete")
    client = VaultClient(base_url, token=token, timeout_seconds=PATIENCE_SECONDS, connect_seconds=PATIENCE_SECONDS)
    offer = offer_fetch(client, recipient_key_id=kid)
    told = str(option("VAULT.RECEIPT_FINGERPRINT"))
    if not told:
        words = f"The receipt key that answers has the fingerprint {fingerprint_shown(offer.receipt_jwk)}. "
        words += "If its operator says the same, put it into VAULT.RECEIPT_FINGERPRINT."
        raise PinError(words, code="receipt-key-unconfirmed")
    vault = vault_add(
        SETTINGS_NAME,
        base_url=base_url,
        token=token,
        offer=offer,
        recipient_fingerprint=fingerprint({**offer.recipient_jwk}),  # it is the key of this id: `offer_fetch` has seen
        receipt_fingerprint=told,
        actor=ACTOR,
    )
    logger.info("vault of the settings set up", extra={"vault": vault.pk})


def _token(vault: Vault) -> str:
    try:
        return secret_decrypt(vault.token)
    except SecretError:  # encrypted with a key that is gone
        return ""
