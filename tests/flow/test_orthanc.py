"""Uploads by STOW-RS to a real server of somebody else's: Debian's Orthanc with its DICOMweb plug-in."""

import email.parser
import email.policy
import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from gateway_project.core.models import JobState, Lane
from gateway_project.wiring import pipeline
from studies.dicom.part10 import file_meta_read
from studies.dicom.spool import Intake
from studies.models import Study
from studies.services.index import index_objects
from studies.services.receive import Arrival, InstanceReceiver
from tests.flow.orthanc_program import Orthanc
from tests.uploads.conftest import house
from tests.uploads.upload_house import House, _Index
from uploads.models import AuthKind, UploadJob, Vault
from uploads.services import stow_upload as stow_module
from uploads.services.stow_vaults import stow_vault_save

__all__ = ["house"]
pytestmark = [pytest.mark.orthanc, pytest.mark.django_db, pytest.mark.timeout(120), pytest.mark.xdist_group("orthanc")]
USER, PASSWORD = "gateway", "secret-of-the-server"
# Uncompressed, big endian, JPEG 2000, JPEG-LS, RLE, several frames, a report without pixels: each a study of its own.
FILES = [
    "CT_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_rle_2frame.dcm",
    "examples_ybr_color.dcm",
    "reportsi.dcm",
]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc", user=USER, password=PASSWORD).start()
    yield server
    server.kill()


def vault_row(orthanc: Orthanc, *, password: str = PASSWORD, **values: object) -> Vault:
    vault = Vault(name="main", base_url=orthanc.base_url, auth_kind=AuthKind.BASIC, auth_user=USER, **values)
    stow_vault_save(vault, secret=password, actor="user:test")
    return vault


def settled_file(house: House, path: Path) -> Study:
    """One real file through spool, index and settling."""
    index, intake = _Index(), Intake(house.store, owner="test")
    with path.open("rb") as stream:
        meta = file_meta_read(stream)
        dataset = stream.read()
    receiver = InstanceReceiver(house.store, intake, index)
    receiver.receive(
        Arrival(
            meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid, "CT1", "GATEWAY", "127.0.0.1", "a1"
        ),
        [dataset],
    )
    index_objects(house.store, index.items)
    for item in index.items:
        intake.release(item.spooled.path)
    intake.close()
    study = Study.objects.get(instances__sop_instance_uid=meta.sop_instance_uid)
    pipeline.settle_now(study.pk, actor="user:test")
    study.refresh_from_db()
    return study


def stored(house: House, study: Study) -> dict[str, bytes]:
    return {i.sop_instance_uid: house.stored(i) for i in study.instances.filter(current=True)}


def delivered(house: House, orthanc: Orthanc, study: Study) -> None:
    """The server gives back exactly the files of our store, and the gateway says that it has them."""
    study.refresh_from_db()
    assert (study.state, study.reason) == ("uploaded", "")
    theirs = orthanc.instances()
    assert {uid: theirs.get(uid) for uid in stored(house, study)} == stored(house, study)


@pytest.mark.parametrize("name", FILES)
def test_real_files_come_back_as_they_were(house: House, orthanc: Orthanc, name: str) -> None:
    vault_row(orthanc)
    path = Path(str(get_testdata_file(name)))
    study = settled_file(house, path)
    house.drain()
    delivered(house, orthanc, study)
    source, back = pydicom.dcmread(path), pydicom.dcmread(io.BytesIO(next(iter(orthanc.instances().values()))))
    assert back.file_meta.TransferSyntaxUID == source.file_meta.TransferSyntaxUID
    assert back == source, "every element, the pixels' octets among them"


def test_study_is_given_back_by_wado_rs(house: House, orthanc: Orthanc) -> None:
    """As a client of the standard sees it (PS3.18 10.4), not by Orthanc's own interface."""
    vault_row(orthanc)
    study = house.settled(1, (1, 2, 3))
    house.drain()
    answer = orthanc.get(
        f"/dicom-web/studies/{study.study_instance_uid}", Accept='multipart/related; type="application/dicom"'
    )
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode() + answer.content
    )
    datasets = [pydicom.dcmread(io.BytesIO(part.get_payload(decode=True))) for part in message.iter_parts()]
    ours = {uid: pydicom.dcmread(io.BytesIO(content)) for uid, content in stored(house, study).items()}
    assert {str(dataset.SOPInstanceUID): dataset for dataset in datasets} == ours
    assert all(dataset.PixelData == ours[str(dataset.SOPInstanceUID)].PixelData for dataset in datasets)


def test_server_that_is_down_costs_no_attempt(house: House, orthanc: Orthanc) -> None:
    vault = vault_row(orthanc)
    orthanc.kill()
    study = house.settled(1, (1, 2))
    house.drain()
    job = house.job(study)
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, "connection-refused")
    assert Lane.objects.get(pk=vault.lane_id).faults == 1
    orthanc.start()
    house.one_later()
    delivered(house, orthanc, study)


@pytest.mark.parametrize("at", ["stow.answered", "stow.confirmed"])
def test_server_killed_in_mid_upload_gets_the_rest_after_its_restart(
    house: House, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    vault_row(orthanc, batch_instances=2)
    study = house.settled(1, range(1, 9))
    left = [2]

    def kill(name: str) -> None:
        left[0] -= name == at
        if left == [0]:
            left[0] = -1
            orthanc.kill()

    with monkeypatch.context() as patched:
        patched.setattr(stow_module, "failpoint", kill)
        house.drain()
    job = house.job(study)
    assert (job.state, job.attempts, job.files_done) == (JobState.READY, 0, 4)
    orthanc.start()
    house.one_later()
    assert house.job(study).tries.order_by("-number")[0].files_sent == 4, "only what was not confirmed"
    delivered(house, orthanc, study)


def test_wrong_password_holds_the_lane_and_stores_nothing(house: House, orthanc: Orthanc) -> None:
    vault = vault_row(orthanc, password="wrong")
    study = house.settled(1, (1,))
    house.drain()
    lane = Lane.objects.get(pk=vault.lane_id)
    assert (lane.held, lane.fault_code) == (True, "unauthorized")
    assert orthanc.instances() == {}
    vault.refresh_from_db()
    stow_vault_save(vault, secret=PASSWORD, actor="user:test")
    pipeline.retry(study.pk, actor="user:test")
    house.drain()
    delivered(house, orthanc, study)


def test_wrong_address_waits_and_says_so(house: House, orthanc: Orthanc) -> None:
    vault = vault_row(orthanc)
    Vault.objects.filter(pk=vault.pk).update(base_url=f"http://127.0.0.1:{orthanc.port}/elsewhere")
    house.settled(1, (1,))
    house.drain()
    assert UploadJob.objects.get().error_code == "not-found"
    assert Lane.objects.get(pk=vault.lane_id).faults == 1


def test_late_and_changed_objects_reach_it(house: House, orthanc: Orthanc) -> None:
    vault_row(orthanc)
    house.settled(1, (1, 2))
    house.drain()
    study = house.settled(1, (2, 3), extra=9)
    house.drain()
    delivered(house, orthanc, study)


def test_the_same_objects_again_are_the_same_objects(house: House, orthanc: Orthanc) -> None:
    vault_row(orthanc)
    study = house.settled(1, (1, 2))
    house.drain()
    job = house.job(study)
    job.parts.update(confirmed_at=None)  # as if no answer had been heard
    UploadJob.objects.filter(pk=job.pk).update(state=JobState.READY)
    house.drain()
    delivered(house, orthanc, study)
    assert len(orthanc.instances()) == 2


def test_server_set_to_keep_the_first_content_says_nothing_of_it(house: House, tmp_path: Path) -> None:
    """Why the manual asks for a server that overwrites: its answer cannot be told from that of one that does."""
    server = Orthanc(tmp_path / "keeping", user=USER, password=PASSWORD, overwrite=False).start()
    try:
        vault_row(server)
        study = house.settled(1, (1,))
        first = stored(house, study)
        house.drain()
        house.settled(1, (1,), extra=9)
        house.drain()
        assert house.job(study, 2).state == JobState.DONE
        assert server.instances() == first
    finally:
        server.kill()
