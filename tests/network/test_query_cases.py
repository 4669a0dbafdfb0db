"""Every case of PS3.4 C.2.2.2 as a table: one index, a question, the studies that must be found. Any database."""

import datetime as dt
from typing import Any

import pytest
from pydicom.dataset import Dataset

from network.dimse.query.errors import QueryError
from network.dimse.query.question import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND
from tests.network.identifiers import question
from tests.network.query_house import House, add_series, add_study

pytestmark = pytest.mark.django_db

QUARTER_PAST = dt.time(10, 30, 15, 250000)
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.fixture
def house() -> House:
    add_study(1, patient_name="Doe^Jane", patient_id="4711", study_description="CT of the head")
    add_study(2, patient_name="DOE^JOHN^^^", patient_id="4712", modality="MR", study_description="MR brain 50% dose")
    add_study(3, patient_name="Müller^Jörg", patient_id="a_1", study_date=None, study_time=None)
    add_study(
        4, patient_name=JAPANESE, patient_id="a%1", study_description="Größe", study_time=dt.time(10, 30, 15, 250000)
    )
    add_study(5, patient_name="", patient_id="", accession_number="", referring_physician_name="Roe^Müller")
    add_study(6, patient_name="van der Berg^Anna Maria", patient_id="ax1", study_date=dt.date(2019, 12, 31))
    study = add_study(7, patient_name="O'Neil*^Star?", patient_id="A\\B", study_time=dt.time(23, 59, 59, 999999))
    add_series(study, 2, modality="SR")
    study.modalities = "CT\\SR"
    study.save()
    return House()


ALL = {1, 2, 3, 4, 5, 6, 7}
CASES: list[tuple[str, dict[str, Any], set[int]]] = [
    # universal matching (C.2.2.2.3)
    ("nothing", {}, ALL),
    ("zero length", {"PatientName": "", "StudyDate": "", "ModalitiesInStudy": ""}, ALL),
    ("a star alone", {"PatientName": "*", "AccessionNumber": "**"}, ALL),
    # single value (C.2.2.2.1)
    ("single", {"PatientID": "4711"}, {1}),
    ("single, padded", {"PatientID": " 4711 "}, {1}),
    ("ids are as written", {"PatientID": "AX1"}, set()),
    ("no wildcard of SQL: underscore", {"PatientID": "a_1"}, {3}),
    ("no wildcard of SQL: percent", {"PatientID": "a%1"}, {4}),
    ("single accession", {"AccessionNumber": "A6"}, {6}),
    # person names
    ("name, other case", {"PatientName": "doe^jane"}, {1}),
    ("name, empty components", {"PatientName": "Doe^John"}, {2}),
    ("name, trailing delimiters in the question", {"PatientName": "DOE^JANE^^"}, {1}),
    ("name is not a prefix", {"PatientName": "DOE"}, set()),
    ("name, accent in the index", {"PatientName": "MULLER^*"}, {3}),
    ("name, ideographic group", {"PatientName": "山田*", "SpecificCharacterSet": "ISO_IR 192"}, {4}),
    ("name, phonetic group", {"PatientName": "やまだ^たろう", "SpecificCharacterSet": "ISO_IR 192"}, {4}),
    ("name, alphabetic group of three", {"PatientName": "yamada^tarou"}, {4}),
    ("name, all groups", {"PatientName": JAPANESE, "SpecificCharacterSet": "ISO_IR 192"}, {4}),
    ("name, two groups of three", {"PatientName": "Yamada^*=山田*", "SpecificCharacterSet": "ISO_IR 192"}, {4}),
    ("name, phonetic group alone", {"PatientName": "==やまだ*", "SpecificCharacterSet": "ISO_IR 192"}, {4}),
    (
        "name, ideographic group of another",
        {"PatientName": "Yamada*=田中*", "SpecificCharacterSet": "ISO_IR 192"},
        set(),
    ),
    ("name, any given name or none", {"ReferringPhysicianName": "roe^mu*^*"}, {5}),
    ("name, in the question's character set", {"PatientName": "Müller*", "SpecificCharacterSet": "ISO_IR 100"}, {3}),
    ("name in a column without an index", {"ReferringPhysicianName": "roe^muller"}, {5}),
    # wildcards (C.2.2.2.4)
    ("prefix", {"PatientName": "Doe^*"}, {1, 2}),
    ("suffix", {"PatientName": "*^J*"}, {1, 2, 3}),
    ("middle", {"PatientName": "*der b*"}, {6}),
    ("one character", {"PatientName": "Doe^J?ne"}, {1}),
    ("one character is one", {"PatientName": "Doe^Ja?ne"}, set()),
    ("characters that stand for themselves", {"PatientName": "O'Neil*"}, {7}),
    ("wildcard id keeps case", {"PatientID": "a*"}, {3, 4, 6}),
    ("wildcard id, one character", {"PatientID": "a?1"}, {3, 4, 6}),
    ("percent is no wildcard", {"StudyDescription": "*50% d*"}, {2}),
    ("description, other case", {"StudyDescription": "*BRAIN*"}, {2}),
    ("description, accents", {"StudyDescription": "GROSSE"}, {4}),
    ("description, whole", {"StudyDescription": "ct of the head"}, {1, 3, 5, 6, 7}),
    # lists (C.2.2.2.2, C.2.2.2.8)
    ("list of UIDs", {"StudyInstanceUID": ["1.2.1", "1.2.4", "1.2.99"]}, {1, 4}),
    ("one UID", {"StudyInstanceUID": "1.2.3"}, {3}),
    ("UIDs know no wildcard", {"StudyInstanceUID": "1.2.?"}, set()),
    ("several values", {"PatientID": ["4711", "4712"]}, {1, 2}),
    # empty value (C.2.2.2.7)
    ("empty id", {"PatientID": '""'}, {5}),
    ("empty accession", {"AccessionNumber": '""'}, {5}),
    # dates and times (C.2.2.2.5)
    ("date", {"StudyDate": "20200104"}, {4}),
    ("dates", {"StudyDate": "20200102-20200105"}, {2, 4, 5}),
    ("until", {"StudyDate": "-20200101"}, {1, 6}),
    ("from", {"StudyDate": "20200105-"}, {5, 7}),
    ("no date is in no range", {"StudyDate": "19000101-29991231"}, ALL - {3}),
    ("empty date", {"StudyDate": '""'}, {3}),
    ("dates the wrong way round", {"StudyDate": "20200105-20200102"}, set()),
    ("time", {"StudyTime": "100100"}, {1}),
    ("a minute", {"StudyTime": "1001"}, {1}),
    ("an hour", {"StudyTime": "10"}, {1, 2, 4, 5, 6}),
    ("times", {"StudyTime": "100200-1005"}, {2, 5}),
    ("fractions", {"StudyTime": "103015.25"}, {4}),
    ("fractions of a range", {"StudyTime": "103015.2-103015.3"}, {4}),
    ("the last moment", {"StudyTime": "235959-"}, {7}),
    ("date and time apart", {"StudyDate": "20200101-20200104", "StudyTime": "1002-1030"}, {2, 4}),
    # modalities and SOP classes (C.3.4)
    ("modality", {"ModalitiesInStudy": "MR"}, {2}),
    ("one of several modalities", {"ModalitiesInStudy": "SR"}, {7}),
    ("several modalities", {"ModalitiesInStudy": ["MR", "SR"]}, {2, 7}),
    ("modality, wildcard", {"ModalitiesInStudy": "?R"}, {2, 7}),
    ("SOP class", {"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.4"}, {2}),
    # together
    ("all keys must match", {"PatientName": "Doe*", "ModalitiesInStudy": "CT"}, {1}),
    ("counts are numbers", {"NumberOfStudyRelatedInstances": 1}, ALL),
]


@pytest.mark.parametrize(("keys", "numbers"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_case(house: House, keys: dict[str, Any], numbers: set[int]) -> None:
    answers = house.ask(question("STUDY", **{"StudyInstanceUID": ""} | keys))
    assert {int(answer.StudyInstanceUID.split(".")[2]) for answer in answers} == numbers
    assert len(answers) == len(numbers)
    assert house.supported


def test_combined_date_and_time_are_moments_when_it_was_agreed(house: House) -> None:
    keys = {"StudyDate": "20200101-20200104", "StudyTime": "100200-1010"}
    assert house.values("StudyInstanceUID", **keys) == ["1.2.2"]
    assert house.values("StudyInstanceUID", combined=True, **keys) == ["1.2.2"]
    keys = {"StudyDate": "20191231-20200101", "StudyTime": "1003-1000"}
    assert house.values("StudyInstanceUID", **keys) == []
    assert house.values("StudyInstanceUID", combined=True, **keys) == ["1.2.6"]


@pytest.mark.parametrize(
    ("date", "time", "numbers"),
    [
        ("20200101-20200104", "1002", [2]),  # else from the first at 10:02 to the fourth at 10:02
        ("-20200104", "1002-1003", [2]),
        ("20200101-", "-1002", [1, 2]),
        ("20200102", "1002-1003", [2]),
        ("-20200104", "-1002", [1, 2, 6]),
        ("20200102-", "1030-", [4, 5, 7]),
    ],
)
def test_only_ranges_of_the_same_form_are_moments(house: House, date: str, time: str, numbers: list[int]) -> None:
    """PS3.4 C.2.2.2.5.4; all others are each by itself."""
    found = house.values("StudyInstanceUID", combined=True, StudyDate=date, StudyTime=time)
    assert found == [f"1.2.{number}" for number in numbers]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("jane doe", ["1.2.1"]),
        ("anna berg", ["1.2.6"]),
        ("jorg mul", ["1.2.3"]),
        ("doe", ["1.2.1", "1.2.2"]),
        ("oe", []),
    ],
)
def test_fuzzy_names_are_words_in_any_order(house: House, name: str, numbers: list[str]) -> None:
    assert house.values("StudyInstanceUID", PatientName=name, fuzzy=True) == numbers


def test_one_character_may_be_two_where_it_is_searched(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_QUERY__FOLD_ACCENTS", "false")
    add_study(8, patient_name="Ægisson^Jón")
    assert house.values("StudyInstanceUID", PatientName="?gisson^J?n") == ["1.2.8"]


def test_folding_is_an_option(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_QUERY__FOLD_CASE", "false")
    monkeypatch.setenv("GATEWAY_QUERY__FOLD_ACCENTS", "false")
    assert house.values("StudyInstanceUID", PatientName="DOE*") == ["1.2.2"]
    assert house.values("StudyInstanceUID", PatientName="Muller*") == []
    assert house.values("StudyInstanceUID", StudyDescription="*BRAIN*") == []


@pytest.mark.parametrize(
    ("level", "model", "keys"),
    [
        ("", {}, {}),
        ("study", {}, {}),
        ("PATIENT", {}, {}),
        ("SERIES", {"sop_class_uid": PATIENT_STUDY_ONLY_FIND}, {"StudyInstanceUID": "1.2.1", "PatientID": "4711"}),
        ("SERIES", {}, {}),
        ("SERIES", {}, {"StudyInstanceUID": ["1.2.1", "1.2.2"]}),
        ("IMAGE", {}, {"StudyInstanceUID": "1.2.1"}),
        ("STUDY", {"sop_class_uid": PATIENT_ROOT_FIND}, {}),
        ("STUDY", {"sop_class_uid": PATIENT_ROOT_FIND}, {"PatientID": "47*"}),
    ],
)
def test_identifier_that_is_not_of_its_model_is_a900(
    house: House, level: str, model: dict[str, Any], keys: dict[str, Any]
) -> None:
    with pytest.raises(QueryError) as caught:
        house.ask(question(level, **keys), **model)
    assert caught.value.status == 0xA900
    assert house.trail.asked[-1].outcome == "failure"


@pytest.mark.parametrize(
    "keys", [{"PatientName": "Doe\0^*"}, {"AccessionNumber": "A\0B"}, {"StudyInstanceUID": "1\0.2"}]
)
def test_nul_within_a_text_is_c000(house: House, keys: dict[str, str]) -> None:
    with pytest.raises(QueryError) as caught:
        house.ask(question("STUDY", **keys))
    assert (caught.value.status, caught.value.code) == (0xC000, "identifier-garbled")


def test_relational_queries_need_no_upper_keys(house: House) -> None:
    uids = house.values("SOPInstanceUID", "IMAGE", relational=True, Modality="SR")
    assert uids == ["1.2.7.2.1"]
    assert house.values("SeriesInstanceUID", "SERIES", relational=True, PatientName="Doe*") == ["1.2.1.1", "1.2.2.1"]


def test_patient_root_has_four_levels(house: House) -> None:
    root = {"sop_class_uid": PATIENT_ROOT_FIND}
    assert len(house.values("PatientID", "PATIENT", **root)) == 7
    found = house.values("StudyInstanceUID", "STUDY", PatientID="4711", **root)
    found += house.values("SeriesInstanceUID", "SERIES", PatientID="4711", StudyInstanceUID="1.2.1", **root)
    keys = {"PatientID": "4711", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}
    found += house.values("SOPInstanceUID", "IMAGE", **keys, **root)
    assert found == ["1.2.1", "1.2.1.1", "1.2.1.1.1"]


def test_key_of_a_lower_level_does_not_count_and_says_so(house: House) -> None:
    answers = house.ask(question("STUDY", Modality="MR", PatientID="4711"))
    assert [("Modality" in answer, answer.PatientID) for answer in answers] == [(False, "4711")]  # PS3.4 C.2.2.1.3
    assert not house.supported


@pytest.mark.parametrize(
    ("level", "keyword"),
    [("PATIENT", "InstanceAvailability"), ("SERIES", "NumberOfPatientRelatedStudies"), ("STUDY", "KVP")],
)
def test_wish_that_this_level_cannot_grant_is_told(house: House, level: str, keyword: str) -> None:
    model = {"sop_class_uid": PATIENT_ROOT_FIND, "relational": True}
    assert house.ask(question(level, **{keyword: None}), **model)
    assert not house.supported


def test_private_keys_and_group_lengths_are_passed_over(house: House) -> None:
    asked = question("STUDY", PatientID="4711")
    asked.add_new(0x00090010, "LO", "SOMEBODY")
    asked.add_new(0x00091001, "LO", "something")
    asked.add_new(0x00080000, "UL", 99)
    (answer,) = house.ask(asked)
    assert house.supported
    assert 0x00091001 not in answer


def test_sequence_key_that_no_level_has_is_told(house: House) -> None:
    asked = question("STUDY", PatientID="4711")
    item = Dataset()
    item.AccessionNumber = "A1"
    asked.RequestAttributesSequence = [item]
    (answer,) = house.ask(asked)
    assert "RequestAttributesSequence" not in answer
    assert not house.supported


def test_answers_name_the_levels_above_whether_asked_or_not(house: House) -> None:
    """PS3.4 C.4.1.3.1.1: with them a relational answer can be retrieved."""
    (answer,) = house.ask(question("IMAGE", SOPInstanceUID="", Modality="SR"), relational=True)
    assert (answer.StudyInstanceUID, answer.SeriesInstanceUID) == ("1.2.7", "1.2.7.2")
    assert "PatientID" not in answer
    root = {"sop_class_uid": PATIENT_ROOT_FIND, "relational": True}
    (answer,) = house.ask(question("STUDY", StudyInstanceUID="1.2.1"), **root)
    assert answer.PatientID == "4711"


def test_empty_value_of_what_every_study_has_matches_none(house: House) -> None:
    assert house.values("StudyInstanceUID", SOPClassesInStudy='""') == []
