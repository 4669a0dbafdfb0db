"""What an administrator may change of a vault from a form: never its pins, never its token."""

from typing import Any

from django import forms

from uploads.client import way_check
from uploads.models import Vault
from uploads.ports import VaultError


class VaultForm(forms.ModelForm):
    """`new_proxy` is written and never read back; with "direct" the proxy is taken away."""

    new_proxy = forms.CharField(
        label="Proxy",
        required=False,
        max_length=300,
        widget=forms.PasswordInput(render_value=False),
        help_text="http://name:password@host:port. Kept encrypted and never shown; empty leaves it as it is, "
        '"direct" takes it away. Without one, what the environment says (HTTPS_PROXY) holds.',
    )

    class Meta:
        model = Vault
        fields = ("name", "required", "enabled", "parallel_studies", "bytes_per_second", "windows", "ca")

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
