"""What a hostile or broken peer may say to our requestor: a name for each, bounded memory, nothing begun is kept."""

import tracemalloc
from collections.abc import Callable

import pytest

from network.dimse import scu
from network.dimse.scu.messages import COMMAND_FIELD, MESSAGE_ID, RESPONDED_TO, STATUS
from network.dimse.scu.negotiation import associate_accept
from network.dimse.scu.query import find
from network.dimse.scu.retrieve import get, move
from tests.network.scu_peers import CT, EXPLICIT, FIND, GET, IMPLICIT, MOVE, ScriptedPeer, accept, pdu, pdv, response
from tests.network.test_scu_services import Kept

PROPOSALS = [
    scu.Proposal(FIND, (IMPLICIT,)),
    scu.Proposal(MOVE, (IMPLICIT,)),
    scu.Proposal(GET, (IMPLICIT,)),
    scu.Proposal(CT, (EXPLICIT,), as_scp=True),
]
CONTEXTS = [(1, IMPLICIT), (3, IMPLICIT), (5, IMPLICIT), (7, EXPLICIT)]
ROLE = b"\x54\0\0\x1d" + b"\0\x19" + CT.encode() + b"\0\1"
ACCEPT = accept(CONTEXTS, user=ROLE)
SHORT = scu.Timeouts(connect_seconds=5, acse_seconds=5, dimse_seconds=0.4, network_seconds=0.4)
PENDING = {COMMAND_FIELD: 0x8020, RESPONDED_TO: 1, STATUS: 0xFF00}
FINAL = {COMMAND_FIELD: 0x8020, RESPONDED_TO: 1, STATUS: 0x0000}
STORE = {0x0002: CT, COMMAND_FIELD: 0x0001, MESSAGE_ID: 1, 0x0700: 0, 0x1000: "1.2.3"}


def ask(peer: ScriptedPeer, *, timeouts: scu.Timeouts = SHORT) -> list[bytes]:
    with scu.association(PROPOSALS, timeouts=timeouts, **peer.peer) as opened:
        return [one.identifier for one in find(opened, FIND, b"")]


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (None, "response-timeout"),
        (b"", "connection-lost"),
        (pdu(0x07, bytes(4)), "association-aborted"),
        (pdu(0x05, bytes(4)), "connection-lost"),
        (b"\x04\0\xff\xff\xff\xff", "response-invalid"),
        (pdu(0x09, bytes(4)), "response-invalid"),
        (pdu(0x02, bytes(68)), "response-invalid"),
        (pdu(0x04, pdv(2, 3, b"x")), "response-invalid"),
        (pdu(0x04, pdv(1, 2, b"x")), "response-invalid"),
        (pdu(0x04, b"\0\0\0\x01"), "response-invalid"),
        (pdu(0x04, b"\xff\xff\xff\xf0\1\3"), "response-invalid"),
        (pdu(0x04, pdv(1, 3, b"no command")), "response-invalid"),
        (pdu(0x04, pdv(1, 1, bytes(60_000))) * 2, "response-invalid"),
        (response(1, FINAL | {RESPONDED_TO: 9}), "response-invalid"),
        (response(1, FINAL | {COMMAND_FIELD: 0x8021}), "response-invalid"),
        (response(1, {COMMAND_FIELD: 0x8020, RESPONDED_TO: 1}), "response-invalid"),
        (response(1, PENDING, b"")[:-6] + pdv(3, 2, b""), "response-invalid"),
        (response(7, STORE, b"data"), "response-invalid"),
        (pdu(0x04, pdv(1, 3, b""))[:-2], "response-timeout"),
    ],
)  # fmt: skip
def test_c28_p05_p06_p08_p10_p11_p12_d01_nonsense_in_answer_to_a_query_has_a_name(says: bytes | None, code: str):
    with ScriptedPeer(ACCEPT, says) as peer, pytest.raises(scu.AssociationError) as caught:
        ask(peer)
    assert caught.value.code == code


def test_several_messages_in_one_pdu_are_several_messages():
    both = response(1, PENDING, b"\x08\0\x52\0\x06\0\0\0STUDY ") + response(1, FINAL)
    one_pdu = pdu(0x04, both[6 : 6 + int.from_bytes(both[2:6], "big")] + response(1, FINAL)[6:])
    with ScriptedPeer(ACCEPT, one_pdu, pdu(0x06, bytes(4))) as peer:
        assert ask(peer) == [b"\x08\0\x52\0\x06\0\0\0STUDY "]


def test_c28_answers_without_end_are_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("network.dimse.scu.query.ANSWERS_MAX", 50)
    with ScriptedPeer(ACCEPT, response(1, PENDING, b"") * 100) as peer, pytest.raises(scu.AssociationError) as caught:
        ask(peer)
    assert caught.value.code == "response-invalid"


def test_c28_peer_that_ignores_a_cancel_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("network.dimse.scu.query.CANCEL_ANSWERS", 20)
    with (
        ScriptedPeer(ACCEPT, response(1, PENDING, b"") * 100) as peer,
        scu.association(PROPOSALS, timeouts=SHORT, **peer.peer) as opened,
    ):
        assert len(list(find(opened, FIND, b"", limit=1))) == 1
        assert not opened.is_established


def test_c28_d02_identifier_that_never_ends_takes_bounded_memory():
    piece = pdv(1, 0, bytes(60_000))
    says = response(1, PENDING, b"")[:-6]  # the command alone
    says = pdu(0x04, says[6:]) + pdu(0x04, piece) * 60
    tracemalloc.start()
    try:
        with ScriptedPeer(ACCEPT, says) as peer, pytest.raises(scu.AssociationError) as caught:
            ask(peer)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == "response-invalid"
    assert peak < 12 << 20


@pytest.mark.parametrize(
    "answer",
    [
        pdu(0x02, bytes(10)),
        pdu(0x02, bytes(68) + b"\x21\0\xff\xff"),
        pdu(0x02, bytes(68) + b"\x21\0\0\1\1"),
        b"\x02\0\xff\xff\xff\xff",
        pdu(0x04, bytes(10)),
    ],
)
def test_c28_p04_p15_garbled_answer_to_the_association_request(answer: bytes):
    with ScriptedPeer(answer) as peer, pytest.raises(scu.AssociationError) as caught:
        ask(peer)
    assert caught.value.code == "response-invalid"


def test_c28_p14_what_was_not_proposed_is_not_believed():
    """Another transfer syntax, an even id, an id beyond the request, a context twice."""
    said = accept([(1, EXPLICIT), (2, IMPLICIT), (9, IMPLICIT), (3, IMPLICIT), (3, IMPLICIT)])
    accepted = associate_accept(memoryview(said)[6:], PROPOSALS)
    assert [(one.context_id, one.abstract_syntax) for one in accepted.contexts.values()] == [(3, MOVE)]
    assert accepted.as_scp == frozenset()


@pytest.mark.parametrize("maximum", [0, 1, 7, 8, 128, 0xFFFFFFFF])
def test_any_maximum_length_of_the_peer_can_be_served(maximum: int):
    with (
        ScriptedPeer(accept(CONTEXTS, max_pdu_bytes=maximum), response(1, FINAL), pdu(0x06, bytes(4))) as peer,
        scu.association(PROPOSALS, timeouts=SHORT, **peer.peer) as opened,
    ):
        context = opened.context(FIND)
        assert context is not None
        opened.send(context, b"c" * 100, b"d" * 1001)
    assert set(peer.heard) <= {0x01, 0x04, 0x05, 0x07}


def _get(peer: ScriptedPeer, sink: Kept) -> None:
    with scu.association(PROPOSALS, timeouts=SHORT, **peer.peer) as opened:
        get(opened, GET, b"", begin=lambda *_what: sink)


def _move(peer: ScriptedPeer, _sink: Kept) -> None:
    with scu.association(PROPOSALS, timeouts=SHORT, **peer.peer) as opened:
        move(opened, MOVE, b"", destination="X")


HALF_STORE = pdu(0x04, pdv(7, 3, response(7, STORE, b"")[12:-6]) + pdv(7, 0, b"half"))


@pytest.mark.parametrize(
    ("work", "says", "code", "begun"),
    [
        (_get, HALF_STORE, "response-timeout", True),
        (_get, HALF_STORE + pdu(0x07, bytes(4)), "association-aborted", True),
        (_get, response(5, STORE, b"data"), "response-invalid", False),  # on a context that is not for storing
        (_get, response(7, STORE), "response-invalid", False),  # announces no data set
        (_move, response(7, STORE, b"data"), "response-invalid", False),  # nobody asked for objects here
        (_move, response(3, {COMMAND_FIELD: 0x8010, RESPONDED_TO: 1, STATUS: 0}), "response-invalid", False),
    ],
)
def test_c28_d08_store_that_nobody_asked_for_or_that_never_ends(
    work: Callable[[ScriptedPeer, Kept], None], says: bytes, code: str, begun: bool
):
    sink = Kept()
    with ScriptedPeer(ACCEPT, says) as peer, pytest.raises(scu.AssociationError) as caught:
        work(peer, sink)
    assert caught.value.code == code
    assert sink.aborted == begun
    assert not sink.committed


def test_c28_p24_peer_that_never_reads_is_given_up():
    """Its buffers fill; nothing is taken for `network_seconds`."""

    def send_much(peer: ScriptedPeer) -> None:
        with scu.association(PROPOSALS, timeouts=SHORT, **peer.peer) as opened:
            context = opened.context(FIND)
            assert context is not None
            opened.send(context, b"", bytes(64 << 20))

    with ScriptedPeer(ACCEPT, None) as peer, pytest.raises(scu.AssociationError) as caught:
        send_much(peer)
    assert caught.value.code == "response-timeout"
