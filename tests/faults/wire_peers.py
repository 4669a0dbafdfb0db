"""What the wire's fault tests share: attackers on raw sockets, and the honest peer that must be served meanwhile."""

import contextlib
import socket
import struct
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


@contextlib.contextmanager
def attacked(port: FakePort, tmp_path: Path, **config: object) -> Iterator[LocalReceiver]:
    """A receiver with short deadlines; at the end of the block another peer must still be served."""
    limits = {"acse_seconds": 0.4, "dimse_seconds": 0.4, "network_seconds": 20.0} | config
    with LocalReceiver(port, **limits) as local:
        yield local
        served(local, port, tmp_path)


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


def command(*elements: tuple[int, int]) -> bytes:
    """A command set of US elements (number, value), with its group length."""
    body = b"".join(element((0, tag), b"US", struct.pack("<H", value), explicit=False) for tag, value in elements)
    return element((0, 0), b"UL", struct.pack("<L", len(body)), explicit=False) + body


def store_begun() -> bytes:
    """A C-STORE-RQ and the first half of its data set."""
    return data_pdu(3, store_command()) + data_pdu(0, b"half")
