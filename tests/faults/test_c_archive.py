"""FAULTS.md A7, C25: the reference vault says "stored", then its disk loses it. The gateway's own worker finds out."""

# ruff: noqa: F811 - the fixtures are imported

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert, JobState, Severity
from gateway_project.core.services.jobs import job_claim
from gateway_project.core.tasks import run_one
from gateway_project.wiring import pipeline
from studies.models import Study
from tests.uploads.conftest import house  # noqa: F401 - the fixture
from tests.uploads.memory_vault import RECIPIENT
from tests.uploads.reference_vault import TOKEN, VAULT_ID, vault_directory, vault_served
from tests.uploads.upload_house import House
from uploads import tasks
from uploads.envelope.keys import jwk_from_key
from uploads.models import UploadJob
from uploads.queue import VERIFY_QUEUE
from uploads.services.identity import identity_jwk
from uploads.services.vaults import vault_client, vault_ensure
from uploads.vault.archive import upload_remove
from uploads.vault.layout import stored_file, upload_directory
from uploads.vault.recipient import open_upload
from uploads.vault.registry import recipient_register, vault_receipt_jwk

pytestmark = pytest.mark.django_db


@pytest.fixture
def archive(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a vault that serves, and that the gateway has pinned."""
    monkeypatch.setattr("uploads.tasks.vault_client", vault_client)
    directory = vault_directory(tmp_path / "vault", jwk=identity_jwk())
    recipient_register(directory, jwk_from_key(RECIPIENT))
    with vault_served(directory) as (_process, port):
        vault_ensure("main", base_url=f"http://127.0.0.1:{port}", vault_id=VAULT_ID, token=TOKEN, actor="user:test",
                     recipient_jwk=jwk_from_key(RECIPIENT), receipt_jwk=vault_receipt_jwk(directory),
                     demonstration=True)  # fmt: skip
        yield directory


def verified(house: House, study: Study) -> UploadJob:
    """After the ticker's ring, forty days later."""
    UploadJob.objects.update(checked_at=now() - timedelta(days=40))
    tasks.verify_plan(now())
    check = job_claim(VERIFY_QUEUE, now=now())
    assert check is not None
    run_one(VERIFY_QUEUE, check)
    return house.job(study)


def data_file(archive: Path, job: UploadJob, name: str = "file-00001.gve") -> Path:
    found = stored_file(upload_directory(archive, job.upload_id), name)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("fault", ["gone", "flipped", "cut", "removed"])
def test_c25_a_vault_that_loses_what_it_has_signed_for_is_found_out(
    house: House, archive: Path, tmp_path: Path, fault: str
) -> None:
    study = house.settled(instances=range(1, 4))
    house.drain()
    job = house.job(study)
    assert job.state == JobState.DONE, job.error_words
    assert verified(house, study).verified_at is not None

    path = data_file(archive, job)
    content = path.read_bytes()
    {
        "gone": path.unlink,
        "flipped": lambda: path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:]),
        "cut": lambda: path.write_bytes(content[:-1]),
        "removed": lambda: upload_remove(archive, job.upload_id),
    }[fault]()
    lost = verified(house, study)
    study.refresh_from_db()
    assert (lost.state, lost.lost) == (JobState.PARKED, True)
    assert (study.state, study.reason) == ("failed_permanent", lost.error_words)
    assert Alert.objects.get(healed_at=None).severity == Severity.CRITICAL

    assert pipeline.retry(study.pk, actor="user:anna") == 1
    house.drain()
    anew = verified(house, study)
    study.refresh_from_db()
    assert (anew.state, study.state) == (JobState.DONE, "uploaded")
    assert anew.verified_at is not None
    assert not Alert.objects.filter(healed_at=None).exists()
    opened = open_upload(archive, anew.upload_id, private_key=RECIPIENT, target=tmp_path / "opened")
    assert (opened.complete, len(opened.files)) == (True, 3)
