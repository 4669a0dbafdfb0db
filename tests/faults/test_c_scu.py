"""C28 and the side of A1 where we call: a hostile or broken SCP costs us a deadline and bounded memory, no more."""

import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from network.dimse import scu
from network.dimse.scu.messages import COMMAND_FIELD, RESPONDED_TO, STATUS
from network.dimse.scu.pool import AssociationPool, PeerAddress
from network.dimse.scu.retrieve import get
from network.dimse.tls import ClientTlsSettings, client_context_of
from tests.network.certificates import issue
from tests.network.scu_peers import ScriptedPeer, accept, archive_running, pdu, pdv, response
from tests.network.test_scu_hostile import ACCEPT, CT, GET, HALF_STORE, PROPOSALS, SHORT, STORE
from tests.network.test_scu_services import Kept

FAST = scu.Timeouts(connect_seconds=0.5, acse_seconds=0.5, dimse_seconds=0.5, network_seconds=0.5)
ECHO = [scu.VERIFICATION_PROPOSAL]


def opened_code(peer: dict, **values: object) -> str:
    """The code of the failure to associate."""
    with pytest.raises(scu.AssociationError) as caught:
        scu.associate(PROPOSALS, timeouts=FAST, **peer, **values)
    return caught.value.code


@contextmanager
def drips(words: bytes) -> Iterator[dict]:
    """A peer that says one byte, then another, without end."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def run() -> None:
        with suppress(OSError):
            connection, _address = server.accept()
            with connection:
                for at in range(len(words)):
                    if over.wait(0.05):
                        return
                    connection.sendall(words[at : at + 1])
                over.wait(30)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    port = server.getsockname()[1]
    try:
        yield {"address": "127.0.0.1", "port": port, "calling_ae_title": "GATEWAY", "called_ae_title": "SLOW"}
    finally:
        over.set()
        server.close()
        thread.join(10)


def test_p01_peer_that_takes_connections_and_says_nothing() -> None:
    with ScriptedPeer(None) as peer:
        assert opened_code(peer.peer) == "association-timeout"


@pytest.mark.parametrize("words", [b"\x02\0\0", ACCEPT[:40] + bytes(10_000)])
def test_p02_answer_that_comes_byte_by_byte_has_one_deadline(words: bytes) -> None:
    with drips(words) as peer:
        assert opened_code(peer) == "association-timeout"


@pytest.mark.parametrize("kind", [0x02, 0x03, 0x04, 0x07])
def test_p04_four_gigabytes_announced_allocate_nothing(kind: int) -> None:
    tracemalloc.start()
    try:
        with ScriptedPeer(bytes([kind]) + b"\0\xff\xff\xff\xff") as peer:
            assert opened_code(peer.peer) == "response-invalid"
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def answer_code(*says: bytes) -> str:
    """The code of the failure to hear an answer."""
    with ScriptedPeer(ACCEPT, *says) as peer, scu.association(PROPOSALS, timeouts=FAST, **peer.peer) as opened:
        opened.send(opened.contexts(GET)[0], b"x")
        with pytest.raises(scu.AssociationError) as caught:
            opened.receive()
    return caught.value.code


def test_p06_p09_empty_pdvs_end_it() -> None:
    for says in (pdu(0x04, b"\0\0\0\0\1\3"), pdu(0x04, b"\0\0\0\1\1")):
        assert answer_code(says) == "response-invalid"


def test_p09_p_data_without_content_has_a_deadline() -> None:
    assert answer_code(pdu(0x04, b"") * 3) == "response-timeout"


def test_p16_p30_accept_without_application_context_or_with_a_role_nobody_asked_for_grants_nothing() -> None:
    role = b"\x54\0\0\x1d\0\x19" + CT.encode() + b"\1\1"
    with ScriptedPeer(accept([(1, "1.2.840.10008.1.2")], user=role), pdu(0x06, bytes(4))) as peer:
        opened = scu.associate(PROPOSALS[:1], timeouts=FAST, **peer.peer)
        assert opened.accepted.as_scp == frozenset()
        opened.release()


@pytest.mark.parametrize("result", [(1, 1, 7), (2, 3, 2), (9, 9, 9), (0, 0, 0)])
def test_p18_rejection_has_words_whatever_it_says(result: tuple[int, int, int]) -> None:
    with ScriptedPeer(pdu(0x03, bytes([0, *result]))) as peer:
        assert opened_code(peer.peer) == "association-rejected"


def test_p21_peer_that_lets_nobody_finish_holds_up_no_other_peer() -> None:
    pool = AssociationPool(per_peer=1, wait_seconds=0.2)
    with ScriptedPeer(None) as silent, archive_running() as archive:
        held = threading.Thread(target=lambda: suppressing(lambda: pool.run(address(silent.peer), ECHO, scu.echo_on)))
        held.start()
        pool.run(PeerAddress(**archive.peer), ECHO, scu.echo_on, timeouts=FAST)
        silent.__exit__()
        held.join(40)
    assert not held.is_alive()
    pool.close()


def address(peer: dict) -> PeerAddress:
    return PeerAddress(**peer)


def suppressing(work: Callable[[], object]) -> None:
    with suppress(scu.AssociationError):
        work()


def test_p25_tls_peer_that_never_shakes_hands() -> None:
    context = ssl.create_default_context()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = {"address": "127.0.0.1", "port": silent.getsockname()[1], "calling_ae_title": "A",
                "called_ae_title": "B"}  # fmt: skip
        assert opened_code(peer, tls=context) == "tls-handshake-timeout"


def test_p26_peer_that_speaks_only_old_tls_is_refused(tmp_path: Path) -> None:
    authority = issue(tmp_path, "authority")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.load_cert_chain(issue(tmp_path, "localhost", by=authority).pem)
    ours = client_context_of(ClientTlsSettings(ca=str(authority.public), check_name=False))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                connection, _address = server.accept()
                with connection, suppress(OSError):
                    old.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        peer = {"address": "127.0.0.1", "port": server.getsockname()[1], "calling_ae_title": "A",
                "called_ae_title": "B"}  # fmt: skip
        assert opened_code(peer, tls=ours) == "tls-handshake-failed"
        thread.join(10)


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail ESMTP\r\n", bytes(range(256)) * 40])
def test_p28_peer_that_speaks_another_protocol(words: bytes) -> None:
    with ScriptedPeer(words) as peer:
        assert opened_code(peer.peer) in ("response-invalid", "connection-lost", "association-timeout")


@pytest.mark.parametrize("uid", ["../../../tmp/x", "..", "/etc/passwd", "1.2\0.3", "1" * 200])
def test_c28_d06_path_in_a_get_is_a_text_and_nothing_else(uid: str, tmp_path: Path) -> None:
    """What the peer calls its object reaches the sink as a text; it is answered, and no file is made of it."""
    seen: list[str] = []
    final = {COMMAND_FIELD: 0x8010, RESPONDED_TO: 1, STATUS: 0}

    def begin(_context: object, _sop_class: str, instance: str) -> Kept:
        seen.append(instance)
        return Kept(0xC000)

    stored = response(7, STORE | {0x1000: uid}, b"data")
    with (
        ScriptedPeer(ACCEPT, stored + response(5, final)) as peer,
        suppress(scu.AssociationError),
        scu.association(PROPOSALS, timeouts=SHORT, **peer.peer) as opened,
    ):
        get(opened, GET, b"", begin=begin)
    assert [one.strip("\0 ") for one in seen] in ([], [uid])
    assert list(tmp_path.iterdir()) == []


def get_into(peer: dict, sink: Kept) -> None:
    with scu.association(PROPOSALS, timeouts=SHORT, **peer) as opened:
        get(opened, GET, b"", begin=lambda *_what: sink)


def test_c28_p22_release_or_abort_in_mid_object_keeps_nothing() -> None:
    for end in (pdu(0x05, bytes(4)), pdu(0x07, bytes(4)), b"\x04\0\0\0\0\x08" + pdv(7, 0, b"")[:4]):
        sink = Kept()
        with ScriptedPeer(ACCEPT, HALF_STORE + end) as peer, pytest.raises(scu.AssociationError):
            get_into(peer.peer, sink)
        assert sink.aborted
        assert not sink.committed
