"""N-CREATE and N-SET of performed procedure steps: every status, what is kept, and who may (PS3.4 annex F)."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from django.utils.timezone import localtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_project.core.models import AuditEvent
from network.dimse.normalized.command import normalized_command
from network.dimse.normalized.ports import PERFORMED_PROCEDURE_STEP
from network.dimse.procedure_step import StepError, change_read, create_read
from network.dimse.rights import Rights
from network.dimse.scu.messages import command_encode
from network.models import ProcedureStep, ProcedureStepMessage, RemoteAE
from network.services.normalized import NormalizedServices
from tests.network.query_house import encoded
from tests.network.step_sets import (
    MODALITY,
    STEP_UID,
    STUDY_UID,
    Flushed,
    ask,
    item,
    series_of,
    step_begun,
    step_ended,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("network.services.normalized.close_old_connections", lambda: None)  # the test's own transaction
    RemoteAE.objects.create(ae_title="CT_NORD_1")
    RemoteAE.objects.create(ae_title="CT_SUED")


def two_studies() -> list:
    return [item(StudyInstanceUID="1.2.3", AccessionNumber=""), item(StudyInstanceUID="1.2.4", AccessionNumber="A2")]


BEGINNINGS = {
    "all of it": ({}, 0x0000),
    "type 2 left out": (
        {
            "PatientName": None,
            "PatientID": None,
            "PerformedStationName": None,
            "PerformedProcedureStepDescription": None,
            "PerformedSeriesSequence": None,
        },
        0x0000,
    ),
    "a group case": ({"ScheduledStepAttributesSequence": two_studies()}, 0x0000),
    "ended already": ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106),
    "a status of its own": ({"PerformedProcedureStepStatus": "RUNNING"}, 0x0106),
    "no status": ({"PerformedProcedureStepStatus": None}, 0x0120),
    "an empty status": ({"PerformedProcedureStepStatus": ""}, 0x0121),
    "no step ID": ({"PerformedProcedureStepID": None}, 0x0120),
    "no station": ({"PerformedStationAETitle": None}, 0x0120),
    "no modality": ({"Modality": None}, 0x0120),
    "no start": ({"PerformedProcedureStepStartDate": None}, 0x0120),
    "a start in the year 1": ({"PerformedProcedureStepStartDate": "00010101"}, 0x0106),
    "a start in the year 9999": ({"PerformedProcedureStepStartDate": "99991231"}, 0x0106),
    "no scheduled step": ({"ScheduledStepAttributesSequence": None}, 0x0120),
    "no scheduled step in it": ({"ScheduledStepAttributesSequence": []}, 0x0121),
    "no study": ({"ScheduledStepAttributesSequence": [item(AccessionNumber="A")]}, 0x0120),
    "too many studies": (
        {"ScheduledStepAttributesSequence": [item(StudyInstanceUID=f"1.2.{n}") for n in range(101)]},
        0x0106,
    ),
    "a series without UID": ({"PerformedSeriesSequence": [item(SeriesDescription="x")]}, 0x0120),
}


@pytest.mark.parametrize(("changes", "status"), BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_beginning_is_answered_by_its_status(changes: dict, status: int) -> None:
    assert ask("create", step_begun(**changes)).status == status
    assert ProcedureStep.objects.count() == (status == 0)


def test_beginning_is_kept_with_what_it_says_and_as_it_came() -> None:
    data = encoded(step_begun())
    reply = ask("create", data)
    assert (reply.status, reply.sop_instance_uid) == (0x0000, STEP_UID)
    step = ProcedureStep.objects.get()
    kept = (step.state, step.calling_ae_title, step.modality, step.station_name, step.step_id, step.scheduled_step_id)
    assert kept == ("in_progress", "CT_NORD_1", "CT", "Room 4", "PPS7", "SPS7")
    assert (step.accession_number, step.patient_name, step.patient_id) == ("ACC7", "Marked^Patient", "MARK7")
    assert localtime(step.started_at).strftime("%Y%m%d%H%M") == "202611250915"
    assert [one.study_instance_uid for one in step.studies.all()] == [STUDY_UID]
    message = ProcedureStepMessage.objects.get()
    assert (message.operation, bytes(message.data)) == ("create", data)


def test_text_is_read_in_its_character_set_and_brings_no_line_of_its_own() -> None:
    step = step_begun(PatientName="Müller^Jürgen", PerformedProcedureStepDescription="one\x07two")
    step.SpecificCharacterSet = "ISO_IR 192"
    data = encoded(step).replace("Müller^Jürgen".encode("latin-1"), "Müller^Jürgen".encode())
    ask("create", data)
    kept = ProcedureStep.objects.get()
    assert (kept.patient_name, kept.description) == ("Müller^Jürgen", "one two")


def test_step_without_uid_gets_one_of_ours() -> None:
    reply = ask("create", step_begun(), uid="")
    assert reply.status == 0x0000
    assert reply.sop_instance_uid == ProcedureStep.objects.get().sop_instance_uid
    assert reply.sop_instance_uid.startswith("2.25.")
    assert len(reply.sop_instance_uid) <= 64


@pytest.mark.parametrize("uid", ["../../etc", "1.2.x", "."])
def test_uid_that_is_none_is_refused(uid: str) -> None:
    assert ask("create", step_begun(), uid=uid).status == 0x0117
    assert ask("set", step_ended(), uid=uid).status == 0x0117


def test_same_uid_again_is_a_duplicate_and_changes_nothing() -> None:
    ask("create", step_begun())
    again = ask("create", step_begun(PatientID="OTHER"))
    assert again.status == 0x0111
    assert ProcedureStep.objects.get().patient_id == "MARK7"


def test_unknown_step_cannot_be_set() -> None:
    assert ask("set", step_ended("1.2.3")).status == 0x0112


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_ended_step_is_never_changed_again(status: str) -> None:
    ask("create", step_begun())
    indexer = Flushed()
    ended = ask("set", step_ended("1.2.3", status=status), services=NormalizedServices(indexer))  # type: ignore[arg-type]
    assert (ended.status, ended.sop_instance_uid, indexer.times) == (0x0000, STEP_UID, 1)
    step = ProcedureStep.objects.get()
    assert (step.state, step.instance_count) == (status.lower(), 1)
    assert step.closed_at is not None
    for again in (step_ended("1.2.3", status=status), step_ended(), step_ended(status="IN PROGRESS")):
        refused = ask("set", again)
        assert (refused.status, refused.error_id) == (0x0110, 0xA506)
    unchanged = ProcedureStep.objects.get()
    assert (unchanged.changed_at, unchanged.performed_series) == (step.changed_at, step.performed_series)


def test_change_keeps_what_it_does_not_name() -> None:
    ask("create", step_begun())
    between = item(PerformedSeriesSequence=[series_of("1.2.3", "1.2.4"), series_of("1.2.3", series="1.2.9")])
    assert ask("set", between).status == 0x0000
    assert ask("set", item(PerformedProcedureStepDescription="Abdomen")).status == 0x0000
    assert ProcedureStep.objects.get().state == "in_progress"
    assert ask("set", item(PerformedProcedureStepStatus="COMPLETED")).status == 0x0000
    step = ProcedureStep.objects.get()
    assert (step.description, step.instance_count, len(step.performed_series)) == ("Abdomen", 2, 2)
    assert step.ended_at == step.closed_at, "without an end of its own it ended when it said so"
    assert sorted(step.messages.values_list("operation", flat=True)) == ["create", "set"]


def test_patient_of_a_step_stays_who_it_was() -> None:
    ask("create", step_begun())
    ask("set", step_ended(PatientID="OTHER", PatientName="Other"))
    assert ProcedureStep.objects.get().patient_id == "MARK7"


WRONG_CHANGES = {
    "a status of its own": (item(PerformedProcedureStepStatus="DONE"), 0x0106),
    "an end that is none": (item(PerformedProcedureStepEndDate="20261345"), 0x0106),
    "noise": (b"\xff" * 200, 0x0106),
    "cut short": (encoded(step_ended("1.2.3"))[:-3], 0x0106),
    "a reference without class": (
        item(
            PerformedSeriesSequence=[
                item(SeriesInstanceUID="1.2", ReferencedImageSequence=[item(ReferencedSOPInstanceUID="1.2.3")])
            ]
        ),
        0x0120,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("data", "status"), WRONG_CHANGES.values(), ids=WRONG_CHANGES.keys())
def test_wrong_change_is_answered_by_its_status_and_not_kept(data: object, status: int) -> None:
    ask("create", step_begun())
    assert ask("set", data).status == status  # type: ignore[arg-type]
    assert ProcedureStep.objects.get().state == "in_progress"
    assert ProcedureStepMessage.objects.count() == 1


def test_more_references_than_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_MPPS__MAX_INSTANCES", "2")
    ask("create", step_begun())
    assert ask("set", step_ended("1.2.3", "1.2.4", "1.2.5")).status == 0x0213
    assert ask("set", step_ended("1.2.3", "1.2.4")).status == 0x0000


def test_who_may_not_is_refused_and_recorded() -> None:
    stranger = replace(MODALITY, calling_ae_title="STRANGER")
    silent = replace(MODALITY, rights=Rights(store=False))
    for peer in (stranger, silent):
        assert ask("create", step_begun(), peer=peer).status == 0x0124
    assert not ProcedureStep.objects.exists()
    ask("create", step_begun())
    assert ask("set", step_ended(), peer=replace(MODALITY, calling_ae_title="CT_SUED")).status == 0x0124
    assert ProcedureStep.objects.get().state == "in_progress"
    refused = AuditEvent.objects.filter(outcome="refused")
    assert [one.detail["code"] for one in refused.order_by("pk")] == ["step-forbidden"] * 2 + ["step-foreign"]


@pytest.mark.parametrize(("field", "operation"), [(0x0110, "get"), (0x0130, "action"), (0x0150, "delete")])
def test_other_operations_are_not_offered(field: int, operation: str) -> None:
    values: dict[int, int | str] = {0x0003: PERFORMED_PROCEDURE_STEP, 0x0100: field, 0x0110: 1, 0x1001: "1.2.3"}
    command = normalized_command(command_encode(values, data_set=False))
    assert command is not None, "it is answered, not aborted"
    assert command.operation == operation
    assert ask(operation, step_begun()).status == 0x0211


def test_trail_has_every_step_and_no_patient() -> None:
    ask("create", step_begun())
    ask("set", step_ended("1.2.3"))
    told = [one.detail for one in AuditEvent.objects.order_by("pk")]
    assert [one["action"] for one in told] == ["begun", "completed"]
    assert "MARK" not in json.dumps(told).upper()


GARBLED = encoded(step_begun(PerformedSeriesSequence=[series_of("1.2.3", "1.2.4")]))


def answered(read: Callable[..., object], data: bytes, explicit: bool) -> int:
    try:
        read(data, explicit=explicit)
    except StepError as error:
        return error.status
    return 0x0000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bytes_are_read_or_refused_with_a_status(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GARBLED) - 1))
    bad = GARBLED[:at] + data.draw(st.binary(max_size=8)) + GARBLED[at + data.draw(st.integers(0, 8)) :]
    answers = [answered(read, bad, explicit) for read in (create_read, change_read) for explicit in (True, False)]
    assert set(answers) <= {0x0000, 0x0106, 0x0120, 0x0121}
