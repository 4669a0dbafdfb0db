"""Map, info, metadata and message: the whole study as the recipient will find it, from rows alone."""

import pytest

from gateway_project import __version__
from gateway_project.wiring import pipeline
from studies.models import Instance, Study
from tests.uploads.upload_house import PATIENT, House
from uploads.envelope.encoding import canonical_json
from uploads.envelope.framing import DOCUMENT_BYTES_MAX, document_bucket
from uploads.models import UploadJob, Vault
from uploads.selectors import upload_study
from uploads.services.documents import MESSAGE_LIMIT, study_info, study_map, study_message, study_metadata
from uploads.vault.study_map import study_map_parse

pytestmark = pytest.mark.django_db


def finished_map(house: House, job: UploadJob) -> dict:
    document = house.vault.document(job.upload_id, "map")
    study_map_parse(document, upload_id=job.upload_id)  # the recipient's tool takes it
    return document


def test_a_later_revision_lists_the_whole_study_and_sends_only_what_is_new(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1, 2])
    house.drain()
    house.settled(instances=[3])
    house.drain()
    house.uploaded(study, revision=2)
    first, second = house.job(study, 1), house.job(study, 2)
    document = finished_map(house, second)
    assert (document["revision"], document["previous"]) == (2, [first.upload_id])
    assert [entry["upload_id"] for entry in document["files"]] == [first.upload_id, first.upload_id, second.upload_id]
    assert document["absent"] == []
    assert [p.name for p in second.parts.filter(instance__isnull=False)] == ["file-00001.gve"]


def test_a_changed_object_is_listed_with_each_version(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1, 2])
    house.drain()
    house.settled(instances=[1], extra=7)
    house.drain()
    house.uploaded(study, revision=2)
    listed = [
        (e["sop_instance_uid"][-1], e["version"], e["current"])
        for e in finished_map(house, house.job(study, 2))["files"]
    ]
    assert listed == [("1", 1, False), ("2", 1, True), ("1", 2, True)]
    assert [e["current"] for e in finished_map(house, house.job(study, 1))["files"]] == [True, True]


def test_both_versions_in_one_revision(house: House) -> None:
    house.vault_row()
    house.receive(1, [1])
    study = house.settled(instances=[1], extra=7)
    house.drain()
    house.uploaded(study)
    listed = [(e["version"], e["current"]) for e in finished_map(house, house.job(study))["files"]]
    assert listed == [(1, False), (2, True)]


def test_a_vault_that_was_set_up_later_gets_the_whole_study(house: House) -> None:
    """As when a real vault takes over from the demonstration."""
    first_vault = house.vault_row("first")
    study = house.settled(instances=[1, 2])
    house.drain()
    Vault.objects.filter(pk=first_vault.pk).update(enabled=False)
    house.vault_row("main")
    house.settled(instances=[3])
    house.drain()
    job = house.job(study, 2)
    document = finished_map(house, job)
    assert (len(document["files"]), document["previous"]) == (3, [])
    assert {entry["upload_id"] for entry in document["files"]} == {job.upload_id}
    assert house.vault.opened(job.upload_id) == house.sent
    assert (job.files_total, job.files_done) == (3, 3)


def test_what_has_no_file_any_more_is_listed_as_absent(house: House) -> None:
    study = house.settled(instances=[1, 2])  # no vault yet
    gone = study.instances.order_by("pk")[0]
    Instance.objects.filter(pk=gone.pk).update(file_deleted_at=study.received_at)
    house.file_of(gone).unlink()
    house.vault_row()
    house.settled(instances=[3])
    house.drain()
    document = finished_map(house, house.job(study, 2))
    assert [entry["sop_instance_uid"] for entry in document["absent"]] == [gone.sop_instance_uid]
    assert "name" not in document["absent"][0]
    assert len(document["files"]) == 2


def test_a_map_entry_tells_the_stored_file_and_the_data_set(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1])
    house.drain()
    job, instance = house.job(study), study.instances.get()
    part = job.parts.get(instance=instance)
    (entry,) = study_map(job, [part], upload_study(job))["files"]
    assert (entry["dataset_sha256"], entry["dataset_size_bytes"]) == (instance.sha256, instance.size_bytes)
    assert (entry["sha256"], entry["size_bytes"]) == (part.content_sha256, house.file_of(instance).stat().st_size)
    assert (entry["sealed_sha256"], entry["sealed_size_bytes"]) == (part.sha256, part.size_bytes)
    assert entry["series_instance_uid"] == instance.series.series_instance_uid


def test_info_and_metadata_reach_the_recipient(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1, 2])
    house.drain()
    job = house.job(study)
    info, metadata = house.vault.document(job.upload_id, "info"), house.vault.document(job.upload_id, "metadata")
    assert info == study_info(job)
    assert (info["patient"]["name"], info["gateway"]["id"]) == (PATIENT, "gateway-01")
    assert metadata == study_metadata(job, upload_study(job))
    (series,) = metadata["series"]
    assert [i["number"] for i in series["instances"]] == [1, 2]


def test_documents_cost_the_same_queries_for_any_number_of_instances(house: House, django_assert_num_queries) -> None:
    house.vault_row()
    house.settled(1, instances=[1])
    house.settled(2, instances=range(1, 9))
    house.drain()
    for job in UploadJob.objects.select_related("revision__study"):
        parts = list(job.parts.select_related("job"))
        with django_assert_num_queries(4):
            instances = upload_study(job)
            study_map(job, parts, instances)
            study_metadata(job, instances)


# The message


def message(monkeypatch: pytest.MonkeyPatch, template: str, *, source: str = "CT1") -> str:
    monkeypatch.setenv("GATEWAY_VAULT__STUDY_MESSAGE_TEMPLATE", template)
    return study_message(Study(source_ae_title=source))


def test_the_messages_placeholders_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    template = "{AppName} {AppVersion} {GatewayAeTitle} {GatewayPort} {SourceAeTitle}"
    assert message(monkeypatch, template) == f"DICOM Gateway {__version__} GATEWAY 11112 CT1"


@pytest.mark.parametrize("template", ["{PatientName}", "{}", "{0}", "{AppName", "%s %(x)s", "{appname}", "{AppName!r}"])
def test_what_is_no_placeholder_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    assert message(monkeypatch, template) == template


def test_what_a_peer_calls_itself_is_never_a_placeholder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert message(monkeypatch, "{SourceAeTitle} {AppName}", source="{GatewayPort}") == "{GatewayPort} DICOM Gateway"


def test_a_message_is_cut_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert message(monkeypatch, "x" * 4095 + "{AppName}") == "x" * 4095 + "D"
    assert MESSAGE_LIMIT == 4096


def test_the_default_message(house: House) -> None:
    text = study_message(Study(source_ae_title="CT1"))
    assert text.endswith("Received by GATEWAY on DIMSE port 11112.\nSource AE: CT1.")


def test_a_study_without_a_vault_has_nothing_to_upload(house: House) -> None:
    study = house.settled()
    assert (study.state, study.reason) == ("settled", "No vault is set up: nothing to upload.")
    assert pipeline.retry(study.pk, actor="user:anna") == 0


def test_the_map_and_the_metadata_of_a_hundred_thousand_instances_fit_into_a_document(house: House) -> None:
    """As many as the reference vault takes in an upload. Every UID as long as it may be, every number large."""
    house.vault_row()
    study = house.settled(instances=[1])
    house.drain()
    job = house.job(study)
    study_uid = "2.25." + "9" * 59
    mapped = finished_map(house, job)["files"][0] | {"name": "file-100000.gve", "dataset_size_bytes": 10**9}
    mapped |= {"size_bytes": 10**9, "sealed_size_bytes": 10**9, "sop_instance_uid": study_uid}
    told = study_metadata(job, upload_study(job))["series"][0]["instances"][0] | {"sop_instance_uid": study_uid}
    told |= {"number": 2**31, "frames": 1, "rows": 65535, "columns": 65535}
    for entry in (mapped | {"series_instance_uid": study_uid}, told):
        signed = 100_000 * (len(canonical_json(entry)) + 1) * 4 // 3
        assert document_bucket(signed + 4096) <= DOCUMENT_BYTES_MAX
