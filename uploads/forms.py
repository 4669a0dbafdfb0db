"""What an administrator may change of a vault: the way to it, and its keys, beside the fingerprint the owner told."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from django import forms

from gateway_project.core.errors import JobFault
from uploads.models import Vault
from uploads.ports import VaultError
from uploads.services import pins
from uploads.services.canary import canary_prove
from uploads.services.vaults import vault_access_set, vault_client
from uploads.ways import way_check

_FINGERPRINT = "As its owner told it, by another way than the one that the key came by."


def _text(label: str, help_text: str, *, rows: int = 0) -> forms.CharField:
    widget = (
        forms.Textarea(attrs={"rows": rows}) if rows else forms.TextInput(attrs={"size": 90, "autocomplete": "off"})
    )
    return forms.CharField(label=label, required=False, max_length=16384, help_text=help_text, widget=widget)


class VaultForm(forms.ModelForm):
    """What is entered for the proxy and the keys is never shown back: each is for one change, and empty afterwards."""

    new_proxy = forms.CharField(
        label="Proxy",
        required=False,
        max_length=300,
        widget=forms.PasswordInput(render_value=False),
        help_text="http://name:password@host:port. Kept encrypted and never shown; empty leaves it as it is, "
        '"direct" takes it away. Without one, what the environment says (HTTPS_PROXY) holds.',
    )
    new_address = forms.URLField(
        label="new address",
        required=False,
        max_length=300,
        assume_scheme="https",
        help_text="Counts once the vault that answers there has shown the pinned keys. Empty leaves it as it is.",
    )
    new_token = forms.CharField(
        label="new token",
        required=False,
        max_length=600,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="Counts once the vault has taken it. Kept encrypted and never shown; empty leaves it as it is.",
    )
    canary_proof = _text("proof of the canary", "What the recipient's tool has shown.")
    recovery_canary_proof = _text("proof of the recovery key's canary", "What the tool has shown with that key.")
    new_recipient_key_id = _text("new recipient key: id", "It is fetched from the vault by this id.")
    new_recipient_fingerprint = _text("new recipient key: fingerprint", _FINGERPRINT)
    new_receipt_fingerprint = _text(
        "new receipt key: fingerprint", f"The vault shows the key; what it has signed before stays good. {_FINGERPRINT}"
    )
    new_recovery_key = _text("new recovery key (JWK)", "A second recipient, whose private key is kept offline.", rows=3)
    new_recovery_fingerprint = _text("new recovery key: fingerprint", _FINGERPRINT)
    new_signing_key = _text("new signing key (JWK)", "The recipient's own, with which it signs rotations.", rows=3)
    new_signing_fingerprint = _text("new signing key: fingerprint", _FINGERPRINT)
    rotation_statement = _text("rotation statement", "Signed by the recipient.", rows=3)

    KEY_FIELDS = (
        "canary_proof",
        "recovery_canary_proof",
        "new_recipient_key_id",
        "new_recipient_fingerprint",
        "new_receipt_fingerprint",
        "new_recovery_key",
        "new_recovery_fingerprint",
        "new_signing_key",
        "new_signing_fingerprint",
        "rotation_statement",
    )

    ACCESS_FIELDS = ("new_address", "new_token")

    class Meta:
        model = Vault
        fields = ("name", "required", "enabled", "parallel_studies", "bytes_per_second", "windows", "ca")
        labels = {"ca": "Certificate authority", "windows": "Time windows"}

    def proxy_change(self) -> str | None:
        """The new address, "" to take it away, None to leave it."""
        typed = str(self.cleaned_data.get("new_proxy", "")).strip()
        return {"": None, "direct": ""}.get(typed, typed)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        for name, proxy, ca in (
            ("new_proxy", self.proxy_change(), ""),
            ("ca", None, str(self.cleaned_data.get("ca", ""))),
        ):
            try:
                way_check(proxy=proxy, ca=ca)
            except VaultError as error:
                self.add_error(name, str(error))
        return cleaned

    def clean_new_recovery_key(self) -> dict[str, Any] | None:
        return _jwk(self.cleaned_data["new_recovery_key"])

    def clean_new_signing_key(self) -> dict[str, Any] | None:
        return _jwk(self.cleaned_data["new_signing_key"])


def keys_apply(vault: Vault, cleaned: dict[str, Any], *, actor: str) -> Iterator[str]:
    """Does what was entered, one after the other; yields the words for each that was refused, and goes on."""
    steps: list[tuple[Any, Callable[[], None]]] = [
        (cleaned.get("new_address") or cleaned.get("new_token"), lambda: _access(vault, cleaned, actor)),
        (cleaned.get("rotation_statement"), lambda: _statement(vault, cleaned, actor)),
        (cleaned.get("new_recipient_key_id"), lambda: _recipient(vault, cleaned, actor)),
        (cleaned.get("new_receipt_fingerprint"), lambda: _receipt(vault, cleaned, actor)),
        (cleaned.get("new_recovery_key"), lambda: _recovery(vault, cleaned, actor)),
        (cleaned.get("new_signing_key"), lambda: _signing(vault, cleaned, actor)),
        (cleaned.get("canary_proof"), lambda: _proof(vault, cleaned["canary_proof"], actor, recovery=False)),
        (
            cleaned.get("recovery_canary_proof"),
            lambda: _proof(vault, cleaned["recovery_canary_proof"], actor, recovery=True),
        ),
    ]
    for entered, step in steps:
        if not entered:
            continue
        try:
            step()
        except (pins.PinError, VaultError, JobFault) as error:
            yield str(error)


def _access(vault: Vault, cleaned: dict[str, Any], actor: str) -> None:
    address, token = str(cleaned.get("new_address") or ""), str(cleaned.get("new_token") or "").strip()
    vault_access_set(vault, base_url=address, token=token, actor=actor)


def _statement(vault: Vault, cleaned: dict[str, Any], actor: str) -> None:
    pins.rotation_apply(vault, cleaned["rotation_statement"], actor=actor)


def _recipient(vault: Vault, cleaned: dict[str, Any], actor: str) -> None:
    offer = pins.offer_fetch(vault_client(vault, asked=True), recipient_key_id=cleaned["new_recipient_key_id"].strip())
    told = cleaned["new_recipient_fingerprint"]
    pins.recipient_repin(vault, offer.recipient_jwk, expected_fingerprint=told, actor=actor)


def _receipt(vault: Vault, cleaned: dict[str, Any], actor: str) -> None:
    offer = pins.offer_fetch(vault_client(vault, asked=True), recipient_key_id=vault.recipient_key_id)
    told = cleaned["new_receipt_fingerprint"]
    pins.receipt_repin(vault, offer.receipt_jwk, expected_fingerprint=told, actor=actor)


def _recovery(vault: Vault, cleaned: dict[str, Any], actor: str) -> None:
    told = cleaned["new_recovery_fingerprint"]
    pins.recovery_pin(vault, cleaned["new_recovery_key"], expected_fingerprint=told, actor=actor)


def _signing(vault: Vault, cleaned: dict[str, Any], actor: str) -> None:
    told = cleaned["new_signing_fingerprint"]
    pins.signing_pin(vault, cleaned["new_signing_key"], expected_fingerprint=told, actor=actor)


def _proof(vault: Vault, proof: str, actor: str, *, recovery: bool) -> None:
    canary_prove(vault, proof, actor=actor, recovery=recovery)


def _jwk(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        jwk = json.loads(text)
    except (ValueError, RecursionError):
        jwk = None
    if not isinstance(jwk, dict):
        raise forms.ValidationError("This is no JWK: a JSON object with kty, crv, x and y.")
    return jwk
