"""What the study's page and the vault's admin say of verification."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from gateway_project.core.models import JobState
from tests.web.factories import revision_make, series_make, study_make, upload_make, vault_make
from uploads.models import UploadJob, VaultCheck

pytestmark = pytest.mark.django_db
WORDS = "The vault has lost or changed 1 of the 6 files of this upload. Upload it anew."


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path


def job_make(**values: object) -> UploadJob:
    study = study_make()
    series_make(study)
    return upload_make(revision_make(study), vault_make(), **values)


def lost_make() -> UploadJob:
    asked = now() - timedelta(hours=2)
    return job_make(state=JobState.PARKED, error_code="vault-lost", error_words=WORDS, checked_at=asked)


def panel(client: Client, job: UploadJob) -> str:
    page = client.get(f"/studies/{job.revision.study_id}/").content.decode()
    return page.split('data-part="uploads"')[1].split("</section>")[0]


def test_a_verified_upload_says_since_when(viewer: Client) -> None:
    html = panel(viewer, job_make(verified_at=now() - timedelta(days=3)))
    assert "Verified in the vault" in html
    assert "3 days ago" in html


def test_one_that_was_not_asked_for_yet_says_nothing_of_it(viewer: Client) -> None:
    assert "Verified" not in panel(viewer, job_make())


@pytest.mark.parametrize(("role", "offered"), [("operator", True), ("viewer", False)])
def test_a_lost_upload_says_why_and_who_may_act_gets_the_button(client_as, role: str, offered: bool) -> None:
    job = lost_make()
    html = panel(client_as(role), job)
    assert WORDS in html
    assert "2 h ago" in html
    assert (f'action="/studies/{job.revision.study_id}/retry/"' in html) == offered
    assert ("Upload anew" in html.replace(WORDS, "")) == offered


def test_the_button_sends_the_study_anew(operator: Client) -> None:
    job = lost_make()
    operator.post(f"/studies/{job.revision.study_id}/retry/")
    anew = UploadJob.objects.get()
    assert anew.state == JobState.READY
    assert anew.upload_id != job.upload_id
    assert "Upload anew" not in panel(operator, anew).replace(WORDS, "")


def test_no_button_when_the_files_are_gone_here_too(operator: Client) -> None:
    job = lost_make()
    job.revision.instances.update(file_deleted_at=now())
    assert "<form" not in panel(operator, job)


def test_the_vaults_page_tells_and_everything_can_be_asked_for(administrator: Client) -> None:
    job = job_make(verified_at=now(), checked_at=now())
    page = reverse("admin:uploads_vault_change", args=[job.vault_id])
    assert "Uploads in it: 1, all verified since" in administrator.get(page).content.decode()
    posted = {"action": "verify_now", "_selected_action": [job.vault_id]}
    html = administrator.post(reverse("admin:uploads_vault_changelist"), posted, follow=True).content.decode()
    assert "it is asked for everything that it has" in html
    assert VaultCheck.objects.get().state == JobState.READY
    assert "Due: 1." in administrator.get(page).content.decode()
    VaultCheck.objects.update(offered=False)
    assert "does not offer it" in administrator.get(page).content.decode()
