"""What is lost or damaged, here or in the vault: nothing wrong is sent, and nothing waits in silence."""

from pathlib import Path

import pytest
from django.conf import settings

from gateway_project.core.models import Alert, AuditEvent, JobState, Severity
from gateway_project.wiring import pipeline
from studies.models import Instance
from tests.uploads.faults import at_name, killed_at, raising
from tests.uploads.memory_vault import lane_error
from tests.uploads.upload_house import PATIENT, House, staged
from uploads.ports import VaultError
from uploads.services import staging

pytestmark = pytest.mark.django_db


def flip(path: Path, at: int) -> None:
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x01
    path.write_bytes(content)


def sent_files(house: House) -> list[str]:
    return [name for name in house.vault.puts() if name.startswith("file-")]


@pytest.mark.parametrize("at", [-1, -1500, 132 + 60, 500], ids=["last", "pixels", "meta", "header"])
def test_a_damaged_object_parks_the_upload_and_is_not_sent(house: House, at: int) -> None:
    house.vault_row()
    study = house.settled(instances=[1, 2])
    victim = study.instances.order_by("pk")[1]
    whole = house.stored(victim)
    flip(house.file_of(victim), at)
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.PARKED, "object-damaged")
    assert "not what was received" in job.error_words
    assert sent_files(house) == ["file-00001.gve"]
    assert house.vault.commits == {}
    assert [path for path in staged() if "/" in path] == [], "not even sealed"
    study.refresh_from_db()
    assert (study.state, study.reason) == ("failed_permanent", job.error_words)
    alert = Alert.objects.get(key=f"job:upload:{job.pk}")
    assert (alert.severity, alert.code) == (Severity.CRITICAL, "object-damaged")
    assert PATIENT not in alert.words

    house.file_of(victim).write_bytes(whole)
    assert pipeline.retry(study.pk, actor="user:anna") == 1
    house.drain()
    house.uploaded(study)
    assert not Alert.objects.filter(healed_at=None, key=alert.key).exists()


@pytest.mark.parametrize("change", ["cut", "longer", "empty"])
def test_an_object_of_another_length_is_damaged(house: House, change: str) -> None:
    house.vault_row()
    study = house.settled(instances=[1])
    file = house.file_of(study.instances.get())
    content = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes({"cut": content[:-7], "longer": content + b"\0\0", "empty": b""}[change])
    house.drain()
    assert house.job(study).error_code == "object-damaged"
    assert sent_files(house) == []


def test_a_file_meta_that_names_another_object_is_damage(house: House) -> None:
    """The meta has no hash of its own; a wrong transfer syntax in it would make the data set unreadable."""
    house.vault_row()
    study = house.settled(instances=[1])
    Instance.objects.update(transfer_syntax_uid="1.2.840.10008.1.2")
    house.drain()
    assert house.job(study).error_code == "object-damaged"
    assert sent_files(house) == []


def test_a_file_that_is_gone_parks_the_upload(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1, 2])
    house.file_of(study.instances.order_by("pk")[0]).unlink()
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.PARKED, "object-missing")
    assert "restore it from a backup" in job.error_words
    assert sent_files(house) == []


def test_one_studys_damage_does_not_hold_up_the_next(house: House) -> None:
    house.vault_row()
    first, second = house.settled(1), house.settled(2)
    house.file_of(first.instances.first()).unlink()
    assert house.drain() == 2
    second.refresh_from_db()
    assert second.state == "uploaded"


def test_a_full_disk_waits_and_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row()
    study = house.settled()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(staging.os, "fsync", full)
        house.drain()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.READY, "disk-full")
    assert "free space" in job.error_words
    house.drain_later()
    house.uploaded(study)


# Staged copies


def test_a_staged_copy_that_is_lost_is_not_missed_when_the_vault_has_it(house: House) -> None:
    house.vault_row()
    study = house.settled()
    house.vault.after = at_name("put file-00001", raising(lane_error(1)))
    house.drain()
    job = house.job(study)
    (settings.DATA_DIR / "uploads" / job.upload_id / job.parts.get(name="file-00001.gve").sha256).unlink()
    house.drain_later()
    house.uploaded(study)
    assert house.job(study).upload_id == job.upload_id
    assert house.vault.puts().count("file-00001.gve") == 1


@pytest.mark.parametrize("name", ["key", "file-00001", "map"])
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_staged_copy_that_nobody_has_begins_the_upload_anew(house: House, name: str, how: str) -> None:
    """Above all a key document: what is sealed under it could never be opened."""
    house.vault_row()
    study = house.settled()
    house.vault.before = at_name(f"put {name}", raising(lane_error(1)))
    house.drain()
    old = house.job(study)
    copy = settings.DATA_DIR / "uploads" / old.upload_id / old.parts.get(name__startswith=name).sha256
    if how == "lost":
        copy.unlink()
    else:
        flip(copy, -1)
    house.one_later()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.READY, "upload-begun-anew")
    assert job.upload_id != old.upload_id
    assert job.parts.count() == 0
    assert staged() == []
    house.drain_later()
    house.uploaded(study)
    assert list(house.vault.commits) == [job.upload_id]
    record = AuditEvent.objects.get(detail__action="upload begun anew")
    assert (record.detail["old_upload_id"], record.detail["upload_id"]) == (old.upload_id, job.upload_id)


def test_the_whole_data_directory_of_staging_may_vanish(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row()
    study = house.settled()
    killed_at(house, "upload.staged", monkeypatch, passes=2)
    staging.Staging(house.job(study).upload_id).clear()
    house.drain()
    house.drain_later()
    house.uploaded(study)


# What the vault forgets


def test_a_confirmed_file_that_the_vault_lost_begins_the_upload_anew(house: House) -> None:
    house.vault_row()
    study = house.settled()
    upload_id = house.job(study).upload_id
    house.vault.before = at_name("commit", lambda: house.vault.uploads[upload_id].pop("file-00002.gve"))
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code, job.commitment) == (JobState.READY, "upload-begun-anew", "")
    house.drain_later()
    house.uploaded(study)
    assert len(house.vault.commits) == 1
    assert house.job(study).upload_id != upload_id


def test_a_name_with_other_content_begins_the_upload_anew(house: House) -> None:
    """As after a restored database, which has forgotten what was sealed."""
    house.vault_row()
    study = house.settled()
    house.vault.uploads[house.job(study).upload_id] = {"file-00001.gve": b"sealed before the restore"}
    house.drain()
    assert house.job(study).error_code == "upload-begun-anew"
    house.drain_later()
    house.uploaded(study)


@pytest.mark.parametrize("forgotten", ["before the commitment", "all of it"])
def test_an_upload_that_the_vault_closed_with_other_files_waits_for_a_person(house: House, forgotten: str) -> None:
    """A database restored to before the receipt: nothing is sent twice unless a person asks for it."""
    house.vault_row()
    study = house.settled()
    house.drain()
    old = house.job(study)
    type(old).objects.update(state=JobState.READY, receipt="", receipt_id="", receipt_at=None, commitment="")
    if forgotten == "all of it":
        old.parts.all().delete()
    else:
        old.parts.filter(name="map.jwe").delete()
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.PARKED, "upload-sealed")
    assert len(house.vault.commits) == 1
    assert pipeline.retry(study.pk, actor="user:anna") == 1
    house.drain()
    job = house.job(study)
    assert job.state == JobState.DONE
    assert job.upload_id != old.upload_id
    assert set(house.vault.opened(job.upload_id)) == set(house.sent)
    record = AuditEvent.objects.get(detail__action="upload begun anew")
    assert record.actor == "user:anna"


def test_a_vault_that_refuses_our_signature_stops_the_lane_not_the_study(house: House) -> None:
    house.vault_row()
    study = house.settled()
    right, house.vault.gateway_jwk = house.vault.gateway_jwk, house.vault.receipt_jwk
    house.drain()
    job = house.job(study)
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, "commitment-invalid")
    assert job.lane.held
    house.vault.gateway_jwk = right
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    house.uploaded(study)


def test_a_refused_token_stops_the_lane_without_endless_retry(house: House) -> None:
    house.vault_row()
    study = house.settled()
    refused = VaultError("unauthorized", "The vault does not accept the token; enter a valid one.", lane_fault=True)
    house.vault.before = at_name("put file", raising(refused))
    house.drain()
    assert house.job(study).lane.held
    assert house.drain_later() == 0
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    house.uploaded(study)
