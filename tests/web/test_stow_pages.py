"""DICOMweb vaults in the admin, and what the study's page says of uploads to them."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from gateway_project.core.models import AuditEvent, JobState, Lane
from gateway_project.core.secrets import secret_decrypt
from tests.web.factories import attempt_make, revision_make, series_make, study_make, upload_make, vault_make
from uploads.models import StowVault, UploadJob, UploadPart, Vault

pytestmark = pytest.mark.django_db
ADD = "/admin/uploads/stowvault/add/"
SECRET = "MARK-secret-of-the-server"
FORM = {
    "name": "pacs",
    "base_url": "https://pacs.example.org/dicom-web",
    "required": "on",
    "auth_kind": "oauth",
    "auth_user": "gateway",
    "secret": SECRET,
    "oauth_token_url": "https://login.example.org/token",
    "oauth_scope": "dicom.write",
    "batch_instances": "50",
    "batch_bytes": "100000000",
}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path


def added(administrator: Client, **values: str) -> StowVault:
    answer = administrator.post(ADD, FORM | values)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    return StowVault.objects.get(name=values.get("name", "pacs"))


def change(vault: Vault) -> str:
    return reverse("admin:uploads_stowvault_change", args=(vault.pk,))


def test_vault_is_added_with_a_lane_of_its_own_and_audited(administrator) -> None:
    vault = added(administrator)
    assert (vault.transport, vault.recipient_key_id, vault.recipient_jwk, vault.receipt_jwk) == ("stow", "", {}, {})
    assert (vault.lane.name, vault.enabled, vault.deletion_allowed) == ("vault:pacs", True, False)
    assert secret_decrypt(vault.token) == SECRET
    record = AuditEvent.objects.get(subject=f"vault:{vault.pk}")
    assert (record.detail["action"], record.detail["secret"]) == ("DICOMweb vault added", "set anew")
    assert record.actor.startswith("user:administrator")
    assert SECRET not in str(record.detail)


def test_form_says_that_it_is_not_end_to_end_encrypted(administrator) -> None:
    assert "not end-to-end encrypted" in administrator.get(ADD).content.decode()


def test_secret_is_never_shown_and_an_empty_field_keeps_it(administrator) -> None:
    vault = added(administrator)
    html = administrator.get(change(vault)).content.decode()
    assert SECRET not in html
    assert vault.token not in html
    administrator.post(change(vault), FORM | {"secret": "", "deletion_allowed": "on"})
    vault.refresh_from_db()
    assert secret_decrypt(vault.token) == SECRET
    assert vault.deletion_allowed
    assert AuditEvent.objects.filter(subject=f"vault:{vault.pk}", detail__deletion_allowed=True).exists()
    administrator.post(change(vault), FORM | {"secret": "another"})
    vault.refresh_from_db()
    assert secret_decrypt(vault.token) == "another"
    administrator.post(change(vault), FORM | {"secret": "", "auth_kind": "none"})
    vault.refresh_from_db()
    assert vault.token == ""
    assert Lane.objects.filter(name__startswith="vault:").count() == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"base_url": "http://pacs.example.org/dicom-web"}, "base_url"),
        ({"base_url": "https://user:pass@pacs.example.org/"}, "base_url"),
        ({"base_url": "https://pacs.example.org/?a=b"}, "base_url"),
        ({"oauth_token_url": "http://login.example.org/token"}, "oauth_token_url"),
        ({"oauth_token_url": ""}, "oauth_token_url"),
        ({"auth_user": ""}, "auth_user"),
        ({"secret": ""}, "secret"),
        ({"auth_kind": "bearer", "secret": ""}, "secret"),
        ({"auth_kind": "magic"}, "auth_kind"),
        ({"batch_instances": "0"}, "batch_instances"),
        ({"batch_instances": "1001"}, "batch_instances"),
        ({"batch_bytes": "0"}, "batch_bytes"),
    ],
)
def test_what_would_not_work_or_shows_patients_is_refused(administrator, wrong: dict[str, str], field: str) -> None:
    answer = administrator.post(ADD, FORM | wrong)
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not Vault.objects.exists()


def test_plain_http_is_for_this_machine(administrator) -> None:
    assert added(administrator, base_url="http://127.0.0.1:8042/dicom-web", auth_kind="none", secret="").token == ""


def test_gve1_vaults_keep_to_their_own_form(administrator) -> None:
    vault = vault_make("north")
    assert "north" not in administrator.get("/admin/uploads/stowvault/").content.decode()
    assert administrator.get(change(vault)).status_code == 302  # there is none of that id
    answer = administrator.post("/admin/uploads/vault/add/", FORM)
    assert answer.status_code == 403


def test_gve1_vault_needs_its_pins(administrator) -> None:
    vault = vault_make("north", recipient_key_id="")
    answer = administrator.post(
        reverse("admin:uploads_vault_change", args=(vault.pk,)), {"name": "nord", "enabled": "on"}
    )
    assert "pinned recipient key" in answer.content.decode()


def test_stow_vault_is_switched_off_like_any_other(administrator) -> None:
    vault = added(administrator)
    answer = administrator.post(reverse("admin:uploads_vault_change", args=(vault.pk,)), {"name": "pacs"})
    assert answer.status_code == 302
    vault.refresh_from_db()
    assert not vault.enabled
    assert vault.lane.paused


@pytest.mark.parametrize("role", ["viewer", "operator", "integration"])
def test_only_administrators_add_vaults(client_as, role: str) -> None:
    assert client_as(role).post(ADD, FORM, follow=True).status_code == 403
    assert not Vault.objects.exists()


# -- the study's page --------------------------------------------------------------------------------------------------


def stow_job(state: str = JobState.DONE, **values: object) -> UploadJob:
    study = study_make(patient_name="Weber^Paula")
    series_make(study)
    revision = revision_make(study)
    vault = vault_make("pacs", transport="stow", recipient_key_id="", recipient_jwk={}, receipt_jwk={})
    defaults = {"receipt_id": "", "receipt_at": None, "files_total": 3, "files_done": 3}
    job = upload_make(
        revision, vault, state, ended_at=revision.settled_at + timedelta(seconds=9), **{**defaults, **values}
    )
    attempt_make(job, "done" if state == JobState.DONE else "failed")
    return job


def page(client: Client, job: UploadJob) -> str:
    return client.get(f"/studies/{job.revision.study_id}/").content.decode()


def test_page_says_what_a_confirmation_is_worth(viewer) -> None:
    html = page(viewer, stow_job())
    assert "not end-to-end encrypted" in html
    assert "Every object confirmed by vault pacs" in html
    assert "signs no receipt" in html
    assert "3 of 3" in html
    for words in ("Sealed for the key", "Receipt of", "sealed"):
        assert words not in html


def test_page_names_what_was_refused_and_why(viewer) -> None:
    job = stow_job(JobState.PARKED, files_done=1, error_code="stow-not-stored", error_words="1 of 3 objects stored.")
    for instance in job.revision.instances.all()[:2]:
        UploadPart.objects.create(job=job, name=instance.key, instance=instance, sha256="0" * 64, size_bytes=1,
                                  result_code="C000", result_words="the server cannot understand it")  # fmt: skip
    html = page(viewer, job)
    assert html.count("the server cannot understand it") == 2
    assert "C000" in html


def test_thousands_of_refusals_make_no_longer_page(viewer, django_assert_max_num_queries) -> None:
    job = stow_job(JobState.PARKED)
    study = job.revision.study
    series_make(study, instances=200)
    study.instances.filter(revision=None).update(revision=job.revision)
    UploadPart.objects.bulk_create(
        UploadPart(job=job, name=instance.key, instance=instance, sha256="", size_bytes=1, result_words="refused")
        for instance in job.revision.instances.all()
    )
    page(viewer, job)  # what a process learns once is known
    with django_assert_max_num_queries(21):
        assert page(viewer, job).count("refused</span>") == 10
