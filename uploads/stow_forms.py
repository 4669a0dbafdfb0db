"""The form of a DICOMweb vault: its secret is only ever entered."""

from typing import Any

from django import forms

from uploads.models import AuthKind, StowVault, Transport

STOW_WARNING = (
    "Any DICOMweb server. What goes there is not end-to-end encrypted: TLS alone protects the way, and the server "
    "reads every study. It signs no receipt; an upload is done when the server has confirmed every object by its UID."
)


class StowVaultForm(forms.ModelForm):
    """Validates as the service does, so that a fault stands beside its field. An empty secret keeps the present one."""

    secret = forms.CharField(
        required=False,
        strip=True,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password", "class": "vTextField"}),
        label="Token, password or client secret",
        help_text="Kept encrypted and never shown. Empty: the one that is set stays.",
    )

    base_url = forms.URLField(
        max_length=300,
        assume_scheme="https",
        label="DICOMweb address",
        help_text="Such as https://pacs.example.org/dicom-web; studies are posted to /studies below it.",
        widget=forms.URLInput(attrs={"class": "vURLField"}),
    )
    oauth_token_url = forms.URLField(
        max_length=300,
        assume_scheme="https",
        required=False,
        label="OAuth token address",
        widget=forms.URLInput(attrs={"class": "vURLField"}),
    )

    class Meta:
        model = StowVault
        fields = (
            "name", "base_url", "required", "auth_kind", "auth_user", "oauth_token_url", "oauth_scope",
            "batch_instances", "batch_bytes", "deletion_allowed",
        )  # fmt: skip
        labels = {"auth_kind": "Credentials", "auth_user": "User or client id", "oauth_scope": "OAuth scope"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.transport = Transport.STOW

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        kind = cleaned.get("auth_kind", AuthKind.NONE)
        if kind != AuthKind.NONE and not cleaned.get("secret") and not self.instance.token:
            self.add_error("secret", "Needed for this way to prove who we are.")
        return cleaned
