"""C-MOVE and C-GET of the receiver, with a port of the tests': counters, cancelling, deaths on either side."""

import io
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import pytest

from network.dimse import receiver as receiver_module
from network.dimse import scu, statuses
from network.dimse.command import command_elements, command_short
from network.dimse.fast_store import ServicePorts
from network.dimse.ports import StoreResult
from network.dimse.query.errors import QueryError
from network.dimse.retrieve.counters import SubOperations
from network.dimse.retrieve.ports import RetrievePlan, RetrieveRequest
from network.dimse.rights import Rights
from network.dimse.scu.association import ClientAssociation
from network.dimse.scu.messages import C_STORE_RQ, PRIORITY, Message, command_encode
from network.dimse.scu.negotiation import Context
from network.dimse.scu.pool import PeerAddress
from network.dimse.scu.query import cancel_send
from network.dimse.scu.retrieve import Progress, get, move
from network.dimse.scu.store import MoveOriginator, store_command
from tests.network.dimse_fixtures import FakePort, LocalReceiver, wait_until
from tests.network.scu_peers import CT, EXPLICIT, GET, IMPLICIT, MOVE, ScriptedPeer, accept
from tests.network.test_scu_services import Kept, decoded

PROPOSALS = [
    scu.Proposal(MOVE, (EXPLICIT,)),
    scu.Proposal(GET, (IMPLICIT,)),
    scu.Proposal(CT, (EXPLICIT,), as_scp=True),
]
BIG = "1.2.840.10008.1.2.2"


@dataclass(frozen=True)
class Item:
    """An object of the tests': other encodings have another content, so that it is seen which one was sent."""

    number: int
    size: int = 1000
    transfer_syntax_uid: str = EXPLICIT
    alternatives: Sequence[str] = ()
    sop_class_uid: str = CT
    missing: bool = False

    @property
    def sop_instance_uid(self) -> str:
        return f"1.2.3.{self.number}"

    @property
    def dataset_bytes(self) -> int:
        return self.size

    def content(self) -> bytes:
        return bytes([len(self.transfer_syntax_uid)]) * self.size

    def open_dataset(self) -> BinaryIO:
        if self.missing:
            raise OSError("gone")
        return io.BytesIO(self.content())

    def recoded(self, transfer_syntax_uid: str) -> "Item":
        return replace(self, transfer_syntax_uid=transfer_syntax_uid, alternatives=())


@dataclass
class House:
    """A RetrievePort that gives what it is told to."""

    items: Sequence[Item] = ()
    missing: Sequence[str] = ()
    address: PeerAddress | None = None
    refusal: QueryError | None = None
    asked: list[tuple[RetrieveRequest, bytes]] = field(default_factory=list)
    ends: list[tuple[str, SubOperations]] = field(default_factory=list)

    def plan(self, request: RetrieveRequest, identifier: bytes) -> RetrievePlan:
        self.asked.append((request, identifier))
        if self.refusal is not None:
            raise self.refusal
        timeouts = scu.Timeouts(connect_seconds=5, acse_seconds=5, dimse_seconds=1, network_seconds=1)
        return RetrievePlan(self.items, self.missing, self.address if request.is_move else None, timeouts)

    def ended(
        self, _request: RetrieveRequest, _plan: RetrievePlan, done: SubOperations, *, code: str, failure: object = None
    ) -> None:
        self.ends.append((code, done))

    def end(self) -> tuple[str, SubOperations]:
        wait_until(lambda: self.ends)
        assert len(self.ends) == 1
        return self.ends[0]


@pytest.fixture(autouse=True)
def may_retrieve(monkeypatch: pytest.MonkeyPatch) -> None:
    rights = Rights(store=True, query=True, retrieve=True)
    monkeypatch.setattr(receiver_module, "ACCEPTED", replace(receiver_module.ACCEPTED, rights=rights))


@pytest.fixture
def house() -> House:
    return House([Item(number) for number in range(5)])


@pytest.fixture
def local(house: House) -> Iterator[LocalReceiver]:
    with LocalReceiver(FakePort(), ports=ServicePorts(retrieve=house), sub_operation_seconds=1.0) as running:
        yield running


@pytest.fixture
def opened(local: LocalReceiver) -> Iterator[scu.ClientAssociation]:
    with scu.association(PROPOSALS, **local.peer) as association:
        yield association


@dataclass
class Archive:
    """Where a C-GET's objects go."""

    statuses: dict[str, int] = field(default_factory=dict)
    kept: dict[str, tuple[str, Kept]] = field(default_factory=dict)

    def begin(self, context: Context, _sop_class: str, uid: str) -> Kept:
        self.kept[uid] = (context.transfer_syntax, Kept(self.statuses.get(uid, 0)))
        return self.kept[uid][1]


def destination(peer: dict[str, Any]) -> PeerAddress:
    return PeerAddress(peer["address"], peer["port"], peer["called_ae_title"], "GATEWAY")


# -- C-GET


def test_get_gives_every_object_and_counts(house: House, opened: scu.ClientAssociation) -> None:
    archive, told = Archive(), []
    final = get(opened, GET, b"\x20\0\x0d\0\2\0\0\x001\0", begin=archive.begin, told=lambda one: not told.append(one))
    assert (final.status, final.completed, final.failed, final.warning) == (0, 5, 0, 0)
    assert {uid: bytes(kept.data) for uid, (_syntax, kept) in archive.kept.items()} == {
        item.sop_instance_uid: item.content() for item in house.items
    }
    for progress in told[:-1]:
        assert progress.status == 0xFF00
        assert progress.remaining + progress.completed + progress.failed + progress.warning == 5
    ((request, identifier),) = house.asked
    assert (request.is_move, identifier) == (False, b"\x20\0\x0d\0\2\0\0\x001\0")
    assert house.end()[0] == ""


def test_association_serves_again_after_a_retrieval(house: House, opened: scu.ClientAssociation) -> None:
    for _time in range(3):
        assert get(opened, GET, b"", begin=Archive().begin).completed == 5
    assert len(house.ends) == 3


def test_nothing_found_is_success_of_nothing(house: House, opened: scu.ClientAssociation) -> None:
    house.items = []
    final = get(opened, GET, b"", begin=Archive().begin)
    assert (final.status, final.completed, final.failed) == (0, 0, 0)


def test_get_lists_what_failed_and_goes_on(house: House, opened: scu.ClientAssociation) -> None:
    house.items = [Item(0), Item(1, missing=True), Item(2), Item(3, sop_class_uid="1.2.840.10008.5.1.4.1.1.4"), Item(4)]
    house.missing = ["9.9"]
    archive = Archive({"1.2.3.2": 0xA700, "1.2.3.4": 0xB007})
    final = get(opened, GET, b"", begin=archive.begin)
    assert (final.status, final.completed, final.failed, final.warning) == (0xB000, 1, 4, 1)
    assert list(decoded(final.failed_identifier).FailedSOPInstanceUIDList) == ["9.9", "1.2.3.1", "1.2.3.2", "1.2.3.3"]


def test_nothing_could_be_sent_is_a_failure(house: House, opened: scu.ClientAssociation) -> None:
    house.items = [Item(0, missing=True), Item(1, missing=True)]
    final = get(opened, GET, b"", begin=Archive().begin)
    assert (final.status, final.failed) == (statuses.UNABLE_TO_PERFORM, 2)


def test_refusal_of_the_port_is_the_final_status(house: House, opened: scu.ClientAssociation) -> None:
    house.refusal = QueryError("this AE may not retrieve", code="retrieve-forbidden", status=statuses.NOT_AUTHORIZED)
    final = get(opened, GET, b"", begin=Archive().begin)
    assert (final.status, final.comment) == (statuses.NOT_AUTHORIZED, "this AE may not retrieve")
    assert house.ends == []


def test_other_encoding_is_sent_where_the_stored_one_is_not_taken(house: House, opened: scu.ClientAssociation) -> None:
    house.items = [
        Item(0, transfer_syntax_uid=BIG, alternatives=(IMPLICIT, EXPLICIT)),
        Item(1, transfer_syntax_uid=BIG),
    ]
    archive = Archive()
    final = get(opened, GET, b"", begin=archive.begin)
    assert (final.completed, final.failed) == (1, 1)
    assert archive.kept["1.2.3.0"][0] == EXPLICIT
    assert bytes(archive.kept["1.2.3.0"][1].data) == bytes([len(EXPLICIT)]) * 1000


@pytest.mark.parametrize("size", [1, 2, 11, 16_372, 3_000_001])
def test_any_size_arrives_whole(house: House, opened: scu.ClientAssociation, size: int) -> None:
    house.items = [Item(0, size=size), Item(1, size=size)]
    archive = Archive()
    assert get(opened, GET, b"", begin=archive.begin).completed == 2
    assert all(len(kept.data) == size for _syntax, kept in archive.kept.values())


def test_cancelled_get_tells_what_remains(house: House, opened: scu.ClientAssociation) -> None:
    house.items = [Item(number, size=200_000) for number in range(400)]
    final = get(opened, GET, b"", begin=Archive().begin, told=lambda _progress: False)
    assert final.status == statuses.CANCEL
    assert final.remaining
    assert final.remaining + (final.completed or 0) == 400
    assert house.end()[0] == "cancelled"


@pytest.mark.parametrize("sop_class", [GET, MOVE])
@pytest.mark.parametrize("cancels", [False, True])
def test_d09_cancel_of_another_message_is_passed_over(
    house: House, opened: scu.ClientAssociation, sop_class: str, cancels: bool
) -> None:
    """A C-CANCEL that comes too late for its own message, while this one is under way; then perhaps the right one."""
    house.items = [Item(number, size=200_000) for number in range(400)]
    context = opened.context(sop_class)
    assert context is not None

    def told(_progress: Progress) -> bool:
        cancel_send(opened, context, opened.last_message_id + 1)
        return not cancels

    with LocalReceiver(FakePort()) as there:
        house.address = destination(there.peer)
        if sop_class == GET:
            final = get(opened, GET, b"", begin=Archive().begin, told=told)
        else:
            final = move(opened, MOVE, b"", destination="PACS", told=told)
    assert final.status == (statuses.CANCEL if cancels else statuses.SUCCESS)
    assert (final.completed == 400) is not cancels


def test_peer_that_goes_in_the_middle_of_a_get_costs_only_itself(house: House, local: LocalReceiver) -> None:
    house.items = [Item(number, size=100_000) for number in range(50)]

    class Dying(Kept):
        def commit(self) -> int:
            raise ConnectionError("the peer dies here")

    with pytest.raises(ConnectionError), scu.association(PROPOSALS, **local.peer) as association:
        get(association, GET, b"", begin=lambda *_what: Dying())
    code, done = house.end()
    assert code == "peer-gone"
    assert done.remaining in (0, 50)
    assert scu.echo(**local.peer) >= 0


def test_peer_that_never_answers_an_object_is_ended(house: House, local: LocalReceiver) -> None:
    """It asks for objects, takes the first one and says nothing more."""
    with scu.association(PROPOSALS, **local.peer) as association:
        context = association.context(GET)
        assert context is not None
        from network.dimse.scu.messages import C_GET_RQ
        from network.dimse.scu.query import request_send

        request_send(association, context, C_GET_RQ, b"")
        assert wait_until(lambda: house.ends)
    assert house.end()[0] == "peer-gone"


def test_without_the_role_nothing_can_be_sent(house: House, local: LocalReceiver) -> None:
    proposals = [scu.Proposal(GET, (IMPLICIT,)), scu.Proposal(CT, (EXPLICIT,))]
    with scu.association(proposals, **local.peer) as association:
        final = get(association, GET, b"", begin=Archive().begin)
    assert (final.status, final.failed) == (statuses.UNABLE_TO_PERFORM, 5)


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_stores_are_as_urgent_as_the_retrieval(
    house: House, opened: scu.ClientAssociation, monkeypatch: pytest.MonkeyPatch, priority: int
) -> None:
    """PS3.4 C.4.2.1.2 and C.4.3.1.2."""
    heard: list[int | None] = []
    received = ClientAssociation.receive

    def listen(self: ClientAssociation, **kwargs: Any) -> Message:
        message = received(self, **kwargs)
        if message.command == C_STORE_RQ:
            heard.append(message.number(PRIORITY))
        return message

    monkeypatch.setattr(ClientAssociation, "receive", listen)
    monkeypatch.setattr(
        "network.dimse.scu.query.command_encode",
        lambda values, **kwargs: command_encode({**values, PRIORITY: priority}, **kwargs),
    )
    assert get(opened, GET, b"", begin=Archive().begin).completed == 5
    assert heard == [priority] * 5
    sent = store_command(1, CT, "1.2.3", MoveOriginator("WS", 7, priority), priority=priority)
    assert command_short(command_elements(sent), PRIORITY) == priority


# -- C-MOVE


def test_move_sends_to_the_destination_and_names_the_originator(house: House, opened: scu.ClientAssociation) -> None:
    port = FakePort()
    with LocalReceiver(port) as there:
        house.address = destination(there.peer)
        told: list[Progress] = []
        final = move(opened, MOVE, b"", destination="PACS", told=lambda one: not told.append(one))
    assert (final.status, final.completed, final.failed) == (0, 5, 0)
    assert [one.sop_instance_uid for one in port.requests] == [item.sop_instance_uid for item in house.items]
    assert (told[0].status, told[0].remaining) == (0xFF00, 5)
    assert house.asked[0][0].destination == "PACS"


def test_destination_that_is_not_there_fails_everything_by_name(house: House, opened: scu.ClientAssociation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        house.address = PeerAddress("127.0.0.1", server.getsockname()[1], "PACS", "GATEWAY")
    final = move(opened, MOVE, b"", destination="PACS")
    assert (final.status, final.failed) == (statuses.UNABLE_TO_PERFORM, 5)
    assert final.comment == "destination: connection-refused"
    assert house.end()[0] == "connection-refused"


@pytest.mark.parametrize("dies_at", range(5))
def test_destination_that_dies_at_any_object(house: House, opened: scu.ClientAssociation, dies_at: int) -> None:
    port = FakePort()
    with LocalReceiver(port) as there:

        def answer(_request: object) -> StoreResult:
            if len(port.requests) > dies_at:
                for association in list(there.receiver._server._associations):
                    association.disconnect()
            return StoreResult(statuses.SUCCESS)

        port.answer = answer
        house.address = destination(there.peer)
        final = move(opened, MOVE, b"", destination="PACS")
    assert (final.completed, final.failed) == (dies_at, 5 - dies_at)
    assert final.status == (0xB000 if dies_at else statuses.UNABLE_TO_PERFORM)
    assert len(decoded(final.failed_identifier)[0x00080058].value or []) == 5 - dies_at or dies_at == 4


def test_destination_that_takes_no_context(house: House, opened: scu.ClientAssociation) -> None:
    with ScriptedPeer(accept([])) as there:
        house.address = destination(there.peer)
        final = move(opened, MOVE, b"", destination="PACS")
    assert (final.status, final.failed) == (statuses.UNABLE_TO_PERFORM, 5)


def test_destination_that_refuses_some(house: House, opened: scu.ClientAssociation) -> None:
    port = FakePort(answer=lambda request: StoreResult(0xA700 if request.sop_instance_uid == "1.2.3.1" else 0xB000))
    with LocalReceiver(port) as there:
        house.address = destination(there.peer)
        final = move(opened, MOVE, b"", destination="PACS")
    assert (final.status, final.completed, final.failed, final.warning) == (0xB000, 0, 1, 4)


def test_move_can_be_cancelled(house: House, opened: scu.ClientAssociation) -> None:
    house.items = [Item(number, size=200_000) for number in range(400)]
    with LocalReceiver(FakePort()) as there:
        house.address = destination(there.peer)
        final = move(opened, MOVE, b"", destination="PACS", told=lambda _progress: False)
    assert final.status == statuses.CANCEL
    assert final.remaining
    assert house.end()[0] == "cancelled"


def test_more_classes_than_one_association_takes(house: House, opened: scu.ClientAssociation) -> None:
    from network.dimse.contexts import storage_sop_classes

    classes = storage_sop_classes()[:130]
    house.items = [Item(number, sop_class_uid=uid) for number, uid in enumerate(classes)]
    port = FakePort()
    with LocalReceiver(port) as there:
        house.address = destination(there.peer)
        final = move(opened, MOVE, b"", destination="PACS")
    assert (final.completed, len(port.opened)) == (130, 2)
