"""Performed procedure steps of a running gateway, told by pynetdicom's client; processes are killed in between."""

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep

from tests.dicom_samples import study_files
from tests.flow.test_marked_patient import tables_with
from tests.flow.test_retrieve import peer_add, stored
from tests.gateway_harness import Gateway, wait_until
from tests.network.step_sets import item, series_of, step_begun

pytestmark = [pytest.mark.dcmtk, pytest.mark.timeout(180)]
WATCH = "from gateway_project.wiring.tasks import procedure_steps as w; from django.utils.timezone import now; w(now())"
PATIENTS = {"network_procedurestep", "network_procedurestepmessage"}
MARK = "Canary7731"


class Modality:
    """A CT that tells of the study that it makes."""

    def __init__(self, gateway: Gateway, files: list[Path]) -> None:
        self.gateway, self.files, self.uid = gateway, files, str(generate_uid())
        first = dcmread(files[0], stop_before_pixels=True)
        scheduled = item(StudyInstanceUID=first.StudyInstanceUID, AccessionNumber="")
        self.begun = step_begun(ScheduledStepAttributesSequence=[scheduled], PatientName=f"{MARK}^Anna", PatientID=MARK)
        self.series = series_of(
            *(str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in files)
        )

    def tell(self, operation: str, data: Dataset, *, calling: str = "CT_NORD_1") -> Any:
        """The status, an Error ID beside it if there is one; None when the association broke."""
        entity = AE(calling)
        entity.add_requested_context(ModalityPerformedProcedureStep)
        opened = entity.associate("127.0.0.1", self.gateway.dimse_port, ae_title="GATEWAY")
        assert opened.is_established
        ask = opened.send_n_create if operation == "create" else opened.send_n_set
        answer, _data = ask(data, ModalityPerformedProcedureStep, self.uid)
        opened.release()
        return answer

    def create(self) -> int | None:
        return self.tell("create", self.begun).get("Status")

    def complete(self) -> int | None:
        ended = item(PerformedProcedureStepStatus="COMPLETED", PerformedSeriesSequence=[self.series])
        return self.tell("set", ended).get("Status")


@pytest.fixture
def modality(gateway: Gateway, tmp_path: Path) -> Modality:
    peer_add(gateway, "CT_NORD_1")
    gateway.env["GATEWAY_SETTLING__INACTIVITY_SECONDS"] = "3600"
    return Modality(gateway, study_files(tmp_path / "study")[:4])


def revisions(gateway: Gateway) -> list[tuple[Any, ...]]:
    return gateway.rows("SELECT reason, instance_count FROM studies_studyrevision")


def test_study_settles_long_before_it_is_quiet_and_the_patient_stays_in_its_tables(modality: Modality) -> None:
    gateway = modality.gateway
    gateway.start_listeners()
    assert modality.create() == 0x0000
    assert modality.create() == 0x0111
    stored(gateway, modality.files)
    assert modality.complete() == 0x0000
    again = modality.tell("set", item(PerformedProcedureStepStatus="COMPLETED"))
    assert (again.Status, again.ErrorID) == (0x0110, 0xA506)
    assert modality.tell("create", modality.begun, calling="STRANGER").Status == 0x0124
    done = gateway.code(WATCH)
    assert done.returncode == 0, done.stderr
    assert revisions(gateway) == [("step-complete", len(modality.files))]
    assert gateway.rows("SELECT state, here_count FROM network_procedurestep") == [("completed", len(modality.files))]
    assert tables_with(gateway, MARK) == PATIENTS
    for path in (path for path in (gateway.log, *(gateway.data / "logs").rglob("*")) if path.is_file()):
        assert MARK not in path.read_text(), path
        assert modality.uid not in path.read_text(), path


@pytest.mark.parametrize("place", ["step.created", "step.changed"])
def test_receiver_killed_before_its_answer_has_kept_what_it_would_have_acknowledged(
    modality: Modality, place: str
) -> None:
    gateway = modality.gateway
    gateway.start_listeners(GATEWAY_FAILPOINT=place)
    told = modality.create()
    if place == "step.created":
        assert told is None
        wait_until(lambda: modality.create() == 0x0111, what="the receiver that takes its place")
    assert modality.complete() in (None, 0x0000)
    stored_uid = stored(gateway, modality.files)
    assert stored_uid
    wait_until(
        lambda: modality.tell("set", item(PerformedProcedureStepStatus="COMPLETED")).get("Status") == 0x0110,
        what="an answer that the step is over",
    )
    gateway.code(WATCH)
    assert revisions(gateway) == [("step-complete", len(modality.files))]


def test_worker_killed_after_settling_notes_it_the_next_time(modality: Modality) -> None:
    gateway = modality.gateway
    gateway.start_listeners()
    modality.create()
    stored(gateway, modality.files)
    modality.complete()
    assert gateway.code(WATCH, GATEWAY_FAILPOINT="step.settled").returncode == -9
    assert gateway.value("SELECT count(*) FROM network_procedurestep WHERE done_at IS NULL") == 1
    gateway.code(WATCH)
    assert gateway.value("SELECT count(*) FROM network_procedurestep WHERE done_at IS NULL") == 0
    assert revisions(gateway) == [("step-complete", len(modality.files))], "once"


def test_whole_gateway_settles_by_itself(modality: Modality) -> None:
    gateway = modality.gateway
    process = gateway.run()
    modality.create()
    stored(gateway, modality.files)
    modality.complete()
    wait_until(lambda: revisions(gateway) == [("step-complete", len(modality.files))], what="the revision")
    assert process.poll() is None
