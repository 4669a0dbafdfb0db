"""A canary proves that the recipient's key opens what is sealed for it; without that nothing may ever be deleted."""

import io
from pathlib import Path

import pytest

from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEvent
from tests.uploads.memory_vault import RECIPIENT, MemoryVault
from tests.uploads.upload_house import House
from uploads.envelope.canary import canary_proof, proof_digest
from uploads.envelope.encoding import base64url_decode
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import fingerprint, jwk_from_key, key_generate, thumbprint
from uploads.envelope.unseal import Opener
from uploads.models import UploadJob, Vault
from uploads.selectors import deletion_allowed, upload_allows_deletion
from uploads.services.canary import canary_prove, canary_send
from uploads.services.pins import PinError, recipient_repin, recovery_pin

ACTOR = "user:anna"
NEW = key_generate()


@pytest.fixture
def vault(house: House) -> Vault:
    return house.vault_row()


def opened(port: MemoryVault, upload_id: str, *, kid: str = "") -> str:
    """What the recipient reads out of it, by its own means."""
    canary = port.document(upload_id, "map")["canary"]
    sink = io.BytesIO()
    port.opener(upload_id).open(io.BytesIO(port.uploads[upload_id][canary["name"]]), sink)
    kid = kid or thumbprint(jwk_from_key(RECIPIENT))
    return canary_proof(base64url_decode(canary["nonce"]), sink.getvalue(), upload_id=upload_id, kid=kid)


def refused(code: str) -> pytest.RaisesExc[PinError]:
    return pytest.RaisesExc(PinError, check=lambda error: error.code == code)


def test_only_who_has_opened_the_canary_knows_its_proof(house: House, vault: Vault) -> None:
    assert not deletion_allowed(vault)
    upload_id = canary_send(vault, house.vault, actor=ACTOR)
    assert (vault.canary_upload_id, vault.canary_proved_at, deletion_allowed(vault)) == (upload_id, None, False)
    proof = opened(house.vault, upload_id)
    for wrong in ("", "x", proof[:-1], proof + "A", vault.canary_proof_sha256, upload_id):
        with refused("proof-wrong"):
            canary_prove(vault, wrong, actor=ACTOR)
        assert not deletion_allowed(vault)
    canary_prove(vault, f" {proof.lower().replace('-', ' ')}\n", actor=ACTOR)
    assert vault.canary_proved_at is not None
    assert deletion_allowed(vault)
    records = AuditEvent.objects.filter(subject=f"vault:{vault.pk}").order_by("pk")
    said = list(records.values_list("detail__action", "outcome"))
    assert said[-1] == ("canary proved", "success")
    assert said.count(("canary proof refused", "failure")) == 6


def test_the_proof_is_kept_nowhere(house: House, vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    proof = opened(house.vault, canary_send(vault, house.vault, actor=ACTOR))
    kept = str(list(Vault.objects.values())) + str(list(AuditEvent.objects.values())) + caplog.text
    assert proof not in kept
    assert proof.replace("-", "") not in kept
    assert proof_digest(proof) in kept


def test_another_canary_makes_the_one_before_it_worthless(house: House, vault: Vault) -> None:
    first = opened(house.vault, canary_send(vault, house.vault, actor=ACTOR))
    second = opened(house.vault, canary_send(vault, house.vault, actor=ACTOR))
    with refused("proof-wrong"):
        canary_prove(vault, first, actor=ACTOR)
    canary_prove(vault, second, actor=ACTOR)


def test_a_canary_is_sealed_for_the_recipient_alone(house: House, vault: Vault) -> None:
    Vault.objects.update(recovery_jwk=jwk_from_key(NEW))
    vault.refresh_from_db()
    upload_id = canary_send(vault, house.vault, actor=ACTOR)
    assert sum(name.startswith("key-") for name in house.vault.uploads[upload_id]) == 1


def test_the_recovery_key_has_a_canary_of_its_own_and_deletion_waits_for_it(house: House, vault: Vault) -> None:
    with refused("recovery-missing"):
        canary_send(vault, house.vault, actor=ACTOR, recovery=True)
    canary_prove(vault, opened(house.vault, canary_send(vault, house.vault, actor=ACTOR)), actor=ACTOR)
    assert deletion_allowed(vault)
    jwk = jwk_from_key(NEW)
    recovery_pin(vault, jwk, expected_fingerprint=fingerprint({**jwk}), actor=ACTOR)
    study = house.settled(1)
    house.drain()
    assert not deletion_allowed(vault)
    assert not upload_allows_deletion(house.job(study))
    with refused("canary-missing"):
        canary_prove(vault, "x", actor=ACTOR, recovery=True)

    upload_id = canary_send(vault, house.vault, actor=ACTOR, recovery=True)
    assert (vault.recovery_canary_upload_id, vault.recovery_canary_proved_at) == (upload_id, None)
    assert vault.canary_upload_id != upload_id
    with pytest.raises(EnvelopeError):
        opened(house.vault, upload_id)  # the recipient's key does not open it
    house.vault.opener_key = NEW
    proof = opened(house.vault, upload_id, kid=thumbprint(jwk))
    with refused("proof-wrong"):
        canary_prove(vault, proof, actor=ACTOR)  # for the recipient's
    canary_prove(vault, proof, actor=ACTOR, recovery=True)
    assert vault.recovery_canary_proved_at is not None
    assert deletion_allowed(vault)
    assert upload_allows_deletion(house.job(study))

    recovery_pin(vault, None, expected_fingerprint="", actor=ACTOR)
    assert (vault.recovery_canary_upload_id, vault.recovery_canary_proved_at) == ("", None)
    recovery_pin(vault, jwk, expected_fingerprint=fingerprint({**jwk}), actor=ACTOR)
    assert vault.recovery_canary_proved_at is not None, "a key that was proved stays so"


def test_with_another_key_everything_begins_again_and_old_uploads_keep_their_proof(house: House, vault: Vault) -> None:
    study = house.settled(1)
    house.drain()
    job = house.job(study)
    assert job.recipient_key_ids == vault.recipient_key_id
    assert not upload_allows_deletion(job)
    canary_prove(vault, opened(house.vault, canary_send(vault, house.vault, actor=ACTOR)), actor=ACTOR)
    job = UploadJob.objects.select_related("vault").get(pk=job.pk)
    assert upload_allows_deletion(job)
    jwk = jwk_from_key(NEW)
    recipient_repin(vault, jwk, expected_fingerprint=fingerprint({**jwk}), actor=ACTOR)
    assert (vault.canary_upload_id, vault.canary_proved_at, deletion_allowed(vault)) == ("", None, False)
    with refused("canary-missing"):
        canary_prove(vault, "x", actor=ACTOR)
    job = UploadJob.objects.select_related("vault").get(pk=job.pk)
    assert upload_allows_deletion(job)  # that one is sealed for the key that was proved
    job.recipient_key_ids = thumbprint(jwk)
    assert not upload_allows_deletion(job)


def test_an_upload_without_a_receipt_or_of_before_is_no_reason_to_delete(house: House, vault: Vault) -> None:
    canary_prove(vault, opened(house.vault, canary_send(vault, house.vault, actor=ACTOR)), actor=ACTOR)
    study = house.settled(1)
    job = house.job(study)
    job.recipient_key_ids = vault.recipient_key_id
    assert not upload_allows_deletion(job)
    house.drain()
    done = house.job(study)
    assert upload_allows_deletion(done)
    done.recipient_key_ids = ""
    assert not upload_allows_deletion(done)


def test_a_demonstration_never_allows_deletion(house: House, vault: Vault) -> None:
    canary_prove(vault, opened(house.vault, canary_send(vault, house.vault, actor=ACTOR)), actor=ACTOR)
    vault.demonstration = True
    assert not deletion_allowed(vault)


def test_c10_no_canary_goes_to_a_vault_that_shows_another_key(house: House, vault: Vault) -> None:
    house.vault.recipients[vault.recipient_key_id] = jwk_from_key(NEW)
    with pytest.raises(JobFault) as raised:
        canary_send(vault, house.vault, actor=ACTOR)
    assert (raised.value.code, raised.value.hard_stop) == ("recipient-key-differs", True)
    assert house.vault.puts() == []


def test_c18_a_receipt_that_does_not_hold_leaves_no_canary(house: House, vault: Vault) -> None:
    house.vault.receipt_changed = lambda receipt: receipt[:-8] + "AAAAAAAA"
    with refused("receipt-invalid"):
        canary_send(vault, house.vault, actor=ACTOR)
    vault.refresh_from_db()
    assert vault.canary_upload_id == ""


def test_a_key_changed_while_the_canary_was_under_way_gets_no_proof_of_the_old_one(house: House, vault: Vault) -> None:
    jwk = jwk_from_key(NEW)

    def changed(_number: int, call: str) -> None:
        if call.startswith("commit"):
            other = Vault.objects.get(pk=vault.pk)
            recipient_repin(other, jwk, expected_fingerprint=fingerprint({**jwk}), actor=ACTOR)

    house.vault.after = changed
    with refused("key-changed"):
        canary_send(vault, house.vault, actor=ACTOR)
    assert Vault.objects.get(pk=vault.pk).canary_proof_sha256 == ""


def test_nobody_else_can_open_it(house: House, vault: Vault) -> None:
    files = house.vault.uploads[canary_send(vault, house.vault, actor=ACTOR)]
    (key,) = [content for name, content in files.items() if name.startswith("key-")]
    with pytest.raises(EnvelopeError) as raised:
        Opener(NEW).add_key(key)
    assert raised.value.code == "not-for-this-key"


def test_proofs_differ_with_every_part() -> None:
    values = {"nonce": b"n" * 32, "content": b"c", "upload_id": "0" * 32, "kid": "k" * 43}
    changes = [{}, {"nonce": b"m" * 32}, {"content": b"d"}, {"upload_id": "1" * 32}, {"kid": "j" * 43}]
    proofs = {canary_proof(**{**values, **change}) for change in changes}  # type: ignore[arg-type]
    assert len(proofs) == len(changes)
    assert all(len(proof) == 39 for proof in proofs)


def test_staging_is_untouched_by_canaries(house: House, vault: Vault, settings) -> None:
    canary_send(vault, house.vault, actor=ACTOR)
    assert not (Path(settings.DATA_DIR) / "uploads").exists()
