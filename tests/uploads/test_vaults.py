"""Vault rows: pinned once, switched on and off, spoken to - and their faulty settings are no study's fault."""

from pathlib import Path

import pytest

from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEvent, Lane
from gateway_project.core.secrets import config_key_path, secret_decrypt
from uploads.client import VaultClient
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import jwk_from_key, key_generate, thumbprint
from uploads.models import Vault
from uploads.services.vaults import vault_client, vault_ensure, vault_renamed, vault_switch

pytestmark = pytest.mark.django_db
RECIPIENT, SIGNER = jwk_from_key(key_generate()), jwk_from_key(key_generate())
TOKEN = "MARKED-token-0123456789"


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path


def ensure(**values: object) -> Vault:
    fields = {
        "base_url": "https://vault.example.org",
        "vault_id": "vault-01",
        "recipient_jwk": RECIPIENT,
        "receipt_jwk": SIGNER,
        "token": TOKEN,
        "actor": "user:anna",
    }
    return vault_ensure("main", **{**fields, **values})


def test_a_new_vault_is_pinned_with_a_lane_of_its_own_and_audited() -> None:
    vault = ensure()
    assert (vault.recipient_key_id, vault.recipient_jwk) == (thumbprint(RECIPIENT), RECIPIENT)
    assert (vault.lane.name, vault.enabled, vault.required, vault.demonstration) == ("vault:main", True, True, False)
    record = AuditEvent.objects.get(subject=f"vault:{vault.pk}")
    assert (record.actor, record.detail["action"], record.detail["recipient_key_id"]) == (
        "user:anna",
        "pinned",
        thumbprint(RECIPIENT),
    )


def test_the_token_is_nowhere_in_clear(caplog: pytest.LogCaptureFixture) -> None:
    vault = ensure()
    assert secret_decrypt(vault.token) == TOKEN
    assert "MARKED" not in str(list(Vault.objects.values())) + str(list(AuditEvent.objects.values())) + caplog.text
    assert "MARKED" not in repr(vault_client(vault))


def test_a_known_vault_keeps_its_pins_and_follows_address_and_token() -> None:
    first = ensure()
    again = ensure(
        base_url="https://other.example.org",
        token="x" * 20,
        recipient_jwk=jwk_from_key(key_generate()),
        receipt_jwk=SIGNER,
    )
    assert again.pk == first.pk
    assert (again.recipient_jwk, again.recipient_key_id) == (RECIPIENT, thumbprint(RECIPIENT))
    assert (again.base_url, secret_decrypt(again.token)) == ("https://other.example.org", "x" * 20)
    assert Lane.objects.count() == 1


@pytest.mark.parametrize("name", ["recipient_jwk", "receipt_jwk"])
def test_a_key_that_is_none_of_p521_is_refused_and_nothing_is_written(name: str) -> None:
    with pytest.raises(EnvelopeError):
        ensure(**{name: {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}})
    assert not Vault.objects.exists()
    assert not Lane.objects.exists()


def test_switched_off_its_lane_is_paused_and_on_again_it_flows() -> None:
    vault = ensure()
    for _again in range(2):
        vault_switch(vault, enabled=False, actor="user:anna")
    vault.refresh_from_db()
    assert (vault.enabled, vault.lane.paused) == (False, True)
    for _again in range(2):
        vault_switch(vault, enabled=True, actor="user:anna")
    vault.refresh_from_db()
    assert (vault.enabled, vault.lane.paused) == (True, False)
    actions = (
        AuditEvent.objects.filter(subject=f"vault:{vault.pk}").order_by("pk").values_list("detail__action", flat=True)
    )
    assert list(actions) == ["pinned", "switched off", "switched on"]


def test_the_client_speaks_to_the_vaults_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(vault_client(ensure()), VaultClient)


@pytest.mark.parametrize("address", ["http://vault.example.org", "https://user:secret@vault.example.org", "ftp://x"])
def test_an_address_that_cannot_be_used_is_the_lanes_fault(address: str) -> None:
    with pytest.raises(JobFault) as raised:
        vault_client(ensure(base_url=address))
    assert (raised.value.lane_fault, raised.value.hard_stop, raised.value.permanent) == (True, True, False)
    assert "secret" not in str(raised.value)


def test_a_token_that_cannot_be_read_is_the_lanes_fault() -> None:
    vault = ensure()
    config_key_path().unlink()
    with pytest.raises(JobFault) as raised:
        vault_client(vault)
    assert (raised.value.hard_stop, raised.value.code) == (True, "secret-key-missing")
    assert "enter the token again" in str(raised.value)


def test_a_renamed_vault_keeps_its_lane_under_its_new_name_and_the_old_name_is_free() -> None:
    first = ensure()
    Vault.objects.filter(pk=first.pk).update(name="renamed")
    first.refresh_from_db()
    vault_renamed(first)
    second = ensure()
    assert (second.name, second.lane.title) == ("main", "Vault main")
    assert second.lane_id != first.lane_id
    assert Lane.objects.get(pk=first.lane_id).title == "Vault renamed"
    Vault.objects.filter(pk=second.pk).update(name="other")
    assert ensure().lane_id not in {first.lane_id, second.lane_id}
