"""What the wire's fault tests share: attackers on raw sockets, and the honest peer that must be served meanwhile."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from network.dimse import scu
from tests.network.dimse_fixtures import (
    FakePort,
    LocalReceiver,
    associate_request,
    data_pdu,
    element,
    pdu,
    raw_connection,
    read_pdu,
    store_command,
    wait_until,
    write_instance,
)

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA, A_RELEASE_RP, A_ABORT = 1, 2, 3, 4, 6, 7
RELEASE_REQUEST = pdu(0x05, bytes(4))
BOTH_PATHS = [True, False]
HONEST = "1.2.3.777"
PIECE_BYTES = 16_000


class Neighbour(threading.Thread):
    """An honest peer: associates, stores, is told Success, releases - again and again, while others attack."""

    def __init__(
        self, local: LocalReceiver, *, dataset: bytes = b"xy", contexts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ) -> None:
        super().__init__(name="neighbour", daemon=True)
        self._local = local
        self._dataset = dataset
        self._contexts = contexts
        self._over = threading.Event()
        self._failure: Exception | None = None
        self.rounds = 0

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._round()
                self.rounds += 1
                self._local.read_reports()  # as an acceptor does, so that they do not pile up
                self._over.wait(0.01)  # leaves the attacker its share of the processor
        except Exception as error:
            self._failure = error

    def _round(self) -> None:
        request = associate_request(calling="NEIGHBOUR", contexts=self._contexts)
        with raw_connection(self._local.address, request) as connection:
            assert read_pdu(connection)[0] == A_ASSOCIATE_AC
            connection.sendall(data_pdu(3, store_command(sop_instance_uid=HONEST)) + data_pdu(2, self._dataset))
            kind, body = read_pdu(connection)
            assert (kind, response_status(body)) == (P_DATA, (1, 0))
            connection.sendall(RELEASE_REQUEST)
            assert read_pdu(connection)[0] == A_RELEASE_RP

    def served_now(self) -> None:
        """Waits for a whole round that begins after this call; fails when the neighbour was not served."""
        wanted = self.rounds + 2
        wait_until(lambda: self._failure or self.rounds >= wanted)
        self.check()

    def check(self) -> None:
        """Raises what went wrong with any of its rounds."""
        if self._failure is not None:
            raise AssertionError("the neighbour was not served") from self._failure

    def stop(self) -> None:
        self._over.set()
        self.join(30)
        assert not self.is_alive()


@contextlib.contextmanager
def neighbour(local: LocalReceiver, **sent: object) -> Iterator[Neighbour]:
    """Another peer that is served throughout the block, or the test fails."""
    other = Neighbour(local, **sent)  # type: ignore[arg-type]
    other.start()
    try:
        yield other
    finally:
        other.stop()
    other.check()
    assert other.rounds > 0


@contextlib.contextmanager
def attacked(port: FakePort, tmp_path: Path, **config: object) -> Iterator[LocalReceiver]:
    """A receiver with short deadlines. Another peer is served throughout the block, and a third one after it."""
    limits = {"acse_seconds": 0.4, "dimse_seconds": 0.4, "network_seconds": 20.0} | config
    with LocalReceiver(port, **limits) as local:
        with neighbour(local):
            yield local
        served(local, port, tmp_path)


def still_open(connection: socket.socket) -> bool:
    """Neither answered nor closed until now."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    return False


def served(local: LocalReceiver, port: FakePort, tmp_path: Path) -> None:
    """Another peer's C-ECHO and C-STORE are answered with success."""
    write_instance(tmp_path / "honest.dcm", sop_instance_uid=HONEST)
    assert scu.echo(**local.peer) >= 0
    assert scu.send_instances([tmp_path / "honest.dcm"], **local.peer).stored == 1
    assert port.requests[-1].sop_instance_uid == HONEST


@contextlib.contextmanager
def associated(local: LocalReceiver, **request: object) -> Iterator[socket.socket]:
    """A raw peer whose association was accepted."""
    with raw_connection(local.address, associate_request(**request)) as connection:
        assert read_pdu(connection)[0] == A_ASSOCIATE_AC
        yield connection


def object_sent(
    connection: socket.socket, dataset: bytes, *, context_id: int = 1, **command: object
) -> tuple[int, int]:
    """Kind of the answer, and its C-STORE status, after this data set has been sent in small PDUs."""
    connection.sendall(data_pdu(3, store_command(**command), context_id=context_id))  # type: ignore[arg-type]
    for at in range(0, max(len(dataset), 1), PIECE_BYTES):
        last = at + PIECE_BYTES >= len(dataset)
        connection.sendall(data_pdu(2 * last, dataset[at : at + PIECE_BYTES], context_id=context_id))
    kind, body = read_pdu(connection)
    return kind, response_status(body)[1] if kind == P_DATA else 0


def abort_reason(connection: socket.socket) -> tuple[int, int]:
    """Source and reason of the A-ABORT that comes next (PS3.8 9.3.8)."""
    kind, body = read_pdu(connection)
    assert kind == A_ABORT
    return body[2], body[3]


def ended(port: FakePort, *, calling: str = "RAW") -> tuple[str, str]:
    """How the attacker's association ended, once it has."""
    found = wait_until(lambda: [s for peer, s in port.closed if peer.calling_ae_title == calling])
    return found[0].outcome, found[0].reason


def attacks_stored(port: FakePort) -> list[str]:
    """What the port was given to keep by anybody but the honest peer."""
    return [request.sop_instance_uid for request in port.requests if request.sop_instance_uid != HONEST]


def response_status(body: bytes) -> tuple[int, int]:
    """Message id and status of a C-STORE-RSP's PDU."""
    values = dict(_elements(body[6:]))
    return values[0x0120], values[0x0900]


def _elements(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(data):
        _group, number, length = struct.unpack_from("<HHL", data, at)
        yield number, int.from_bytes(data[at + 8 : at + 8 + length], "little")
        at += 8 + length


def context_results(accept: bytes) -> dict[int, int]:
    """Result or reason of each presentation context in the body of an A-ASSOCIATE-AC (PS3.8 9.3.3.2)."""
    found, at = {}, 68
    while at < len(accept):
        kind, length = struct.unpack_from(">BxH", accept, at)
        if kind == 0x21:
            found[accept[at + 4]] = accept[at + 6]
        at += 4 + length
    return found


def command(*elements: tuple[int, int]) -> bytes:
    """A command set of US elements (number, value), with its group length."""
    body = b"".join(element((0, tag), b"US", struct.pack("<H", value), explicit=False) for tag, value in elements)
    return element((0, 0), b"UL", struct.pack("<L", len(body)), explicit=False) + body


def store_begun() -> bytes:
    """A C-STORE-RQ and the first half of its data set."""
    return data_pdu(3, store_command()) + data_pdu(0, b"half")
