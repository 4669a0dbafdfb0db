"""C-FIND from outside: DCMTK's findscu and pynetdicom's client against a running gateway."""

import re
import subprocess
from pathlib import Path

import pytest
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from benchmarks.finder import STUDY_ROOT_FIND as STUDY_ROOT
from benchmarks.finder import cancel, request
from tests.dicom_samples import study_files
from tests.flow.query_wire import PEERS, asked, association, listening, queries, raw
from tests.gateway_harness import Gateway, wait_until
from tests.network.identifiers import encoded, question

pytestmark = [pytest.mark.timeout(120)]
STUDIES = 40
PATIENT_ROOT, CT_CLASS = "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.1.2"
MANY = 3000
WIDE = encoded(
    question(
        "STUDY",
        PatientName="",
        PatientID="",
        StudyInstanceUID="",
        StudyDescription="",
        ReferringPhysicianName="",
        AccessionNumber="",
    )
)


@pytest.fixture
def filled(gateway: Gateway, tmp_path: Path) -> Gateway:
    """With a study of three objects in files, and rows of many more."""
    listening(gateway, studies=STUDIES)
    paths = study_files(tmp_path / "sent", count=3)
    send = ["storescu", "-aet", "CT_1", "-aec", "GATEWAY", "127.0.0.1", str(gateway.dimse_port)]
    assert subprocess.run([*send, *map(str, paths)], check=False).returncode == 0
    return gateway


def findscu(gateway: Gateway, *keys: str, model: str = "-S", calling: str = "WS") -> tuple[list[str], str]:
    """The identifiers that came, as DCMTK prints them, and its last line on the final response."""
    command = ["findscu", "-v", "-aet", calling, "-aec", "GATEWAY", model]
    for key in keys:
        command += ["-k", key]
    done = subprocess.run(
        [*command, "127.0.0.1", str(gateway.dimse_port)], capture_output=True, text=True, timeout=60, check=False
    )
    printed = done.stderr.replace("\0", "")  # the padding of UIDs
    answers = re.split(r"I: Find Response: \d+ ", printed)[1:]
    (final,) = re.findall(r"Received Final Find Response \((.*)\)", printed)
    return answers, final


@pytest.mark.dcmtk
def test_findscu_gets_answers_at_every_level(filled: Gateway) -> None:
    answers, final = findscu(
        filled, "QueryRetrieveLevel=STUDY", "PatientName=doe*", "StudyInstanceUID", "ModalitiesInStudy=CT"
    )
    assert (len(answers), final) == (1, "Success")
    (study,) = re.findall(r"\(0020,000d\) UI \[(\S+?)\]", answers[0])
    keys = [
        "QueryRetrieveLevel=SERIES",
        f"StudyInstanceUID={study}",
        "SeriesInstanceUID",
        "NumberOfSeriesRelatedInstances",
    ]
    answers, final = findscu(filled, *keys)
    assert (len(answers), final) == (2, "Success")
    (first,) = [answer for answer in answers if "[2 ]" in answer]
    (series,) = re.findall(r"\(0020,000e\) UI \[(\S+?)\]", first)
    keys = ["QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={study}", f"SeriesInstanceUID={series}"]
    answers, final = findscu(filled, *keys, "SOPInstanceUID", "SliceThickness", "ImageType", "KVP")
    assert (len(answers), final) == (2, "Success")
    assert all(re.search(r"\(0008,0008\) CS \[[A-Z]+\\[A-Z]+", answer) for answer in answers)  # read from the files
    answers, final = findscu(filled, "QueryRetrieveLevel=PATIENT", "PatientID", model="-P")
    assert (len(answers), final) == (1 + -(-STUDIES // 3), "Success")


@pytest.mark.dcmtk
def test_forbidden_peers_see_nothing_and_the_trail_knows(filled: Gateway) -> None:
    assert findscu(filled, "QueryRetrieveLevel=STUDY", calling="STRANGER") == ([], "Unknown Status: 0x124")
    assert findscu(filled, "QueryRetrieveLevel=STUDY", "PatientName=Marked*", calling="SINK") == ([], "Success")
    records = wait_until(lambda: [row for row in queries(filled) if row[1] == "ae:SINK"], what="the trail")
    assert [outcome for outcome, actor, _detail in queries(filled) if actor == "ae:STRANGER"] == ["refused"]
    assert records[0][2]["keys"] == {"PatientName": "Marked*"}
    assert "Marked" not in filled.log.read_text()


@pytest.mark.dcmtk
def test_peer_that_may_not_store_gets_no_context_for_it(filled: Gateway) -> None:
    with association(filled, calling="SINK", contexts=[CT_CLASS, STUDY_ROOT]) as opened:
        assert [str(context.abstract_syntax) for context in opened.accepted_contexts] == [STUDY_ROOT]


def test_rights_count_from_the_next_association_on(gateway: Gateway) -> None:
    gateway.start_listeners()
    assert asked(gateway, question("STUDY"), calling="WS")[-1].Status == 0x0124
    assert gateway.code(PEERS).returncode == 0
    wait_until(lambda: asked(gateway, question("STUDY"), calling="WS")[-1].Status == 0, what="the right to query")


@pytest.mark.dcmtk
def test_pynetdicom_relational_and_fuzzy_are_negotiated(filled: Gateway) -> None:
    whole = question("IMAGE", SOPInstanceUID="", PatientName="judge")
    responses = asked(filled, whole)
    assert (len(responses), responses[-1].Status, responses[-1].ErrorComment) == (
        1,
        0xA900,
        "the unique key of level STUDY must have one value",
    )
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = STUDY_ROOT, b"\1\0\1\1\1"
    with association(filled, items=[item]) as opened:
        assert opened.acceptor.sop_class_extended == {STUDY_ROOT: b"\1\0\1\0\0"}
        responses = [status for status, _answer in opened.send_c_find(whole, STUDY_ROOT)]
    assert [status.Status for status in responses] == [0xFF00] * 3 + [0]


@pytest.mark.parametrize(
    ("sop_class", "wanted", "agreed"),
    [
        (STUDY_ROOT, b"\1\1\1\1\1\1\1", b"\1\1\1\0\0\1\1"),
        (STUDY_ROOT, b"\0", b"\0"),
        ("1.2.840.10008.5.1.4.1.2.2.2", b"\1\1", b"\1\0"),
        ("1.2.840.10008.5.1.4.1.2.2.3", b"\1\1", b"\1\0"),
    ],
)
def test_what_is_agreed_to_is_what_is_done(filled: Gateway, sop_class: str, wanted: bytes, agreed: bytes) -> None:
    """PS3.4 tables C.5-2 and C.5-4: no time zones, no conversion of multi-frame images."""
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = sop_class, wanted
    with association(filled, contexts=[sop_class], items=[item]) as opened:
        assert opened.acceptor.sop_class_extended == {sop_class: agreed}


@pytest.mark.dcmtk
def test_unsupported_key_is_ff01(filled: Gateway) -> None:
    responses = asked(filled, question("STUDY", PatientID="", Modality="CT"))
    assert [status.Status for status in responses[:2]] == [0xFF01, 0xFF01]


@pytest.mark.dcmtk
def test_many_queries_and_stores_on_one_association(filled: Gateway) -> None:
    with association(filled, contexts=[STUDY_ROOT, PATIENT_ROOT, "1.2.840.10008.1.1"]) as opened:
        for number in range(20):
            found = list(opened.send_c_find(question("STUDY", PatientID=f"SEED{number // 2:06d}"), STUDY_ROOT))
            assert [status.Status for status, _ in found] == [0xFF00] * 3 + [0]
            assert opened.send_c_echo().Status == 0


def test_cancel_ends_a_long_answer(gateway: Gateway) -> None:
    """The answers are more than the connection holds; the C-CANCEL is there when the second write is through."""
    listening(gateway, studies=MANY)
    with raw(gateway) as finder:
        finder.send(request(7, WIDE) + cancel(7))
        statuses = finder.statuses()
    assert statuses[-1] == 0xFE00
    assert 0 < len(statuses) < MANY
    (record,) = wait_until(lambda: queries(gateway), what="the trail")
    assert (record[0], record[2]["answers"] < MANY) == ("cancelled", True)


def test_cancel_of_another_message_does_not(gateway: Gateway) -> None:
    listening(gateway, studies=MANY)
    with raw(gateway) as finder:
        finder.send(request(7, WIDE) + cancel(8))
        assert finder.statuses() == [0xFF00] * MANY + [0]


def test_peer_that_dies_in_mid_answer_harms_nobody(gateway: Gateway) -> None:
    listening(gateway, studies=MANY)
    for _ in range(5):
        with raw(gateway) as finder:
            finder.send(request(7, WIDE))
            assert finder.response() == 0xFF00
            finder.reset()
    with raw(gateway) as finder:
        assert finder.find(WIDE) == MANY
    wait_until(lambda: len(queries(gateway)) == 6, what="all queries in the trail")
    assert len([one for one in queries(gateway) if one[0] == "success"]) >= 1
    assert "Traceback" not in gateway.log.read_text()


def test_limit_is_told_after_the_answers(gateway: Gateway) -> None:
    listening(gateway, studies=20, GATEWAY_QUERY__MAX_ANSWERS="7")
    responses = asked(gateway, question("STUDY", PatientID=""))
    assert [status.Status for status in responses] == [0xFF00] * 7 + [0xA700]
    assert responses[-1].ErrorComment == "over 7 matches: narrow the query"
