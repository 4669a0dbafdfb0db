"""The vault of the settings: VAULT.BASE_URL and what goes with it set up the vault "default" and hold its address."""

import pytest
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from gateway_project.core.errors import GatewayError
from gateway_project.core.models import Alert, AuditEvent
from gateway_project.core.options import option
from gateway_project.core.queues import REGISTRY
from gateway_project.core.secrets import secret_decrypt
from tests.uploads import test_vault_commands_gateway as gateway
from tests.uploads.test_vault_access import token_file
from tests.uploads.test_vault_commands_gateway import NEW, RECIPIENT, TOKEN, Served, run
from tests.web.factories import user_make
from uploads.envelope.keys import fingerprint, jwk_from_key, thumbprint
from uploads.models import Vault
from uploads.services.identity import identity_jwk
from uploads.services.seed import vault_seed
from uploads.vault.registry import gateway_register, vault_receipt_jwk

pytestmark = pytest.mark.django_db
served = gateway.served
NEW_TOKEN = "MARKED-other-token-of-the-gateway"


@pytest.fixture
def said(served: Served, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings that are right and whole."""
    for name, value in {
        "BASE_URL": served.url,
        "BEARER_TOKEN": TOKEN,
        "PUBLIC_KEY_ID": thumbprint(jwk_from_key(RECIPIENT)),
        "RECEIPT_FINGERPRINT": fingerprint(vault_receipt_jwk(served.directory)),
    }.items():
        monkeypatch.setenv(f"GATEWAY_VAULT__{name}", value)
    return monkeypatch


def trouble() -> Alert | None:
    return Alert.objects.filter(key="vault-settings", healed_at=None).first()


def test_without_the_settings_there_is_nothing_to_do() -> None:
    vault_seed()
    assert not Vault.objects.exists()
    assert trouble() is None


@pytest.mark.usefixtures("said")
def test_the_settings_set_up_a_vault_once() -> None:
    vault_seed()
    vault_seed()
    vault = Vault.objects.get()
    assert (vault.name, vault.required, vault.enabled) == ("default", True, True)
    assert vault.recipient_key_id == thumbprint(jwk_from_key(RECIPIENT))
    assert AuditEvent.objects.get(subject=f"vault:{vault.pk}").actor == "process:settings"
    assert trouble() is None
    assert run("vaultcanary", "default", "--send")


WRONG = [
    ("BEARER_TOKEN", "", "vault-settings-incomplete"),
    ("PUBLIC_KEY_ID", "", "vault-settings-incomplete"),
    ("PUBLIC_KEY_ID", thumbprint(jwk_from_key(NEW)), "key-unknown"),
    ("BEARER_TOKEN", "a-token-of-nobody-at-all", "unauthorized"),
    ("BASE_URL", "http://127.0.0.1:9", "connection-refused"),
    ("BASE_URL", "http://vault.example.org", "insecure-address"),
    ("RECEIPT_FINGERPRINT", fingerprint(jwk_from_key(NEW)), "fingerprint-differs"),
    ("RECEIPT_FINGERPRINT", "", "receipt-key-unconfirmed"),
]


@pytest.mark.parametrize(("name", "value", "code"), WRONG, ids=[f"{name} {code}" for name, _value, code in WRONG])
def test_what_is_wrong_is_told_until_it_is_right(
    said: pytest.MonkeyPatch, served: Served, name: str, value: str, code: str
) -> None:
    right = str(option(f"VAULT.{name}"))
    said.setenv(f"GATEWAY_VAULT__{name}", value)
    vault_seed()
    alert = trouble()
    assert alert is not None
    assert alert.code == code
    assert TOKEN not in alert.words
    assert (fingerprint(vault_receipt_jwk(served.directory)) in alert.words) == (code == "receipt-key-unconfirmed")
    assert not Vault.objects.exists()
    said.setenv(f"GATEWAY_VAULT__{name}", right)
    vault_seed()
    assert trouble() is None
    assert Vault.objects.get().name == "default"


def test_an_address_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_VAULT__BASE_URL", "file:///etc/passwd")
    with pytest.raises(GatewayError):
        option("VAULT.BASE_URL")


def test_address_and_token_follow_the_settings_and_nobody_else(said: pytest.MonkeyPatch, served: Served) -> None:
    vault_seed()
    gateway_register(served.directory, gateway_id="gateway-01", token=NEW_TOKEN, jwk=identity_jwk())
    with pytest.raises(CommandError, match="vault-locked"):
        run("vaultpin", "default", "--token-file", token_file(served, NEW_TOKEN))
    moved = served.url.replace("127.0.0.1", "localhost")
    said.setenv("GATEWAY_VAULT__BEARER_TOKEN", NEW_TOKEN)
    said.setenv("GATEWAY_VAULT__BASE_URL", moved)
    vault_seed()
    vault = Vault.objects.get()
    assert (vault.base_url, secret_decrypt(vault.token)) == (moved, NEW_TOKEN)
    said.setenv("GATEWAY_VAULT__BASE_URL", "http://127.0.0.1:9")
    vault_seed()
    alert = trouble()
    assert alert is not None
    assert alert.code == "connection-refused"
    assert Vault.objects.get().base_url == moved, "the pinned vault must have answered first"
    said.delenv("GATEWAY_VAULT__BASE_URL")
    vault_seed()
    assert trouble() is None
    run("vaultpin", "default", "--url", served.url)
    assert Vault.objects.get().base_url == served.url


def test_pages_say_who_holds_it_and_its_name_stays(said: pytest.MonkeyPatch, client: Client) -> None:
    vault_seed()
    vault = Vault.objects.get()
    client.force_login(user_make("administrator", superuser=True))
    assert "held by the settings" in client.get(reverse("vault", args=(vault.pk,))).content.decode()
    address = reverse("admin:uploads_vault_change", args=(vault.pk,))
    assert 'name="name"' not in client.get(address).content.decode()
    said.delenv("GATEWAY_VAULT__BASE_URL")
    assert "held by the settings" not in client.get(reverse("vault", args=(vault.pk,))).content.decode()
    assert 'name="name"' in client.get(address).content.decode()


def test_the_ticker_rings_for_it() -> None:
    assert REGISTRY.periodics["vault-settings"].function == "uploads.tasks.vault_settings"
