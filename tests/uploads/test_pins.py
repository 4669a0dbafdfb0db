"""Pins change only for a person who has compared, or under the recipient's own signature - and never in silence."""

import dataclasses
from pathlib import Path

import pytest

from gateway_project.core.models import AuditEvent
from tests.uploads.memory_vault import RECIPIENT, SIGNER, MemoryVault
from uploads.envelope.keys import PrivateKey, fingerprint, jwk_from_key, key_generate, thumbprint
from uploads.envelope.rotation import Rotation, rotation_sign
from uploads.models import Vault
from uploads.services import pins
from uploads.services.identity import identity_jwk
from uploads.services.vaults import vault_add, vault_ensure

pytestmark = pytest.mark.django_db
ACTOR = "user:anna"
NEW, RECOVERY, SIGNING = key_generate(), key_generate(), key_generate()


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path


@pytest.fixture
def vault() -> Vault:
    return vault_ensure(
        "main",
        base_url="https://vault.example.org",
        vault_id="vault-01",
        recipient_jwk=jwk_from_key(RECIPIENT),
        receipt_jwk=jwk_from_key(SIGNER),
        token="t" * 20,
        actor=ACTOR,
    )


def told(key: PrivateKey) -> str:
    return fingerprint({**jwk_from_key(key)})


def statement(vault: Vault, *, key: PrivateKey = SIGNING, **changes: object) -> str:
    rotation = Rotation(
        vault_id=vault.vault_id,
        serial=1,
        from_kid=vault.recipient_key_id,
        recipient_jwk=jwk_from_key(NEW),
        issued_at="2026-03-01T00:00:00+00:00",
    )
    return rotation_sign(dataclasses.replace(rotation, **changes), signing_key=key)  # type: ignore[arg-type]


def refused(code: str) -> pytest.RaisesExc[pins.PinError]:
    return pytest.RaisesExc(pins.PinError, check=lambda error: error.code == code)


def actions(vault: Vault) -> list[str]:
    found = AuditEvent.objects.filter(subject=f"vault:{vault.pk}").order_by("pk")
    return list(found.values_list("detail__action", flat=True))


def test_an_offer_is_compared_row_by_row(vault: Vault) -> None:
    port = MemoryVault(identity_jwk(), receipt_jwk=jwk_from_key(NEW))
    rows = {
        row.what: row for row in pins.pin_rows(vault, pins.offer_fetch(port, recipient_key_id=vault.recipient_key_id))
    }
    assert {what: row.same for what, row in rows.items() if row.offered is not None} == {
        "vault id": True,
        "recipient key": True,
        "receipt key": False,
    }
    assert (rows["receipt key"].pinned, rows["receipt key"].offered) == (told(SIGNER), told(NEW))
    assert (rows["recovery key"].pinned, rows["recovery key"].same) == ("none", True)
    assert [row.offered for row in pins.pin_rows(vault, None)] == [None] * 5


def test_c10_another_key_than_that_of_the_id_is_no_offer(vault: Vault) -> None:
    port = MemoryVault(identity_jwk(), recipients={vault.recipient_key_id: jwk_from_key(NEW)})
    with refused("key-differs"):
        pins.offer_fetch(port, recipient_key_id=vault.recipient_key_id)


@pytest.mark.parametrize("form", ["{}", "upper", ":", ""])
def test_a_new_recipient_key_is_pinned_with_its_fingerprint_however_it_is_typed(vault: Vault, form: str) -> None:
    typed = told(NEW).upper() if form == "upper" else told(NEW).replace(" ", form.format(" "))
    old = vault.recipient_key_id
    pins.recipient_repin(vault, jwk_from_key(NEW), expected_fingerprint=typed, actor=ACTOR)
    kept = Vault.objects.get(pk=vault.pk)
    assert (kept.recipient_jwk, kept.recipient_key_id) == (jwk_from_key(NEW), thumbprint(jwk_from_key(NEW)))
    detail = AuditEvent.objects.filter(subject=f"vault:{vault.pk}").latest("pk").detail
    found = (detail["from_key_id"], detail["to_key_id"], detail["by"])
    assert found == (old, kept.recipient_key_id, "compared fingerprint")


@pytest.mark.parametrize("which", ["nothing", "zeros", "another key's", "all but the last digit", "one digit"])
def test_another_fingerprint_pins_nothing(vault: Vault, which: str) -> None:
    typed = dict(
        zip(
            ("nothing", "zeros", "another key's", "all but the last digit", "one digit"),
            ("", "0" * 64, told(RECIPIENT), told(NEW)[:-1], told(NEW)[0]),
            strict=True,
        )
    )[which]
    before = Vault.objects.values().get(pk=vault.pk)
    for pin in (pins.recipient_repin, pins.receipt_repin, pins.recovery_pin, pins.signing_pin):
        with refused("fingerprint-differs"):
            pin(vault, jwk_from_key(NEW), expected_fingerprint=typed, actor=ACTOR)
    assert Vault.objects.values().get(pk=vault.pk) == before
    assert actions(vault) == ["pinned"]


def test_keys_that_would_defeat_their_purpose_are_refused(vault: Vault) -> None:
    with refused("pin-refused"):
        pins.recovery_pin(vault, jwk_from_key(RECIPIENT), expected_fingerprint=told(RECIPIENT), actor=ACTOR)
    with refused("pin-refused"):
        pins.signing_pin(vault, jwk_from_key(SIGNER), expected_fingerprint=told(SIGNER), actor=ACTOR)
    with refused("pinned-already"):
        pins.recipient_repin(vault, jwk_from_key(RECIPIENT), expected_fingerprint=told(RECIPIENT), actor=ACTOR)
    pins.recovery_pin(vault, jwk_from_key(RECOVERY), expected_fingerprint=told(RECOVERY), actor=ACTOR)
    with refused("pin-refused"):
        pins.recipient_repin(vault, jwk_from_key(RECOVERY), expected_fingerprint=told(RECOVERY), actor=ACTOR)
    with refused("key-invalid"):
        pins.recovery_pin(vault, {"kty": "EC", "crv": "P-256"}, expected_fingerprint="", actor=ACTOR)


def test_recovery_signing_and_receipt_keys_come_and_go_audited(vault: Vault) -> None:
    pins.recovery_pin(vault, jwk_from_key(RECOVERY), expected_fingerprint=told(RECOVERY), actor=ACTOR)
    pins.signing_pin(vault, jwk_from_key(SIGNING), expected_fingerprint=told(SIGNING), actor=ACTOR)
    pins.receipt_repin(vault, jwk_from_key(NEW), expected_fingerprint=told(NEW), actor=ACTOR)
    assert (vault.recovery_jwk, vault.signing_jwk) == (jwk_from_key(RECOVERY), jwk_from_key(SIGNING))
    assert vault.receipt_jwk == jwk_from_key(NEW)
    latest = AuditEvent.objects.filter(subject=f"vault:{vault.pk}").latest("pk")
    assert latest.detail["from_jwk"] == jwk_from_key(SIGNER)  # receipts of before can still be verified
    pins.recovery_pin(vault, None, expected_fingerprint="", actor=ACTOR)
    pins.signing_pin(vault, None, expected_fingerprint="", actor=ACTOR)
    assert (vault.recovery_jwk, vault.signing_jwk) == (None, None)
    assert actions(vault) == [
        "pinned",
        "recovery key changed",
        "signing key changed",
        "receipt key changed",
        "recovery key changed",
        "signing key changed",
    ]


def test_the_demonstration_vault_keeps_its_key(vault: Vault) -> None:
    Vault.objects.update(demonstration=True)
    with refused("pin-refused"):
        pins.recipient_repin(vault, jwk_from_key(NEW), expected_fingerprint=told(NEW), actor=ACTOR)


def signed(vault: Vault) -> Vault:
    pins.signing_pin(vault, jwk_from_key(SIGNING), expected_fingerprint=told(SIGNING), actor=ACTOR)
    return vault


def test_the_recipients_statement_changes_its_key(vault: Vault) -> None:
    pins.rotation_apply(signed(vault), statement(vault) + "\n", actor=ACTOR)
    assert (vault.recipient_jwk, vault.rotation_serial) == (jwk_from_key(NEW), 1)
    detail = AuditEvent.objects.filter(subject=f"vault:{vault.pk}").latest("pk").detail
    assert (detail["by"], detail["serial"]) == ("recipient's statement", 1)


def test_c11_a_statement_of_a_lower_or_the_same_serial_is_refused(vault: Vault) -> None:
    first = statement(signed(vault), serial=5)
    pins.rotation_apply(vault, first, actor=ACTOR)
    back = {"from_kid": vault.recipient_key_id, "recipient_jwk": jwk_from_key(RECIPIENT)}
    for serial in (1, 4, 5):
        with refused("rotation-rollback"):
            pins.rotation_apply(vault, statement(vault, serial=serial, **back), actor=ACTOR)
    with refused("rotation-rollback"):
        pins.rotation_apply(vault, first, actor=ACTOR)
    assert vault.recipient_jwk == jwk_from_key(NEW)
    pins.rotation_apply(vault, statement(vault, serial=6, **back), actor=ACTOR)
    assert vault.recipient_jwk == jwk_from_key(RECIPIENT)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": SIGNER}, "rotation-signer-unknown"),
        ({"key": RECIPIENT}, "rotation-signer-unknown"),
        ({"vault_id": "vault-02"}, "rotation-mismatch"),
        ({"from_kid": thumbprint(jwk_from_key(RECOVERY))}, "rotation-mismatch"),
    ],
    ids=["vault's key", "recipient's key", "another vault", "another key before"],
)
def test_a_statement_of_anybody_else_or_about_anything_else_is_refused_and_told(
    vault: Vault, changes: dict[str, object], code: str
) -> None:
    token = statement(signed(vault), **changes)  # type: ignore[arg-type]
    with refused(code):
        pins.rotation_apply(vault, token, actor=ACTOR)
    vault.refresh_from_db()
    assert (vault.recipient_jwk, vault.rotation_serial) == (jwk_from_key(RECIPIENT), 0)
    alarm = AuditEvent.objects.filter(subject=f"vault:{vault.pk}").latest("pk")
    assert (alarm.event, alarm.outcome, alarm.detail["code"]) == ("Security Alert", "failure", code)


def test_without_a_pinned_signing_key_no_statement_counts(vault: Vault) -> None:
    for token in (statement(vault), "", "a.b.c"):
        with refused("pin-refused"):
            pins.rotation_apply(vault, token, actor=ACTOR)


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 40000, "é"])
def test_what_is_no_statement_is_refused(vault: Vault, token: str) -> None:
    with pytest.raises(pins.PinError):
        pins.rotation_apply(signed(vault), token, actor=ACTOR)


def test_a_new_vault_is_added_with_both_fingerprints_only() -> None:
    port = MemoryVault(identity_jwk())
    offer = pins.offer_fetch(port, recipient_key_id=thumbprint(jwk_from_key(RECIPIENT)))
    values = {"base_url": "https://v.example.org", "token": "t" * 20, "offer": offer, "actor": ACTOR}
    right = {"recipient_fingerprint": told(RECIPIENT), "receipt_fingerprint": told(SIGNER)}
    for name in right:
        with refused("fingerprint-differs"):
            vault_add("new", **values, **{**right, name: told(NEW)})  # type: ignore[arg-type]
    with refused("demonstration"):
        vault_add("new", **{**values, "offer": dataclasses.replace(offer, demonstration=True)}, **right)  # type: ignore[arg-type]
    assert not Vault.objects.exists()
    vault = vault_add("new", **values, **right, required=False)  # type: ignore[arg-type]
    assert (vault.vault_id, vault.required, vault.demonstration) == ("vault-01", False, False)
    with refused("vault-exists"):
        vault_add("new", **values, **right)  # type: ignore[arg-type]
