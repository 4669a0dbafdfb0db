"""The chain of custody from rows, and judged against files, receipts and the audit trail."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F, QuerySet

from gateway_project.core.models import AuditEvent
from gateway_project.core.services.audit import audit_seal_due
from studies.models import Instance, Study, StudyRevision
from tests.uploads.stow_server import stow_server
from tests.uploads.upload_house import PATIENT, House
from uploads.envelope.keys import fingerprint, jwk_from_key, key_generate, thumbprint
from uploads.models import UploadAttempt, UploadJob, UploadPart, Vault
from uploads.selectors import study_uploads
from uploads.services.custody import custody_document
from uploads.services.identity import identity_jwk, identity_path
from uploads.services.pins import receipt_repin, recipient_repin
from uploads.services.stow_vaults import stow_vault_save

pytestmark = pytest.mark.django_db


@pytest.fixture
def study(house: House) -> Study:
    """Two revisions of a study in a vault, the second with a late object and a changed one."""
    house.vault_row()
    house.settled(1, (1, 2))
    house.drain()
    study = house.settled(1, (2, 3), extra=9)
    house.drain()
    audit_seal_due()
    study.refresh_from_db()
    assert study.state == "uploaded"
    return study


def exported(study: Study, folder: Path) -> Path:
    path = folder / "custody.json"
    path.unlink(missing_ok=True)
    call_command("custodyexport", str(study.pk), out=str(path), stdout=StringIO())
    return path


def verified(path: Path, **options: Any) -> str:
    out = StringIO()
    call_command("custodyverify", str(path), stdout=out, **options)
    return out.getvalue()


def refused(path: Path, **options: Any) -> tuple[int, str]:
    """The exit code, and all that was said."""
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("custodyverify", str(path), stdout=out, **options)
    return caught.value.returncode, out.getvalue() + str(caught.value)


def records(path: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in json.loads(path.read_bytes())["records"] if record["kind"] == kind]


def test_document_follows_each_instance_from_wire_to_receipt(house: House, study: Study, tmp_path: Path) -> None:
    path = exported(study, tmp_path)
    uploads = {record["upload_id"]: record for record in records(path, "upload")}
    assert [record["revision"] for record in uploads.values()] == [1, 2]
    found = records(path, "instance")
    assert len(found) == 4
    for record in found:
        instance = study.instances.get(sop_instance_uid=record["sop_instance_uid"], version=record["version"])
        part = UploadPart.objects.get(instance=instance)
        assert record["received"]["dataset_sha256"] == instance.sha256
        assert record["received"]["calling_ae_title"] == "CT1"
        (sent,) = record["sent"]
        assert (sent["file_sha256"], sent["ciphertext_sha256"]) == (part.content_sha256, part.sha256)
        assert uploads[sent["upload_id"]]["receipt"] == part.job.receipt
    actions = [record["detail"].get("action") for record in records(path, "event")]
    assert {"settled", "dispatched", "uploaded", "chain of custody exported"} <= set(actions)


def test_everything_holds_and_is_said_for_each_instance(study: Study, tmp_path: Path) -> None:
    said = verified(exported(study, tmp_path))
    assert said.startswith("Signature: holds.")
    assert len(re.findall(r"^instance .*: holds \(its file is what was received; the receipt of main", said, re.M)) == 4
    assert len(re.findall(r"^upload .*: holds \(receipt for \d+ files", said, re.M)) == 2
    assert "DOES NOT HOLD" not in said
    assert "Not holding: 0." in said


def test_document_and_output_hold_no_patient(study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    path = exported(study, tmp_path)
    said = verified(path)
    for text in (PATIENT, PATIENT.split("^", maxsplit=1)[0]):
        assert text not in path.read_text() + said + caplog.text
    assert study.study_instance_uid not in caplog.text


def test_details_that_are_not_known_to_be_harmless_are_left_out(study: Study, tmp_path: Path) -> None:
    AuditEvent.objects.create(
        event="Query", actor="user:a", subject=f"study:{study.pk}", detail={"action": "x", "patient": PATIENT}
    )
    path = exported(study, tmp_path)
    assert PATIENT not in path.read_text()
    assert "Not holding: 0." in verified(path)


def test_damaged_and_missing_files_are_told(house: House, study: Study, tmp_path: Path) -> None:
    path = exported(study, tmp_path)
    damaged, missing = study.instances.order_by("pk")[:2]
    content = bytearray(house.file_of(damaged).read_bytes())
    content[-1] ^= 1
    house.file_of(damaged).write_bytes(content)
    house.file_of(missing).unlink()
    code, said = refused(path, faults=True)
    assert code == 1
    assert f"instance {damaged.sop_instance_uid} version 1: DOES NOT HOLD (its file is damaged" in said
    assert f"instance {missing.sop_instance_uid} version 1: DOES NOT HOLD (its file is missing" in said
    assert said.count("DOES NOT HOLD") == 2
    assert "Not holding: 2." in said


def test_file_meta_that_was_changed_is_told(house: House, study: Study, tmp_path: Path) -> None:
    path = exported(study, tmp_path)
    file = house.file_of(study.instances.earliest("pk"))
    content = file.read_bytes()
    file.write_bytes(content.replace(b"CT1 ", b"CT2 ", 1))
    code, said = refused(path)
    assert (code, "its file meta is not what was sent" in said) == (1, True)


def test_deleted_files_are_no_fault_and_the_receipt_still_speaks(house: House, study: Study, tmp_path: Path) -> None:
    from django.utils.timezone import now

    path = exported(study, tmp_path)
    for instance in study.instances.all():
        house.file_of(instance).unlink()
    study.instances.update(file_deleted_at=now())
    said = verified(path)
    assert said.count("its file was deleted here") == 4
    assert said.count("the receipt of main covers its ciphertext") == 4


def test_rows_that_were_changed_are_told(study: Study, tmp_path: Path) -> None:
    path = exported(study, tmp_path)
    Instance.objects.filter(pk=study.instances.earliest("pk").pk).update(sha256="0" * 64)
    UploadJob.objects.filter(revision__number=1).update(receipt="a.b.c")
    QuerySet(AuditEvent).filter(subject=f"study:{study.pk}", detail__action="settled").update(actor="user:mallory")
    code, said = refused(path, faults=True)
    assert code == 1
    for words in ("index has another hash", "another commitment or receipt", "the audit trail says otherwise"):
        assert words in said


def test_receipt_of_another_vault_does_not_hold(study: Study, tmp_path: Path) -> None:
    path = exported(study, tmp_path)
    Vault.objects.update(receipt_jwk=jwk_from_key(key_generate()))
    code, said = refused(path)
    assert code == 1
    assert said.count("the receipt does not hold") == 2
    assert said.count("no receipt of main covers it") == 4


def test_receipts_and_recipients_of_before_a_change_of_keys_stay_what_they_were(
    house: House, study: Study, tmp_path: Path
) -> None:
    vault, old = Vault.objects.get(), records(exported(study, tmp_path), "upload")[0]["vault"]
    receipt, recipient = (jwk_from_key(key_generate()) for _ in range(2))
    receipt_repin(vault, receipt, expected_fingerprint=fingerprint({**receipt}), actor="user:test")
    recipient_repin(vault, recipient, expected_fingerprint=fingerprint({**recipient}), actor="user:test")
    path = exported(study, tmp_path)
    for record in records(path, "upload"):
        assert (record["vault"]["receipt_jwk"], record["vault"]["recipient_key_id"]) == (
            old["receipt_jwk"],
            old["recipient_key_id"],
        )
    assert "Not holding: 0" in verified(path)
    UploadJob.objects.update(upload_id=F("receipt_id"))  # a gateway that does not know these uploads
    assert "Not holding: 0" in verified(path)
    shown = study_uploads(study.pk)[0].key_ids
    assert shown == [old["recipient_key_id"]]


def test_part_that_the_receipt_does_not_name_is_told(study: Study, tmp_path: Path) -> None:
    """Somebody with the database makes a row say more than the vault signed for."""
    UploadPart.objects.filter(instance=study.instances.earliest("pk")).update(sha256="0" * 64)
    code, said = refused(exported(study, tmp_path), faults=True)
    assert (code, "the receipt of main does not cover its ciphertext" in said) == (1, True)


def test_changed_document_is_refused(study: Study, tmp_path: Path) -> None:
    path = exported(study, tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"CT1"', b'"CT2"', 1))
    code, said = refused(path)
    assert (code, "not those that were signed" in said) == (1, True)


def test_other_gateways_document_is_refused_unless_its_key_is_given(study: Study, tmp_path: Path) -> None:
    path = exported(study, tmp_path)
    theirs = identity_jwk()
    identity_path().unlink()
    ours = identity_jwk()
    assert refused(path)[0] == 1
    jwk_file = tmp_path / "identity.jwk"
    jwk_file.write_text(json.dumps(theirs))
    for identity in (str(jwk_file), fingerprint(theirs), fingerprint(theirs).replace(" ", ":").upper(),
                     thumbprint(theirs)):  # fmt: skip
        assert verified(path, identity=identity).startswith("Signature: holds.")
    assert refused(path, identity=fingerprint(ours))[0] == 1


def test_gateway_without_the_study_judges_signature_and_receipts(
    house: House, study: Study, tmp_path: Path, settings
) -> None:
    """As an auditor with a fresh installation does: nothing is made there either."""
    path = exported(study, tmp_path)
    theirs = fingerprint(identity_jwk())
    for model in (UploadPart, UploadAttempt, UploadJob, Instance):
        model.objects.all().delete()
    StudyRevision.objects.all().delete()
    study.series.all().delete()
    study.delete()
    settings.DATA_DIR = tmp_path / "elsewhere"
    settings.DATA_DIR.mkdir()
    assert refused(path)[0] == 2, "whose signature to expect must be said"
    said = verified(path, identity=theirs)
    assert "does not have the study" in said
    assert said.count("the receipt of main covers its ciphertext") == 4
    assert "Not holding: 0." in said
    assert list(settings.DATA_DIR.iterdir()) == []


def test_later_objects_do_not_make_an_older_document_wrong(house: House, study: Study, tmp_path: Path) -> None:
    path = exported(study, tmp_path)
    house.settled(1, (4,))
    house.drain()
    assert "Not holding: 0." in verified(path)


def test_study_of_a_dicomweb_server_says_that_nothing_is_signed(house: House, tmp_path: Path) -> None:
    with stow_server() as server:
        stow_vault_save(Vault(name="pacs", base_url=server.url), actor="user:test")
        server.reasons["1.2.826.0.1.3680043.10.77.1.1.2"] = 0xC000
        study = house.settled(1, (1, 2))
        house.drain()
    path = exported(study, tmp_path)
    stored, failed = records(path, "instance")
    assert stored["sent"][0]["ciphertext_sha256"] is None
    assert stored["sent"][0]["confirmed_at"]
    assert failed["sent"][0]["confirmed_at"] is None
    assert failed["sent"][0]["result_code"] == "C000"
    said = verified(path)
    assert "confirmed by pacs by name" in said
    assert "not stored by pacs" in said
    assert "signs no receipt" in said


def test_export_finds_a_study_by_its_uid(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "by-uid.json"
    call_command("custodyexport", study.study_instance_uid, out=str(path), stdout=StringIO())
    assert path.stat().st_mode & 0o777 == 0o600
    assert "Not holding: 0." in verified(path)


@pytest.mark.parametrize("name", ["999999", "1.2.3", "x", "²", "9" * 30])
def test_export_of_no_study_writes_nothing(house: House, tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("custodyexport", name, out=str(tmp_path / "x"))
    assert caught.value.returncode == 2
    assert not (tmp_path / "x").exists()


def test_export_overwrites_nothing(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("kept")
    with pytest.raises(CommandError):
        call_command("custodyexport", str(study.pk), out=str(path))
    assert path.read_text() == "kept"


def test_files_that_are_no_document_end_with_2(house: House, tmp_path: Path) -> None:
    identity_jwk()
    for content in (b"", b"{}", b"\x00" * 5000):
        path = tmp_path / "x"
        path.write_bytes(content)
        assert refused(path)[0] == 2
    assert refused(tmp_path / "none")[0] == 2
    path.write_bytes(b"{}")
    bad = tmp_path / "bad.jwk"
    bad.write_text("[]")
    assert refused(path, identity=str(bad))[0] == 2


def test_each_export_is_in_the_audit_trail(house: House, study: Study) -> None:
    b"".join(custody_document(study, actor="user:anna"))
    event = AuditEvent.objects.get(subject=f"study:{study.pk}", detail__action="chain of custody exported")
    assert (event.actor, event.event) == ("user:anna", "Data Export")
