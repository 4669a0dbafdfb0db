"""The demonstration vault: there from the first start, the same after every other, gone when a real one is pinned."""

import stat
from pathlib import Path

import pytest

from gateway_project.core.models import AuditEvent
from gateway_project.core.secrets import config_key_path, secret_decrypt, secret_encrypt
from gateway_project.wiring.demonstration import demonstration_places, demonstration_prepare, demonstration_wanted
from gateway_project.wiring.pipeline import settle_now
from tests.uploads.upload_house import House
from uploads.envelope.keys import jwk_from_key, private_key_read, thumbprint
from uploads.models import UploadJob, Vault
from uploads.selectors import demonstration_exists, gateway_id_at
from uploads.vault.registry import GatewayRegistry, vault_identity, vault_receipt_jwk

pytestmark = pytest.mark.django_db


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_first_start_makes_vault_keys_and_pins(house: House) -> None:
    places = demonstration_prepare()
    vault = Vault.objects.get()
    assert places == demonstration_places()
    assert (vault.name, vault.demonstration, vault.enabled, vault.base_url) == (
        "demonstration",
        True,
        True,
        "http://127.0.0.1:11115",
    )
    recipient = jwk_from_key(private_key_read(places.recipient_key))
    assert (vault.recipient_jwk, vault.recipient_key_id) == (recipient, thumbprint(recipient))
    assert thumbprint(vault.receipt_jwk) == thumbprint(vault_receipt_jwk(places.vault))
    assert vault_identity(places.vault).demonstration, "its receipts never allow deletion"
    gateway = GatewayRegistry(places.vault).by_token(secret_decrypt(vault.token))
    assert gateway is not None
    assert gateway.jwk == house.vault.gateway_jwk
    assert demonstration_exists()


def test_keys_and_tokens_are_ours_alone_and_the_recipients_lies_apart(house: House) -> None:
    places = demonstration_prepare()
    assert places.recipient_key.parent != places.vault
    assert not places.recipient_key.is_relative_to(places.vault)
    assert [path.name for path in places.recipient_key.parent.iterdir()] == ["recipient.pem"]
    for path in (*places.vault.rglob("*"), places.vault, places.recipient_key, places.recipient_key.parent):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    private = places.recipient_key.read_bytes()
    assert all(private not in content for content in contents(places.vault).values())


@pytest.mark.parametrize("token", ["", "short", "no spaces are allowed in it"])
def test_token_that_no_vault_takes_is_replaced_and_does_not_keep_the_gateway_from_starting(house, token) -> None:
    """A person can enter one in the administration."""
    places = demonstration_prepare()
    Vault.objects.update(token=secret_encrypt(token))
    assert demonstration_prepare() == places
    assert GatewayRegistry(places.vault).by_token(secret_decrypt(Vault.objects.get().token)) is not None


def test_every_other_start_changes_nothing(house: House) -> None:
    """An upload under way at that moment goes on: same keys, same token."""
    places = demonstration_prepare()
    before = (contents(places.vault), Vault.objects.values().get(), AuditEvent.objects.count())
    token = secret_decrypt(Vault.objects.get().token)
    key = places.recipient_key.read_bytes()
    demonstration_prepare()
    after = (contents(places.vault), Vault.objects.values().get(), AuditEvent.objects.count())
    assert after[0] == before[0]
    assert {k: v for k, v in after[1].items() if k != "token"} == {k: v for k, v in before[1].items() if k != "token"}
    assert after[2] == before[2]
    assert secret_decrypt(Vault.objects.get().token) == token
    assert places.recipient_key.read_bytes() == key


def test_the_private_key_is_not_read_again(house: House) -> None:
    places = demonstration_prepare()
    places.recipient_key.unlink()  # a recipient took it away, as a careful one would
    assert demonstration_prepare() == places
    assert not places.recipient_key.exists()


@pytest.mark.parametrize(
    "step",
    ["vault_create", "recipient_register", "gateway_register", "vault_ensure", "vault_switch", "private_key_write"],
)
def test_killed_after_any_step_the_next_start_finishes(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from gateway_project.wiring import demonstration

    class Killed(BaseException):
        pass

    done = getattr(demonstration, step)

    def killed(*arguments: object, **values: object) -> None:
        done(*arguments, **values)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(demonstration, step, killed)
        with pytest.raises(Killed):
            demonstration_prepare()
    places = demonstration_prepare()
    vault = Vault.objects.get()
    assert vault.enabled
    assert GatewayRegistry(places.vault).by_token(secret_decrypt(vault.token)) is not None
    assert vault.recipient_jwk == jwk_from_key(private_key_read(places.recipient_key))


def test_a_lost_configuration_key_costs_only_a_new_token(house: House) -> None:
    places = demonstration_prepare()
    config_key_path().unlink()
    demonstration_prepare()
    vault = Vault.objects.get()
    assert GatewayRegistry(places.vault).by_token(secret_decrypt(vault.token)) is not None


def test_another_port_is_followed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    demonstration_prepare()
    monkeypatch.setenv("GATEWAY_VAULT_SERVER__PORT", "11999")
    demonstration_prepare()
    assert Vault.objects.get().base_url == "http://127.0.0.1:11999"


def test_another_name_of_the_gateway_does_not_lock_it_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vaults know it by the name that it had: an upload under way goes on, and the next start finds its own vault."""
    places = demonstration_prepare()
    token = secret_decrypt(Vault.objects.get().token)
    monkeypatch.setenv("GATEWAY_INSTANCE__ID", "hospital-gw")
    assert demonstration_prepare() == places == demonstration_places()
    gateway = GatewayRegistry(places.vault).by_token(token)
    assert gateway is not None
    assert gateway.gateway_id == gateway_id_at(Vault.objects.get()) == "gateway-01"


def test_a_real_vault_switches_it_off_for_good(house: House) -> None:
    demonstration_prepare()
    real = house.vault_row("real")
    assert not demonstration_wanted()
    assert demonstration_prepare() is None
    vault = Vault.objects.select_related("lane").get(demonstration=True)
    assert (vault.enabled, vault.lane.paused) == (False, True)
    assert not demonstration_exists()
    Vault.objects.filter(pk=real.pk).update(enabled=False)  # a real vault that rests does not bring it back
    assert demonstration_prepare() is None
    study = house.receive(1, [1])
    settle_now(study.pk, actor="user:anna")
    assert not UploadJob.objects.exists()


def test_switched_off_by_its_option_and_on_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    demonstration_prepare()
    monkeypatch.setenv("GATEWAY_VAULT_SERVER__ENABLED", "false")
    assert demonstration_prepare() is None
    assert not Vault.objects.get().enabled
    monkeypatch.delenv("GATEWAY_VAULT_SERVER__ENABLED")
    assert demonstration_prepare() is not None
    vault = Vault.objects.select_related("lane").get()
    assert (vault.enabled, vault.lane.paused) == (True, False)


def test_without_being_wanted_nothing_is_made(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_VAULT_SERVER__ENABLED", "false")
    assert demonstration_prepare() is None
    assert not demonstration_places().vault.exists()
    assert not Vault.objects.exists()
