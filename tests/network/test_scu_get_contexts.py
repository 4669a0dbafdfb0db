"""The contexts of a C-GET, chosen by a query beforehand: from archives that tell their classes in different ways."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from network.dimse import scu
from network.dimse.contexts import storage_sop_classes
from network.dimse.errors import AssociationError
from network.dimse.scu.get_contexts import COMMON, FINDING, STUDY_ROOT_GET, get_proposals, sop_classes_ask
from network.dimse.scu.negotiation import associate_request
from tests.network.scu_peers import CT, EXPLICIT, IMPLICIT, archive_running

MR = "1.2.840.10008.5.1.4.1.1.4"
SR = "1.2.840.10008.5.1.4.1.1.88.11"


SERIES = {"1.2.1.1": [CT, CT], "1.2.1.2": [MR, SR, "../../etc"]}


def answer(question: Dataset, **values: Any) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel, found.StudyInstanceUID = question.QueryRetrieveLevel, question.StudyInstanceUID
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def answers(question: Dataset, levels: tuple[str, ...]) -> list[Dataset]:
    """Of a study with two series, whose classes are told at these levels alone."""
    if question.QueryRetrieveLevel == "STUDY":
        return [answer(question, SOPClassesInStudy=[MR, CT]) if "STUDY" in levels else answer(question)]
    if question.QueryRetrieveLevel == "SERIES":
        return [answer(question, SeriesInstanceUID=uid) for uid in SERIES]
    classes = SERIES[question.SeriesInstanceUID]
    return [answer(question, SOPClassUID=uid) if "IMAGE" in levels else answer(question) for uid in classes]


@contextlib.contextmanager
def telling(*levels: str, syntax: str = EXPLICIT, status: int = 0) -> Iterator[tuple[dict[str, Any], list[Dataset]]]:
    """Such an archive, and what it was asked."""
    asked: list[Dataset] = []

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked.append(event.identifier)
        if status:
            yield status, None
        else:
            yield from ((0xFF00, one) for one in answers(asked[-1], levels))

    entity = AE("ARCHIVE")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind, [syntax])
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    try:
        peer = {"address": "127.0.0.1", "port": server.server_address[1], "calling_ae_title": "GATEWAY"}
        yield {**peer, "called_ae_title": "ARCHIVE"}, asked
    finally:
        server.shutdown()


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    ("levels", "classes", "queries"),
    [
        (("STUDY", "IMAGE"), [MR, CT], ["STUDY"]),
        (("IMAGE",), [CT, MR, SR], ["STUDY", "SERIES", "IMAGE", "IMAGE"]),
        ((), [], ["STUDY", "SERIES", "IMAGE", "IMAGE"]),
    ],
)
def test_classes_are_asked_for_where_the_peer_tells_them(
    syntax: str, levels: tuple[str, ...], classes: list[str], queries: list[str]
) -> None:
    with telling(*levels, syntax=syntax) as (peer, asked), scu.association([FINDING], **peer) as opened:
        assert sop_classes_ask(opened, "1.2.1") == classes
    assert [question.QueryRetrieveLevel for question in asked] == queries
    assert {question.StudyInstanceUID for question in asked} == {"1.2.1"}


def test_peer_that_fails_at_queries_tells_nothing_and_the_association_stands() -> None:
    with telling(status=0xA900) as (peer, _asked), scu.association([FINDING], **peer) as opened:
        assert sop_classes_ask(opened, "1.2.1") == []
        assert opened.is_established


def test_peer_that_does_not_answer_queries_has_a_name() -> None:
    with (
        archive_running() as archive,
        scu.association([scu.VERIFICATION_PROPOSAL], **archive.peer) as opened,
        pytest.raises(AssociationError) as caught,
    ):
        sop_classes_ask(opened, "1.2.1")
    assert caught.value.code == "context-rejected"


def test_proposals_are_the_retrieval_and_what_was_told_at_most_128() -> None:
    told = get_proposals([CT, MR, CT])
    assert [one.abstract_syntax for one in told] == [STUDY_ROOT_GET, CT, MR]
    assert [one.as_scp for one in told] == [False, True, True]
    assert [one.abstract_syntax for one in get_proposals([])[1:]] == list(COMMON)
    assert set(COMMON) <= set(storage_sop_classes())
    many = get_proposals(storage_sop_classes()[:140])
    assert len(many) == 128
    assert len(associate_request(many, calling="GATEWAY", called="ARCHIVE")) < 64 * 1024
