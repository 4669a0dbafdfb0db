"""Storage commitment as the requestor, against pynetdicom's service class and a peer that makes no sense."""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from network.dimse import scu
from network.dimse.commitment import Reference, event_data, report_read, request_data
from network.dimse.errors import AssociationError
from network.dimse.scu.commitment import (
    ASKING,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    REPORTING,
    CommitmentError,
    commitment_ask,
    commitment_context,
    event_report,
    report_receive,
)
from tests.network.dimse_fixtures import wait_until
from tests.network.scu_peers import CT, ScriptedPeer, accept, response

REFERENCES = [Reference(CT, f"1.2.3.{number}") for number in range(400)]


@dataclass
class Committer:
    """pynetdicom, asked to commit and told of commitments."""

    status: int = 0x0000
    offers: bool = True
    syntaxes: tuple[str, ...] = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
    asked: list[Dataset] = field(default_factory=list)
    told: list[tuple[int, Dataset]] = field(default_factory=list)
    port: int = 0

    on_action: Callable[[Any], tuple[int, None]] | None = None

    def action(self, event: Any) -> tuple[int, None]:
        self.asked.append(event.action_information)
        return self.on_action(event) if self.on_action is not None else (self.status, None)

    def report(self, event: Any) -> tuple[int, None]:
        self.told.append((event.request.EventTypeID, event.event_information))
        return self.status, None

    @property
    def peer(self) -> dict[str, Any]:
        return {"address": "127.0.0.1", "port": self.port, "calling_ae_title": "GATEWAY", "called_ae_title": "PACS"}


@contextlib.contextmanager
def committing(**values: Any) -> Iterator[Committer]:
    committer = Committer(**values)
    entity = AE("PACS")
    entity.add_supported_context(Verification)
    if committer.offers:
        entity.add_supported_context(StorageCommitmentPushModel, list(committer.syntaxes), scu_role=True, scp_role=True)
    handlers = [(evt.EVT_N_ACTION, committer.action), (evt.EVT_N_EVENT_REPORT, committer.report)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    committer.port = server.server_address[1]
    try:
        yield committer
    finally:
        server.shutdown()


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_request_names_every_object(syntax: str) -> None:
    with committing(syntaxes=(syntax,)) as committer, scu.association([ASKING], **committer.peer) as opened:
        explicit = commitment_context(opened).transfer_syntax == EXPLICIT_LITTLE
        commitment_ask(opened, request_data("1.2.77", REFERENCES, explicit=explicit))
    (asked,) = committer.asked
    named = [(one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in asked.ReferencedSOPSequence]
    assert asked.TransactionUID == "1.2.77"
    assert named == [(one.sop_class_uid, one.sop_instance_uid) for one in REFERENCES]


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_report_goes_to_a_peer_in_the_role_of_the_scu(syntax: str) -> None:
    with committing(syntaxes=(syntax,)) as committer, scu.association([REPORTING], **committer.peer) as opened:
        explicit = commitment_context(opened).transfer_syntax == EXPLICIT_LITTLE
        event_report(opened, event_data("1.2.77", REFERENCES[2:], [(REFERENCES[0], 0x0112)], explicit=explicit))
        event_report(opened, event_data("1.2.78", REFERENCES, [], explicit=explicit))
    (kind, told), (other, all_of_it) = committer.told
    (failed,) = told.FailedSOPSequence
    assert (kind, len(told.ReferencedSOPSequence), other) == (2, len(REFERENCES) - 2, 1)
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("1.2.3.0", 0x0112)
    assert "FailedSOPSequence" not in all_of_it


def test_refusals_have_names_and_their_status() -> None:
    with committing(status=0x0110) as committer, scu.association([ASKING], **committer.peer) as opened:
        with pytest.raises(CommitmentError) as refused:
            commitment_ask(opened, request_data("1.2.77", REFERENCES, explicit=True))
        assert (refused.value.code, refused.value.status) == ("commitment-refused", 0x0110)
    with committing(status=0x0110) as committer, scu.association([REPORTING], **committer.peer) as opened:
        with pytest.raises(CommitmentError) as refused:
            event_report(opened, event_data("1.2.77", REFERENCES, [], explicit=True))
        assert (refused.value.code, refused.value.status) == ("report-refused", 0x0110)


def test_peer_that_offers_no_commitment_is_told_by_name() -> None:
    with committing(offers=False) as committer:
        with pytest.raises(AssociationError) as rejected, scu.association([ASKING], **committer.peer) as opened:
            commitment_context(opened)
        assert rejected.value.code in ("context-rejected", "no-context")


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_report_on_the_same_association_is_taken_and_answered(syntax: str) -> None:
    """Of a modality's kind of SCP: the report follows the answer at once."""
    answers: list[int] = []
    asked_and_answered = threading.Event()

    def action(event: Any) -> tuple[int, None]:
        threading.Thread(target=report, args=(event.assoc, event.action_information)).start()
        return 0x0000, None

    def report(association: Any, asked: Dataset) -> None:
        asked_and_answered.wait(20)
        told = Dataset()
        told.TransactionUID, told.ReferencedSOPSequence = asked.TransactionUID, asked.ReferencedSOPSequence[1:]
        told.FailedSOPSequence = [asked.ReferencedSOPSequence[0]]
        told.FailedSOPSequence[0].FailureReason = 0x0112
        status, _reply = association.send_n_event_report(told, 2, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
        answers.append(status.Status)

    with committing(syntaxes=(syntax,)) as committer:
        committer.on_action = action
        with scu.association([ASKING], **committer.peer) as opened:
            commitment_ask(opened, request_data("1.2.77", REFERENCES, explicit=syntax == EXPLICIT_LITTLE))
            asked_and_answered.set()
            told = report_receive(opened, seconds=10)
            assert wait_until(lambda: answers) == [0]
    assert (told.transaction_uid, told.committed) == ("1.2.77", tuple(REFERENCES[1:]))
    assert told.failed == ((REFERENCES[0], 0x0112),)


def test_report_that_does_not_come_has_a_name() -> None:
    with committing() as committer, scu.association([ASKING], **committer.peer) as opened:
        commitment_ask(opened, request_data("1.2.77", REFERENCES[:1], explicit=True))
        with pytest.raises(AssociationError) as late:
            report_receive(opened, seconds=0.2)
    assert late.value.code == "response-timeout"


EVENT = {
    0x0002: str(StorageCommitmentPushModel),
    0x0100: 0x0100,
    0x0110: 1,
    0x1000: "1.2.840.10008.1.20.1.1",
    0x1002: 1,
}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (response(1, EVENT, b"\1\2\3"), "report-unreadable"),
        (response(1, EVENT), "report-unreadable"),
        (response(1, EVENT | {0x0002: CT}, b""), "response-invalid"),
        (response(1, EVENT | {0x0100: 0x8020, 0x0120: 1, 0x0900: 0}), "response-invalid"),
    ],
)
def test_report_that_makes_no_sense_has_a_name(said: bytes, code: str) -> None:
    with ScriptedPeer(accept([(1, EXPLICIT_LITTLE)]) + said) as hostile:
        with pytest.raises(AssociationError) as broken, scu.association([ASKING], **hostile.peer) as opened:
            report_receive(opened, seconds=5)
        assert broken.value.code == code


def test_answer_to_another_request_ends_the_association() -> None:
    stray = response(1, {0x0002: str(StorageCommitmentPushModel), 0x0100: 0x8130, 0x0120: 999, 0x0900: 0})
    with ScriptedPeer(accept([(1, EXPLICIT_LITTLE)]), stray) as hostile:
        with pytest.raises(AssociationError) as broken, scu.association([ASKING], **hostile.peer) as opened:
            commitment_ask(opened, request_data("1.2.77", REFERENCES[:1], explicit=True))
        assert broken.value.code != "commitment-refused"


@pytest.mark.parametrize("explicit", [True, False])
def test_report_of_a_peer_is_read_as_pydicom_writes_it(explicit: bool) -> None:
    told = Dataset()
    told.TransactionUID = "1.2.77"
    told.ReferencedSOPSequence, told.FailedSOPSequence = [], []
    for sequence, number in ((told.ReferencedSOPSequence, 1), (told.FailedSOPSequence, 2)):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, f"1.2.3.{number}"
        sequence.append(item)
    told.FailedSOPSequence[0].FailureReason = 0x0119
    stream = DicomBytesIO(io.BytesIO().getvalue())
    stream.is_little_endian, stream.is_implicit_VR = True, not explicit
    write_dataset(stream, told)
    found = report_read(stream.getvalue(), explicit=explicit)
    assert found.committed == (REFERENCES[1],)
    assert found.failed == ((REFERENCES[2], 0x0119),)
