"""What a retrieval names, asked of the index: by keys alone, within the limit, and never more than a peer may see."""

from typing import Any

import pytest

from network.dimse.query.dataset import elements_read
from network.dimse.query.errors import QueryError
from network.dimse.query.matching import Folding
from network.dimse.query.question import PATIENT_ROOT_FIND, STUDY_ROOT_FIND, question_read
from network.dimse.rights import Visible, conditions_parse
from network.selectors.retrieve import instances_named
from tests.network.identifiers import encoded, question
from tests.network.query_house import add_study

pytestmark = pytest.mark.django_db
NOT_RESEARCH = Visible(conditions=conditions_parse(["StudyDescription != *research*"]))


def named(
    level: str, *, model: str = PATIENT_ROOT_FIND, visible: Visible = NOT_RESEARCH, limit: int = 4, **keys: Any
) -> list[str]:
    elements = elements_read(encoded(question(level, **keys)), explicit=True)
    asked = question_read(elements, model=model, folding=Folding(), relational=False)
    return [one.sop_instance_uid for one in instances_named(asked, visible=visible, limit=limit)]


def test_limit_counts_what_the_peer_may_see() -> None:
    """What it may not see comes first here: it neither fills the limit nor cuts off what follows."""
    add_study(1, patient_id="P", instances=4, study_description="Research")
    add_study(2, patient_id="P", instances=4)
    assert named("PATIENT", PatientID="P") == [f"1.2.2.1.{number}" for number in (1, 2, 3, 4)]
    with pytest.raises(QueryError) as caught:
        named("PATIENT", PatientID="P", visible=Visible())
    assert (caught.value.status, caught.value.code) == (0xA701, "retrieve-too-many")
    with pytest.raises(QueryError):
        named("PATIENT", PatientID="P", limit=3)


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("PATIENT", {"PatientID": "P*"}),
        ("PATIENT", {"PatientID": ["P", "Q"]}),
        ("PATIENT", {"PatientID": '""'}),
        ("PATIENT", {"PatientID": ""}),
        ("PATIENT", {"PatientID": "*"}),
        ("STUDY", {"PatientID": "P", "StudyInstanceUID": '""'}),
        ("STUDY", {"PatientID": "P", "StudyInstanceUID": ""}),
        ("STUDY", {"PatientID": "P?", "StudyInstanceUID": "1.2.1"}),
    ],
)
def test_pattern_and_nothing_name_no_patient_and_no_study(level: str, keys: dict[str, Any]) -> None:
    """PS3.4 C.4.2.2.1: one patient, or UIDs; a star must not move an archive."""
    add_study(1, patient_id="P")
    with pytest.raises(QueryError) as caught:
        named(level, **keys)
    assert (caught.value.status, caught.value.code) == (0xA900, "identifier-mismatch")


def test_several_uids_name_several_entities() -> None:
    add_study(1, instances=2)
    add_study(2)
    found = named("STUDY", model=STUDY_ROOT_FIND, StudyInstanceUID=["1.2.1", "1.2.2", "1.2.99"])
    assert found == ["1.2.1.1.1", "1.2.1.1.2", "1.2.2.1.1"]
    keys = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}
    assert named("IMAGE", model=STUDY_ROOT_FIND, SOPInstanceUID=["1.2.1.1.2"], **keys) == ["1.2.1.1.2"]
    assert named("IMAGE", model=STUDY_ROOT_FIND, SOPInstanceUID=["1.2.2.1.1"], **keys) == []
