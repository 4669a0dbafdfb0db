"""What an answer says: return keys, counts, availability, character sets; what a peer may see; limits. Any database."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.utils.timezone import now

from network.dimse.ports import Peer
from network.dimse.query.errors import QueryError
from network.dimse.query.ports import EXPLICIT_LITTLE, IMPLICIT_LITTLE, FindRequest
from network.dimse.query.question import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from network.dimse.rights import Visible, conditions_parse
from network.selectors.query import deadline
from studies.models import Instance, Series, Study, StudyState
from tests.network.identifiers import encoded, question
from tests.network.query_house import CT_CLASS, MR_CLASS, PEER, House, add_instance, add_series, add_study, peer_with

pytestmark = pytest.mark.django_db


def one(house: House, level: str = "STUDY", **keys: Any) -> Any:
    (answer,) = house.ask(question(level, **keys))
    return answer


def test_study_says_what_was_asked_and_no_more() -> None:
    study = add_study(4, series=2, instances=3, patient_birth_date=dt.date(1950, 2, 3), patient_sex="F")
    series = add_series(study, 3, modality="MR", instances=1)
    Study.objects.update(modalities="CT\\MR", series_count=3, instance_count=7)
    old = add_instance(series, 2, current=False, sop_class_uid="1.2.3")
    answer = one(
        House(),
        StudyInstanceUID="",
        StudyDate="",
        StudyTime="",
        PatientName="",
        PatientBirthDate="",
        PatientSex="",
        ModalitiesInStudy="",
        SOPClassesInStudy="",
        NumberOfStudyRelatedSeries=None,
        NumberOfStudyRelatedInstances=None,
        InstanceAvailability="",
        ReferringPhysicianName="",
    )
    assert old.sop_class_uid not in answer.SOPClassesInStudy
    assert {element.keyword: str(element.value) for element in answer} == {
        "QueryRetrieveLevel": "STUDY",
        "RetrieveAETitle": "GATEWAY",
        "StudyInstanceUID": "1.2.4",
        "StudyDate": "20200104",
        "StudyTime": "100400",
        "PatientName": "Patient^Number4",
        "PatientBirthDate": "19500203",
        "PatientSex": "F",
        "ModalitiesInStudy": "['CT', 'MR']",
        "SOPClassesInStudy": str([CT_CLASS, MR_CLASS]),
        "NumberOfStudyRelatedSeries": "3",
        "NumberOfStudyRelatedInstances": "7",
        "InstanceAvailability": "ONLINE",
        "ReferringPhysicianName": "",
    }


def test_series_and_instance_say_theirs_and_those_above() -> None:
    study = add_study(1, series=2, instances=2)
    Instance.objects.update(number_of_frames=12, rows=512, columns=256)
    keys = {"StudyInstanceUID": study.study_instance_uid, "PatientName": "", "Modality": ""}
    answer = one(House(), "SERIES", SeriesNumber=2, NumberOfSeriesRelatedInstances=None, SeriesInstanceUID="", **keys)
    assert (answer.SeriesInstanceUID, answer.NumberOfSeriesRelatedInstances, answer.Modality) == ("1.2.1.2", 2, "CT")
    assert answer.PatientName == "Patient^Number1"
    answer = one(
        House(), "IMAGE", SeriesInstanceUID="1.2.1.2", InstanceNumber=2, NumberOfFrames=None, Rows=None, Columns=256,
        SOPInstanceUID="", SOPClassUID="", InstanceAvailability="", **keys,
    )  # fmt: skip
    assert (answer.SOPInstanceUID, answer.SOPClassUID, answer.NumberOfFrames) == ("1.2.1.2.2", CT_CLASS, 12)
    assert (answer.Rows, answer.Columns, answer.InstanceAvailability) == (512, 256, "ONLINE")


def test_time_zone_is_that_of_the_times_and_is_never_empty() -> None:
    """PS3.4 C.4.1.1.3.2: the value in the question says how to read it, and matches nothing."""
    study = add_study(1, timezone_offset="+0100")
    Series.objects.update(timezone_offset="-0330")
    add_series(study, 2)
    house, keys = House(), {"StudyInstanceUID": "1.2.1", "TimezoneOffsetFromUTC": "+0900"}
    assert one(house, **keys).TimezoneOffsetFromUTC == "+0100"
    answers = house.ask(question("SERIES", SeriesInstanceUID="", **keys))
    told = {answer.SeriesInstanceUID: answer.get("TimezoneOffsetFromUTC") for answer in answers}
    assert told == {"1.2.1.1": "-0330", "1.2.1.2": None}
    assert house.supported
    asked = question("PATIENT", PatientID="", TimezoneOffsetFromUTC="")
    (answer,) = house.ask(asked, sop_class_uid=PATIENT_ROOT_FIND)
    assert "TimezoneOffsetFromUTC" not in answer
    assert house.supported


def test_deleted_files_are_offline_at_every_level() -> None:
    add_study(1, series=2, instances=2)
    Instance.objects.filter(sop_instance_uid="1.2.1.2.1").update(file_deleted_at=now())
    house = House()
    assert house.values("InstanceAvailability") == ["OFFLINE"]
    keys: dict[str, Any] = {"StudyInstanceUID": "1.2.1"}
    assert house.values("InstanceAvailability", "SERIES", **keys) == ["OFFLINE", "ONLINE"]
    keys["SeriesInstanceUID"] = "1.2.1.2"
    assert house.values("InstanceAvailability", "IMAGE", **keys) == ["OFFLINE", "ONLINE"]
    Instance.objects.update(file_deleted_at=None)
    assert house.values("InstanceAvailability") == ["ONLINE"]
    Study.objects.update(state=StudyState.DELETED)
    assert house.values("InstanceAvailability") == ["OFFLINE"]


def test_patients_are_told_apart_by_id_and_issuer_and_without_an_id_by_name() -> None:
    add_study(1, patient_id="1", patient_name="Old^Name", series=2, instances=2)
    add_study(2, patient_id="1", patient_name="New^Name")
    add_study(3, patient_id="1", patient_name="Other^Hospital", issuer_of_patient_id="H2")
    add_study(4, patient_id="", patient_name="No^Id")
    add_study(5, patient_id="", patient_name="No^Id^Either")
    keys = {"PatientName": "", "NumberOfPatientRelatedStudies": None, "NumberOfPatientRelatedSeries": None}
    asked = question("PATIENT", PatientID="", NumberOfPatientRelatedInstances=None, **keys)
    answers = House().ask(asked, sop_class_uid=PATIENT_ROOT_FIND)
    counts = {
        str(one.PatientName): (
            one.NumberOfPatientRelatedStudies,
            one.NumberOfPatientRelatedSeries,
            one.NumberOfPatientRelatedInstances,
        )
        for one in answers
    }
    assert counts == {
        "New^Name": (2, 3, 5),
        "Other^Hospital": (1, 1, 1),
        "No^Id": (1, 1, 1),
        "No^Id^Either": (1, 1, 1),
    }


def test_study_says_how_many_its_patient_has() -> None:
    add_study(1, patient_id="1")
    add_study(2, patient_id="1", source_ae_title="SECRET")
    house, keys = House(), {"StudyInstanceUID": "1.2.1"}
    assert house.values("NumberOfPatientRelatedStudies", **keys) == ["2"]
    sees = peer_with(visible=Visible(sources=("CT_1",)))
    assert house.values("NumberOfPatientRelatedStudies", peer=sees, **keys) == ["1"]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("", "ISO_IR 192"), ("ISO_IR 100", "ISO_IR 100"), ("ISO_IR 192", "ISO_IR 192"), ("ISO_IR 101", "ISO_IR 101")],
)
def test_answer_is_in_the_questions_character_set_where_that_can_say_it(asked: str, answered: str) -> None:
    add_study(1, patient_name="Müller^Jörg")
    answer = one(House(), PatientName="", SpecificCharacterSet=asked)
    assert (answer.SpecificCharacterSet, answer.PatientName) == (answered, "Müller^Jörg")


def test_answer_beyond_the_questions_character_set_is_in_utf_8() -> None:
    add_study(1, patient_name="Wałęsa^Lech=山田")
    answer = one(House(), PatientName="", SpecificCharacterSet="ISO_IR 100")
    assert (answer.SpecificCharacterSet, answer.PatientName) == ("ISO_IR 192", "Wałęsa^Lech=山田")


def test_japanese_answer_in_japanese_code_extensions() -> None:
    add_study(1, patient_name="Yamada^Tarou=山田^太郎")
    answer = one(House(), PatientName="", SpecificCharacterSet=["", "ISO 2022 IR 87"])
    assert list(answer.SpecificCharacterSet) == ["", "ISO 2022 IR 87"]
    assert answer.PatientName == "Yamada^Tarou=山田^太郎"


def test_answer_in_ascii_needs_no_character_set() -> None:
    add_study(1)
    assert "SpecificCharacterSet" not in one(House(), PatientName="", SpecificCharacterSet="ISO_IR 100")


def test_implicit_vr_goes_both_ways() -> None:
    add_study(1)
    add_study(2)
    asked = question("STUDY", PatientID="ID2", StudyDate="20200101-", InstanceAvailability="", PatientName="")
    (answer,) = House().ask(asked, transfer_syntax_uid=IMPLICIT_LITTLE)
    assert (answer.PatientName, answer.StudyDate) == ("Patient^Number2", "20200102")
    assert answer.InstanceAvailability == "ONLINE"


@pytest.mark.parametrize(
    ("visible", "uids"),
    [
        (Visible(), ["1.2.1", "1.2.2", "1.2.3"]),
        (Visible(sources=("CT_1",)), ["1.2.1", "1.2.3"]),
        (Visible(sources=("MR_1", "US_1")), ["1.2.2"]),
        (Visible(modalities=("MR",)), ["1.2.2"]),
        (Visible(conditions=conditions_parse(["StudyDescription != *research*"])), ["1.2.1", "1.2.2"]),
        (Visible(conditions=conditions_parse(["InstitutionName = clinic nörth*"])), ["1.2.1"]),
        (Visible(conditions=conditions_parse(["PatientName = doe*", "PatientID != 9"])), ["1.2.1"]),
        (Visible(sources=("CT_1",), modalities=("MR",)), []),
    ],
)
def test_peer_sees_what_its_row_allows_at_every_level(visible: Visible, uids: list[str]) -> None:
    add_study(1, patient_name="Doe^J", institution_name="Clinic North, Ward 1", study_description="")
    add_study(2, modality="MR", source_ae_title="MR_1", institution_name="Clinic South")
    add_study(3, patient_name="DOE^K", patient_id="9", study_description="ReSearch x", institution_name="")
    house, peer = House(), peer_with(visible=visible)
    assert house.values("StudyInstanceUID", peer=peer) == uids
    found = house.values("SeriesInstanceUID", "SERIES", peer=peer, relational=True)
    assert found == [f"{uid}.1" for uid in uids]
    found = house.values("SOPInstanceUID", "IMAGE", peer=peer, relational=True)
    assert found == [f"{uid}.1.1" for uid in uids]
    assert len(house.values("PatientID", "PATIENT", peer=peer, sop_class_uid=PATIENT_ROOT_FIND)) == len(uids)


def test_peer_without_the_right_hears_so_and_the_trail_knows() -> None:
    add_study(1)
    house = House()
    with pytest.raises(QueryError) as caught:
        house.ask(question("STUDY"), peer=Peer("assoc-1", "OTHER", "GATEWAY", "10.0.0.9", 1, tls=False))
    assert (caught.value.status, caught.value.code) == (0x0124, "query-forbidden")
    (asked,) = house.trail.asked
    assert (asked.outcome, asked.calling_ae_title, asked.keys, asked.answers) == ("refused", "OTHER", {}, 0)


def test_trail_knows_who_asked_for_what_and_how_it_ended() -> None:
    add_study(1)
    house = House()
    house.ask(question("STUDY", PatientName="Pat*", PatientID=""))
    (asked,) = house.trail.asked
    assert (asked.outcome, asked.model, asked.level, asked.answers) == ("success", "Study Root", "STUDY", 1)
    assert asked.keys == {"PatientName": "Pat*"}


def test_more_than_the_limit_is_cut_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_QUERY__MAX_ANSWERS", "2")
    for number in (1, 2, 3):
        add_study(number, patient_id="1" if number < 3 else "2")
    house = House()
    with pytest.raises(QueryError) as caught:
        house.ask(question("STUDY"))
    assert (caught.value.status, caught.value.code) == (0xA700, "query-too-many-answers")
    assert (house.trail.asked[-1].answers, house.trail.asked[-1].outcome) == (2, "failure")
    assert house.values("PatientID", "PATIENT", sop_class_uid=PATIENT_ROOT_FIND) == ["1", "2"]
    assert house.values("StudyInstanceUID", PatientID="1") == ["1.2.1", "1.2.2"]


def test_cancelled_query_is_recorded_as_such() -> None:
    for number in range(1, 4):
        add_study(number)
    house = House()
    answers = house.service.find(FindRequest(PEER, STUDY_ROOT_FIND, EXPLICIT_LITTLE), encoded(question("STUDY")))
    assert len(next(answers).identifiers) == 3
    answers.close()
    assert [asked.outcome for asked in house.trail.asked] == ["cancelled"]


@pytest.mark.django_db(transaction=True)
def test_statement_ends_at_its_deadline() -> None:
    forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(QueryError) as caught, deadline(0.2), connection.cursor() as cursor:
        cursor.execute(forever)
    assert (caught.value.status, caught.value.code) == (0xA700, "query-too-slow")
    assert not Study.objects.exists()  # the next statement has its own time
