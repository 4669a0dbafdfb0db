"""The chain of custody as staff see it: who may, what it says, what the download is."""

import json
from pathlib import Path

import pytest
from django.test import Client

from gateway_project.core.models import AuditEvent, JobState
from gateway_project.wiring.pages.custody import PAGE_INSTANCES
from studies.models import Study
from tests.web.factories import attempt_make, revision_make, series_make, study_make, upload_make, vault_make
from uploads.custody import CustodyReader
from uploads.models import UploadJob, UploadPart
from uploads.services.identity import identity_jwk

pytestmark = pytest.mark.django_db
PAGES = ["/studies/{}/custody/", "/studies/{}/custody/export/"]


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path


def custody_study(*, instances: int = 3, **vault: object) -> Study:
    """A study whose objects a vault has, one row for each."""
    study = study_make(patient_name="Lindqvist^Maja", state="uploaded")
    series_make(study, instances=instances)
    job = upload_make(revision_make(study), vault_make("main", **vault), files_done=instances)
    attempt_make(job)
    parts_make(job)
    return study


def parts_make(job: UploadJob, *, limit: int | None = None) -> None:
    UploadPart.objects.bulk_create(
        UploadPart(
            job=job, name=f"file-{number:05d}.gve", instance=instance, sha256=f"{number:064x}", size_bytes=500,
            content_sha256="b" * 64, content_size_bytes=600, confirmed_at=job.receipt_at,
        )
        for number, instance in enumerate(job.revision.instances.order_by("pk")[:limit], start=1)
    )  # fmt: skip


def page(client: Client, study: Study, query: str = "") -> str:
    answer = client.get(f"/studies/{study.pk}/custody/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("role", "status"), [("viewer", 403), ("operator", 200), ("administrator", 200), ("integration", 403), ("", 403)]
)
def test_roles_are_those_of_the_other_acts(client_as, path: str, role: str, status: int) -> None:
    client, address = client_as(role), path.format(custody_study().pk)
    assert (client.post(address) if "export" in address else client.get(address)).status_code == status


@pytest.mark.parametrize("path", PAGES)
def test_strangers_are_sent_to_the_login(client_as, path: str) -> None:
    client_as("viewer")
    address = path.format(custody_study().pk)
    answer = Client().post(address) if "export" in address else Client().get(address)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/?next=")


def test_button_stands_on_the_study_page_for_those_who_may(viewer, operator) -> None:
    study = custody_study()
    for client, shown in ((viewer, False), (operator, True)):
        assert ("Chain of custody" in client.get(f"/studies/{study.pk}/").content.decode()) == shown


def test_page_says_first_what_the_vaults_have_said(operator) -> None:
    study = custody_study()
    html = page(operator, study)
    assert "Vault main has signed for all 3 objects." in html
    for instance in study.instances.all():
        assert instance.sop_instance_uid in html
    assert "CT_NORD_1" in html
    assert f"{1:064x}" in html


@pytest.mark.parametrize(
    ("vault", "sentence"),
    [
        ({"transport": "stow"}, "Server main has confirmed all 3 objects by name; it signs no receipt."),
        ({"demonstration": True}, "The demonstration vault has signed for all 3 objects: nothing is proved by that."),
    ],
)
def test_page_says_what_a_vaults_word_is_worth(operator, vault: dict[str, object], sentence: str) -> None:
    assert sentence in page(operator, custody_study(**vault))


def test_page_of_a_study_that_no_vault_has(operator) -> None:
    study = study_make()
    assert "No vault has confirmed any object" in page(operator, study)
    series_make(study, instances=3)
    job = upload_make(revision_make(study), vault_make("main"))
    parts_make(job, limit=2)
    assert "Vault main has signed for 2 of 3 objects." in page(operator, study)
    UploadJob.objects.update(state=JobState.PARKED)
    assert "No vault has confirmed any object" in page(operator, study)


def test_large_study_comes_in_pages_at_the_same_cost(operator, django_assert_max_num_queries) -> None:
    study = custody_study(instances=PAGE_INSTANCES * 2 + 5)
    with django_assert_max_num_queries(20):
        html = page(operator, study)
    assert html.count('class="object"') == PAGE_INSTANCES
    seen = set()
    query = ""
    for _page in range(3):
        html = page(operator, study, query)
        seen |= {uid for uid in study.instances.values_list("sop_instance_uid", flat=True) if f">{uid}<" in html}
        query = "?after=" + html.partition("?after=")[2].partition('"')[0]
    assert query == "?after="
    assert len(seen) == PAGE_INSTANCES * 2 + 5


@pytest.mark.parametrize("after", ["x", "-1", "1" * 40, "²"])
def test_place_that_is_none_is_a_bad_request(operator, after: str) -> None:
    assert operator.get(f"/studies/{custody_study().pk}/custody/", {"after": after}).status_code == 400


def test_download_is_the_signed_document_and_is_audited(operator, tmp_path: Path) -> None:
    study = custody_study()
    answer = operator.post(f"/studies/{study.pk}/custody/export/")
    assert answer["Content-Type"] == "application/json"
    name = answer["Content-Disposition"].partition('filename="')[2].rstrip('"')
    assert name.startswith(f"custody-study-{study.pk}-")
    content = b"".join(answer.streaming_content)
    for patient in (study.patient_name, study.patient_id, study.accession_number, "Lindqvist"):
        assert patient not in name + content.decode()
    path = tmp_path / name
    path.write_bytes(content)
    with path.open("rb") as stream:
        head = CustodyReader(stream).verify(identity_jwk())
    assert head.counts["instance"] == 3
    assert json.loads(content)["records"][0]["kind"] == "upload"
    event = AuditEvent.objects.get(subject=f"study:{study.pk}", detail__action="chain of custody exported")
    assert event.actor.startswith("user:operator")
    assert event.detail["document_id"] == head.document_id


def test_export_is_not_done_by_a_get_nor_without_the_form_token(client_as) -> None:
    study = custody_study()
    address = f"/studies/{study.pk}/custody/export/"
    client = client_as("operator", enforce_csrf_checks=True)
    assert client.get(address).status_code == 405
    assert client.post(address).status_code == 403


def test_markup_from_outside_is_text(operator) -> None:
    study = custody_study()
    study.instances.update(source_ae_title="<b>AE")
    Study.objects.filter(pk=study.pk).update(patient_name="<img src=x>", study_description="<img src=x>")
    html = page(operator, study)
    assert "<b>AE" not in html
    assert "<img" not in html
