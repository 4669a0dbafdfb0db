"""A vault's keys in the admin: shown beside what is offered, changed only with what their owners have told."""

import json
import socket

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client, RequestFactory
from django.urls import reverse

from gateway_project.core.admin_site import site
from gateway_project.core.models import AuditEvent
from gateway_project.core.secrets import secret_decrypt
from tests.uploads import test_vault_commands_gateway as gateway
from tests.uploads.scripted_server import scripted
from tests.uploads.test_vault_commands_gateway import NEW, RECIPIENT, RECOVERY, SIGNING, Served, told
from uploads.envelope.keys import fingerprint, jwk_from_key, key_generate, private_key_read, thumbprint
from uploads.envelope.rotation import Rotation, rotation_sign
from uploads.forms import VaultForm
from uploads.models import Vault
from uploads.selectors import deletion_allowed
from uploads.services import vaults
from uploads.services.identity import identity_jwk
from uploads.vault.canary import canary_open
from uploads.vault.registry import gateway_register, recipient_register, vault_receipt_jwk

pytestmark = pytest.mark.django_db
served = gateway.served


@pytest.fixture
def vault(served: Served) -> Vault:
    return gateway.pinned(served)


def entered(client: Client, vault: Vault, **values: str) -> str:
    page = reverse("admin:uploads_vault_change", args=[vault.pk])
    posted = {"name": vault.name, "required": "on", "enabled": "on", **values}
    return client.post(page, posted, follow=True).content.decode()


def acted(client: Client, vault: Vault, action: str) -> str:
    page = reverse("admin:uploads_vault_changelist")
    return client.post(page, {"action": action, "_selected_action": [vault.pk]}, follow=True).content.decode()


def test_pinned_and_offered_keys_stand_beside_each_other(administrator: Client, vault: Vault) -> None:
    assert told(RECIPIENT) in administrator.get(reverse("admin:uploads_vault_change", args=[vault.pk])).content.decode()
    assert f"pinned {told(RECIPIENT)}, offered {told(RECIPIENT)}" in acted(administrator, vault, "pins_compare")
    Vault.objects.update(receipt_jwk=jwk_from_key(NEW))
    html = acted(administrator, vault, "pins_compare")
    assert f"receipt key: pinned {told(NEW)}, offered" in html
    assert 'class="error"' in html


def test_a_vault_that_does_not_answer_is_told_in_its_words(administrator: Client, vault: Vault) -> None:
    Vault.objects.update(base_url="http://127.0.0.1:9")
    for action in ("pins_compare", "canary_send"):
        assert "Nothing listens at the vault" in acted(administrator, vault, action)


def test_a_canary_is_sent_and_its_proof_entered(administrator: Client, vault: Vault, served: Served) -> None:
    assert "was sent" in acted(administrator, vault, "canary_send")
    vault.refresh_from_db()
    key = private_key_read(served.folder / "recipient.pem")
    proof = canary_open(served.directory, vault.canary_upload_id, private_key=key).proof
    assert "not the proof" in entered(administrator, vault, canary_proof="AAAA")
    assert not deletion_allowed(Vault.objects.get())
    html = entered(administrator, vault, canary_proof=proof)
    assert proof not in html
    assert deletion_allowed(Vault.objects.get())
    record = AuditEvent.objects.get(detail__action="canary proved")
    assert record.actor.startswith("user:administrator")
    assert not AuditEvent.objects.filter(detail__action="vault changed").exists()


def test_the_recovery_keys_canary_is_sent_and_its_proof_entered(
    administrator: Client, vault: Vault, served: Served
) -> None:
    assert "No recovery key is pinned" in acted(administrator, vault, "recovery_canary_send")
    Vault.objects.update(recovery_jwk=jwk_from_key(RECOVERY))
    assert "Let the recovery key&#x27;s holder open it" in acted(administrator, vault, "recovery_canary_send")
    vault.refresh_from_db()
    key = private_key_read(served.folder / "recovery.pem")
    proof = canary_open(served.directory, vault.recovery_canary_upload_id, private_key=key).proof
    assert "not the proof" in entered(administrator, vault, canary_proof=proof) + entered(
        administrator, vault, recovery_canary_proof="AAAA"
    )
    entered(administrator, vault, recovery_canary_proof=proof)
    assert Vault.objects.get().recovery_canary_proved_at is not None


def test_keys_are_entered_with_their_fingerprints(administrator: Client, vault: Vault, served: Served) -> None:
    recovery, signing = (json.dumps(jwk_from_key(key)) for key in (RECOVERY, SIGNING))
    assert "Not done" in entered(administrator, vault, new_recovery_key=recovery, new_recovery_fingerprint=told(NEW))
    assert "no JWK" in entered(administrator, vault, new_recovery_key="[1]")
    assert Vault.objects.get().recovery_jwk is None
    entered(administrator, vault, new_recovery_key=recovery, new_recovery_fingerprint=told(RECOVERY))
    entered(administrator, vault, new_signing_key=signing, new_signing_fingerprint=told(SIGNING))
    recipient_register(served.directory, jwk_from_key(NEW))
    new_kid = thumbprint(jwk_from_key(NEW))
    entered(administrator, vault, new_recipient_key_id=new_kid, new_recipient_fingerprint=told(NEW))
    kept = Vault.objects.get()
    assert (kept.recovery_jwk, kept.signing_jwk) == (jwk_from_key(RECOVERY), jwk_from_key(SIGNING))
    assert kept.recipient_key_id == new_kid


def test_a_statement_is_entered_and_a_forged_one_is_refused_and_told(administrator: Client, vault: Vault) -> None:
    Vault.objects.update(signing_jwk=jwk_from_key(SIGNING))
    rotation = Rotation("vault-01", 1, vault.recipient_key_id, jwk_from_key(NEW), "2026-03-01T00:00:00Z")
    html = entered(administrator, vault, rotation_statement=rotation_sign(rotation, signing_key=key_generate()))
    assert "Not done" in html
    assert AuditEvent.objects.filter(detail__action="rotation refused", outcome="failure").exists()
    assert Vault.objects.get().recipient_key_id == vault.recipient_key_id
    entered(administrator, vault, rotation_statement=rotation_sign(rotation, signing_key=SIGNING))
    assert Vault.objects.get().recipient_key_id == rotation.to_kid


def test_only_administrators_come_here(operator: Client, vault: Vault) -> None:
    assert operator.get(reverse("admin:uploads_vault_change", args=[vault.pk])).status_code in (302, 403)
    acted(operator, vault, "canary_send")
    assert Vault.objects.get().canary_upload_id == ""


def test_a_new_token_and_address_are_entered_and_never_shown(
    administrator: Client, vault: Vault, served: Served
) -> None:
    token = "MARKED-other-token-of-the-gateway"
    assert "Not done" in entered(administrator, vault, new_token=token)
    gateway_register(served.directory, gateway_id="gateway-01", token=token, jwk=identity_jwk())
    html = entered(administrator, vault, new_token=token)
    assert "Not done" not in html
    assert "MARKED" not in html + str(list(AuditEvent.objects.values()))
    assert secret_decrypt(Vault.objects.get().token) == token
    assert "Nothing listens" in entered(administrator, vault, new_address="http://127.0.0.1:9")
    assert Vault.objects.get().base_url == served.url


@pytest.mark.django_db(transaction=True)
def test_a_silent_vault_holds_up_who_asks_but_nobody_else_and_not_for_long(
    administrator: Client, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vaults, "ASKED_SECONDS", 0.5)
    asking, in_transaction = connections["default"], []

    def silent(peer: socket.socket) -> None:
        in_transaction.append(asking.in_atomic_block)
        peer.recv(1)  # until the other side gives up

    with scripted(silent) as server:
        html = entered(administrator, vault, new_address=server.url)
        assert "did not answer in time" in html
    assert in_transaction == [False], "SQLite has one writer: nothing could be received meanwhile"


def test_saving_the_page_leaves_alone_what_was_pinned_at_the_same_moment(administrator: Client, vault: Vault) -> None:
    stale = Vault.objects.get()
    form = VaultForm({"name": "main", "windows": "01:00-02:00"}, instance=stale)
    assert form.is_valid()
    Vault.objects.update(recovery_jwk=jwk_from_key(RECOVERY), proved_keys={"kid": "2026-03-01T00:00:00+00:00"})
    request = RequestFactory().post("/")
    request.user = User.objects.filter(groups__name="administrator")[0]
    site._registry[Vault].save_model(request, stale, form, change=True)
    kept = Vault.objects.get()
    assert (kept.recovery_jwk, kept.windows) == (jwk_from_key(RECOVERY), "01:00-02:00")
    assert list(kept.proved_keys) == ["kid"]


def test_another_receipt_key_is_entered_with_its_fingerprint(
    administrator: Client, vault: Vault, served: Served
) -> None:
    Vault.objects.update(receipt_jwk=jwk_from_key(NEW))
    assert "Not done" in entered(administrator, vault, new_receipt_fingerprint=told(NEW))
    right = fingerprint(vault_receipt_jwk(served.directory))
    assert "Not done" not in entered(administrator, vault, new_receipt_fingerprint=right)
    kept = Vault.objects.get()
    assert kept.receipt_jwk == vault_receipt_jwk(served.directory)
    assert list(kept.earlier_receipt_keys) == [thumbprint(jwk_from_key(NEW))]
