"""The connection's buffer, its deadlines, TLS, and memory that does not grow with the object."""

import resource
import socket
import ssl
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from network.dimse import guards
from network.dimse.command import CommandError, StoreCommand, command_elements, store_command, store_response
from network.dimse.guards import MonotonicTimer, PduTimeoutError, ViolationLog
from network.dimse.ports import StoreRequest
from network.dimse.wire import BUFFER_BYTES, Interrupted, PeerSocket
from tests.faults.wire_peers import P_DATA, associated, response_status
from tests.network.dimse_fixtures import CollectingSink, FakePort, LocalReceiver, data_pdu, read_pdu
from tests.network.dimse_fixtures import store_command as raw_store_command


class _Dul:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.event_queue = SimpleNamespace(put=self.events.append)
        self.wants_to_write = False


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    dul = _Dul()
    wire = PeerSocket(SimpleNamespace(dul=dul), ours, send_seconds=0.2)  # type: ignore[arg-type]
    dul.events.clear()
    yield wire, theirs, dul
    wire.release()
    ours.close()
    theirs.close()


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def test_bytes_are_looked_at_and_stay_until_taken(pair: Any):
    wire, theirs, _dul = pair
    theirs.sendall(b"\x04\0\0\0\0\x07abcdefg")
    wire.need(13, soon())
    assert wire.header() == (4, 7)
    assert bytes(wire.peek(6, 3)) == b"abc"
    assert bytes(wire.take(9)) == b"\x04\0\0\0\0\x07abc"
    assert wire.buffered == 4
    assert wire.read(4, soon()) == b"defg"


def test_what_straddles_the_end_of_the_buffer_comes_whole(pair: Any):
    wire, theirs, _dul = pair
    sent = bytes(range(256)) * (BUFFER_BYTES // 64)
    sender = threading.Thread(target=theirs.sendall, args=(sent,))
    sender.start()
    received = bytearray()
    while len(received) < len(sent):
        wire.need(min(1000, len(sent) - len(received)), soon())
        received += wire.take(777)
    sender.join()
    assert received == sent


def test_deadline_waker_and_end(pair: Any):
    wire, theirs, dul = pair
    with pytest.raises(PduTimeoutError):
        wire.need(1, soon(0.01))
    dul.wants_to_write = True
    wire.waker.wake()
    with pytest.raises(Interrupted):
        wire.need(1, soon())
    dul.wants_to_write = False
    wire.waker.wake()
    assert not wire.wait(20)
    theirs.close()
    with pytest.raises(ConnectionError):
        wire.need(1, soon())


def test_peer_that_never_reads_counts_as_gone(pair: Any):
    wire, _theirs, dul = pair
    wire.send(bytes(10 << 20))
    assert wire.send_timed_out
    assert dul.events == ["Evt17"]


def test_waker_may_be_used_when_all_is_over(pair: Any):
    wire, _theirs, _dul = pair
    wire.release()
    wire.waker.wake()
    wire.waker.clear()
    wire.release()


def test_tls_bytes_that_are_decrypted_already_are_seen(tmp_path: Path):
    """After a short read the rest of a record lies in the TLS library, where no poll finds it."""
    server, client = _contexts(tmp_path)
    ours, theirs = socket.socketpair()
    handshaken: list[ssl.SSLSocket] = []
    shaking = threading.Thread(target=lambda: handshaken.append(client.wrap_socket(theirs, server_hostname="x")))
    shaking.start()
    secured = server.wrap_socket(ours, server_side=True)
    shaking.join()
    wire = PeerSocket(SimpleNamespace(dul=_Dul()), secured, send_seconds=5.0)  # type: ignore[arg-type]
    (peer,) = handshaken
    sent = bytes(range(256)) * 2000
    sender = threading.Thread(target=peer.sendall, args=(sent,))
    sender.start()
    assert wire.read(len(sent), soon()) == sent
    sender.join()
    peer.sendall(b"x" * 16_000)
    wire.need(1, soon())
    assert wire.ready
    assert wire.read(16_000, soon()) == b"x" * 16_000
    wire.send(b"answer")
    assert peer.recv(6) == b"answer"
    with pytest.raises(PduTimeoutError):
        wire.need(1, soon(0.01))
    peer.close()
    secured.close()
    wire.release()


def _contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "x.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private) + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "x.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


class CountingSink(CollectingSink):
    """Keeps nothing but a count."""

    size = 0

    def write(self, data: memoryview) -> None:
        self.size += len(data)


class CountingPort(FakePort):
    def begin(self, request: StoreRequest) -> CollectingSink:
        self.sinks.append(CountingSink(request, self._keep))
        return self.sinks[-1]


@pytest.mark.parametrize(
    "size_bytes", [300 << 20, pytest.param((2 << 30) + 1, marks=pytest.mark.soak)], ids=["300-mb", "f34-2-gb-and-1"]
)
def test_f34_memory_does_not_grow_with_the_object(size_bytes: int):
    port = CountingPort()
    whole, rest = divmod(size_bytes, 131_000)
    pdu = data_pdu(0, bytes(131_000))
    with LocalReceiver(port, max_pdu_bytes=131_072) as local, associated(local) as connection:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        connection.sendall(data_pdu(3, raw_store_command()))
        for _ in range(whole):
            connection.sendall(pdu)
        connection.sendall(data_pdu(2, bytes(rest)))
        kind, body = read_pdu(connection)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (kind, response_status(body)) == (P_DATA, (1, 0))
    assert port.sinks[0].size == size_bytes  # type: ignore[attr-defined]
    assert grown_kib < 16 * 1024


# Commands


def test_command_is_read_as_it_was_written():
    assert store_command(raw_store_command(message_id=77)) == StoreCommand(77, "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4")


def test_every_cut_of_a_command_is_none():
    encoded = raw_store_command()
    whole = {end for end in range(len(encoded)) if store_command(encoded[:end]) is not None}
    assert whole == set()
    with pytest.raises(CommandError):
        command_elements(encoded[:-1])


@pytest.mark.parametrize("limit", [0, 16384, 7, 64])
def test_response_fits_into_the_peers_pdus(limit: int):
    answer = store_response(
        StoreCommand(5, "1.2.3", "1.2.3.4"), context_id=3, status=0xA700, comment="x" * 99, max_pdu_bytes=limit
    )
    encoded, at, controls = b"", 0, []
    while at < len(answer):
        kind, length, item_bytes, context_id, control = struct.unpack_from(">BxLLBB", answer, at)
        assert (kind, length, context_id) == (4, item_bytes + 4, 3)
        assert not limit or length <= limit
        encoded += answer[at + 12 : at + 6 + length]
        controls.append(control)
        at += 6 + length
    assert controls == [1] * (len(controls) - 1) + [3]
    elements = command_elements(encoded)
    assert elements[0x0900] == b"\0\xa7"
    assert elements[0x0902] == b"x" * 64
    assert elements[0] == struct.pack("<L", len(encoded) - 12)
    assert elements[0x1000] == b"1.2.3.4\0"


# Clocks and counts


def test_s09_timer_does_not_follow_the_wall_clock(monkeypatch: pytest.MonkeyPatch):
    timer = MonotonicTimer(60)
    timer.start()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert not timer.expired
    assert 59 < timer.remaining <= 60
    timer.timeout = 0.0
    time.sleep(0.001)
    assert timer.expired
    timer.timeout = None
    assert not timer.expired


def test_violations_make_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture):
    now = [0.0]
    log = ViolationLog(monotonic=lambda: now[0])
    for _ in range(1000):
        log.add("pdu-unknown", address="10.0.0.9")
    assert len(caplog.records) == 1
    now[0] = 11.0
    log.flush()
    log.flush()
    assert [record.__dict__["counts"] for record in caplog.records] == [{"pdu-unknown": 1}, {"pdu-unknown": 999}]
    assert guards.VIOLATIONS is not log
