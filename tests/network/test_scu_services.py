"""C-FIND, C-MOVE and C-GET as the requestor, against pynetdicom's service classes."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from network.dimse import scu
from network.dimse.scu.negotiation import Context
from network.dimse.scu.query import QueryError, find
from network.dimse.scu.retrieve import Progress, get, move
from tests.network.dimse_fixtures import FakePort, LocalReceiver
from tests.network.scu_peers import CT, EXPLICIT, FIND, GET, IMPLICIT, MOVE, archive_running


def identifier(**values: Any) -> bytes:
    """Encoded in implicit little endian."""
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    for keyword, value in values.items():
        setattr(wanted, keyword, value)
    stream = BytesIO()
    wanted.save_as(stream, implicit_vr=True, little_endian=True)
    return stream.getvalue()


def decoded(answer: bytes) -> Dataset:
    return dcmread(BytesIO(answer), force=True)


PROPOSALS = [
    scu.Proposal(FIND, (IMPLICIT,)),
    scu.Proposal(MOVE, (IMPLICIT,)),
    scu.Proposal(GET, (IMPLICIT,)),
    scu.Proposal(CT, (EXPLICIT,), as_scp=True),
]


@dataclass
class Kept:
    """A sink that remembers, and answers with `status`."""

    status: int = 0x0000
    data: bytearray = field(default_factory=bytearray)
    committed: bool = False
    aborted: bool = False

    def write(self, data: memoryview) -> None:
        self.data += data

    def commit(self) -> int:
        self.committed = True
        return self.status

    def abort(self) -> None:
        self.aborted = True


def test_find_gives_every_answer_and_the_association_serves_again():
    with archive_running() as archive, scu.association(PROPOSALS, **archive.peer) as opened:
        for _again in range(2):
            answers = list(find(opened, FIND, identifier(StudyInstanceUID="")))
            uids = [decoded(one.identifier).StudyInstanceUID for one in answers]
            assert uids == ["1.2.0", "1.2.1", "1.2.2"]
            assert all(one.all_keys_supported and one.transfer_syntax_uid == IMPLICIT for one in answers)
    assert archive.associations == 1


def test_find_without_match_is_empty():
    with archive_running(answers=0) as archive, scu.association(PROPOSALS, **archive.peer) as opened:
        assert list(find(opened, FIND, identifier())) == []


def test_failed_find_tells_the_status():
    with archive_running(final_status=0xA700) as archive, scu.association(PROPOSALS, **archive.peer) as opened:
        with pytest.raises(QueryError) as caught:
            list(find(opened, FIND, identifier()))
        assert caught.value.status == 0xA700
        assert caught.value.code == "query-failed"


def test_find_that_is_left_early_is_cancelled_and_the_association_stands():
    with archive_running(answers=100_000) as archive, scu.association(PROPOSALS, **archive.peer) as opened:
        assert len(list(find(opened, FIND, identifier(), limit=2))) == 2
        assert archive.cancelled == [True]
        archive.answers = 1
        assert len(list(find(opened, FIND, identifier()))) == 1
    assert archive.associations == 1


def test_peer_without_query_service_has_a_name():
    with LocalReceiver(FakePort()) as local, scu.association(PROPOSALS, **local.peer) as opened:
        with pytest.raises(scu.AssociationError) as caught:
            list(find(opened, FIND, identifier()))
        assert caught.value.code == "context-rejected"


def test_get_receives_every_instance_with_its_counters():
    sinks: dict[str, Kept] = {}
    told: list[Progress] = []

    def begin(context: Context, sop_class_uid: str, sop_instance_uid: str) -> Kept:
        assert (context.abstract_syntax, context.transfer_syntax, sop_class_uid) == (CT, EXPLICIT, CT)
        return sinks.setdefault(sop_instance_uid, Kept())

    def hear(progress: Progress) -> bool:
        told.append(progress)
        return True

    with archive_running() as archive, scu.association(PROPOSALS, **archive.peer) as opened:
        final = get(opened, GET, identifier(StudyInstanceUID="1.2"), begin=begin, told=hear)
    assert (final.status, final.completed, final.failed, final.warning) == (0x0000, 3, 0, 0)
    assert sorted(sinks) == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert all(one.committed and decoded(bytes(one.data)).PatientID == "P1" for one in sinks.values())
    assert told[-1] is final


def test_get_tells_the_peer_what_was_not_kept():
    def begin(_context: Context, _sop_class: str, sop_instance_uid: str) -> Kept:
        return Kept(status=0xA700 if sop_instance_uid.endswith(".1") else 0x0000)

    with archive_running() as archive, scu.association(PROPOSALS, **archive.peer) as opened:
        final = get(opened, GET, identifier(StudyInstanceUID="1.2"), begin=begin)
    assert (final.status, final.completed, final.failed) == (0xB000, 2, 1)
    assert decoded(final.failed_identifier).FailedSOPInstanceUIDList == "1.2.3.1"


def test_get_can_be_cancelled_between_instances():
    with archive_running(count=500) as archive, scu.association(PROPOSALS, **archive.peer) as opened:
        final = get(
            opened, GET, identifier(), begin=lambda *_what: Kept(), told=lambda progress: bool(progress.completed == 0)
        )
    assert final.status == 0xFE00
    assert archive.cancelled == [True]


def test_sink_that_cannot_go_on_is_aborted_and_so_is_the_association():
    class Full(Kept):
        def write(self, data: memoryview) -> None:
            raise OSError("no space")

    sink = Full()
    with archive_running() as archive, pytest.raises(OSError, match="no space"):  # noqa: SIM117 - the order matters
        with scu.association(PROPOSALS, **archive.peer) as opened:
            get(opened, GET, identifier(), begin=lambda *_what: sink)
    assert sink.aborted
    assert not opened.is_established


def test_move_goes_to_the_destination_and_counts():
    port = FakePort()
    with (
        LocalReceiver(port) as local,
        archive_running(destination=local.address) as archive,
        scu.association(PROPOSALS, **archive.peer) as opened,
    ):
        final = move(opened, MOVE, identifier(StudyInstanceUID="1.2"), destination="GATEWAY")
    assert (final.status, final.completed) == (0x0000, 3)
    assert [one.sop_instance_uid for one in port.requests] == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]


def test_move_to_an_unknown_destination_is_the_peers_answer():
    with archive_running() as archive, scu.association(PROPOSALS, **archive.peer) as opened:
        final = move(opened, MOVE, identifier(), destination="NOBODY")
    assert final.is_final
    assert final.status == 0xA801
