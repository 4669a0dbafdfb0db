"""Faults of the association and PDU layer, by number, from raw sockets; each time another peer is served meanwhile."""

import contextlib
import random
import socket
import struct
import time
from pathlib import Path

import pytest

from network.dimse.guards import ProtocolViolationError, associate_request_check
from tests.faults.wire_peers import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_RELEASE_RP,
    BOTH_PATHS,
    HONEST,
    P_DATA,
    RELEASE_REQUEST,
    abort_reason,
    associated,
    attacked,
    attacks_stored,
    ended,
    store_begun,
)
from tests.network.dimse_fixtures import (
    CT_IMAGE,
    FakePort,
    associate_request,
    data_pdu,
    item,
    pdu,
    raw_connection,
    read_pdu,
    store_command,
)

IMPLICIT = b"1.2.840.10008.1.2"
PROVIDER = 2
UNRECOGNIZED, UNEXPECTED, INVALID = 1, 2, 6
APPLICATION_CONTEXT = item(0x10, b"1.2.840.10008.3.1.1.1")
USER = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))


def context_item(number: int, *, abstract: bytes = CT_IMAGE.encode(), syntax: bytes = IMPLICIT) -> bytes:
    return item(0x20, struct.pack(">B3x", number) + item(0x30, abstract) + item(0x40, syntax))


def answer_to(tmp_path: Path, sent: bytes) -> tuple[int, bytes]:
    """The PDU with which a new connection is answered that sends this; another peer is served meanwhile."""
    with attacked(FakePort(), tmp_path) as local, raw_connection(local.address, sent) as connection:
        return read_pdu(connection)


def request_of(*items: bytes) -> bytes:
    return pdu(0x01, struct.pack(">HH16s16s32x", 1, 0, b"GATEWAY".ljust(16), b"RAW".ljust(16)) + b"".join(items))


def test_p01_silence(tmp_path: Path):
    with attacked(FakePort(), tmp_path) as local, raw_connection(local.address) as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize("sent", [b"\x01", b"\x01\0\0", b"\x01\0\0\0\1\0" + bytes(200)])
def test_p02_half_header(tmp_path: Path, sent: bytes):
    """More of them than the associations that may be open: half a header is none yet."""
    port = FakePort()
    with attacked(port, tmp_path, max_associations=3) as local, contextlib.ExitStack() as halves:
        opened = [halves.enter_context(raw_connection(local.address, sent)) for _ in range(4)]
        assert [connection.recv(1) for connection in opened] == [b""] * 4


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize(
    "sent",
    [
        b"\x04\0\0",
        data_pdu(3, store_command())[:40],
        data_pdu(3, store_command()) + data_pdu(0, bytes(500))[:100],
        data_pdu(3, store_command()) + b"\x04\0\0\0",
    ],
)
def test_p02_pdu_that_never_ends_within_an_association(tmp_path: Path, fast: bool, sent: bytes):
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local:
        with associated(local) as connection:
            connection.sendall(sent)
            assert abort_reason(connection) == (PROVIDER, 0)
        assert ended(port) == ("aborted", "pdu-timeout")
    assert attacks_stored(port) == []


def test_p02_drip_does_not_prolong_the_deadline(tmp_path: Path):
    """A byte now and then would reset an idle timer; the deadline is for the whole PDU."""
    with attacked(FakePort(), tmp_path) as local, raw_connection(local.address, b"\x01\0\0\0\1\0") as connection:
        connection.settimeout(0.02)
        began = time.monotonic()
        answer = None
        while answer is None and time.monotonic() - began < 20:
            try:
                connection.sendall(b"\0")
                answer = connection.recv(1)
            except TimeoutError:
                continue
            except OSError:
                answer = b""
        assert answer == b""


def test_p04_request_of_4_gib(tmp_path: Path):
    assert answer_to(tmp_path, b"\x01\0\xff\xff\xff\xff" + bytes(1000))[0] == A_ABORT


def test_p04_request_of_more_than_a_megabyte(tmp_path: Path):
    assert answer_to(tmp_path, struct.pack(">BBL", 1, 0, (1 << 20) + 1))[0] == A_ABORT


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("begun", [b"", store_begun()])
def test_p05_pdu_longer_than_negotiated(tmp_path: Path, fast: bool, begun: bytes):
    port = FakePort()
    with attacked(port, tmp_path, fast=fast, max_pdu_bytes=16384) as local:
        with associated(local) as connection:
            connection.sendall(begun + struct.pack(">BBL", 4, 0, 16384 + 1025))
            assert abort_reason(connection) == (PROVIDER, INVALID)
        assert ended(port) == ("aborted", "pdu-too-long")
    assert attacks_stored(port) == []


def pdv(length: int, *, context_id: int = 1, control: int = 0, data: bytes = b"xy") -> bytes:
    return pdu(0x04, struct.pack(">LBB", length, context_id, control) + data)


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("begun", [b"", store_begun()])
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (pdu(0x04, struct.pack(">L", 0)), "pdv-length"),
        (pdv(0), "pdv-length"),
        (pdv(1), "pdv-length"),
        (pdu(0x04, b"\0\0"), "pdv-length"),
    ],
    ids=["p06-four-bytes", "p06-zero", "p06-one", "p06-no-header"],
)
def test_p06_pdv_of_no_length(tmp_path: Path, fast: bool, begun: bytes, sent: bytes, code: str):
    pdv_refused(tmp_path, fast, begun + sent, code)


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("begun", [b"", store_begun()])
@pytest.mark.parametrize("length", [5, 6000, 0xFFFFFFF0, 0xFFFFFFFF])
def test_p08_pdv_beyond_its_pdu(tmp_path: Path, fast: bool, begun: bytes, length: int):
    pdv_refused(tmp_path, fast, begun + pdv(length), "pdv-length")
    pdv_refused(tmp_path, fast, begun + pdv(length, control=3), "pdv-length")


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("begun", [b"", store_begun()])
def test_p09_empty_p_data(tmp_path: Path, fast: bool, begun: bytes):
    pdv_refused(tmp_path, fast, begun + pdu(0x04, b""), "pdv-missing")


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("begun", [b"", store_begun()])
def test_p10_context_that_was_not_accepted(tmp_path: Path, fast: bool, begun: bytes):
    pdv_refused(tmp_path, fast, begun + data_pdu(0, b"xy", context_id=99), "context-unknown")
    pdv_refused(tmp_path, fast, begun + data_pdu(3, store_command(), context_id=99), "context-unknown")


def pdv_refused(tmp_path: Path, fast: bool, sent: bytes, code: str) -> None:
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local:
        with associated(local) as connection:
            connection.sendall(sent)
            assert abort_reason(connection) == (PROVIDER, INVALID)
        assert ended(port) == ("aborted", code)
    assert attacks_stored(port) == []
    assert all(sink.aborted for sink in port.sinks if sink.request.sop_instance_uid == "1.2.3.4")


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("begun", [b"", store_begun()])
@pytest.mark.parametrize("kind", [0x00, 0x08, 0x09, 0xFF])
def test_p11_unknown_pdu(tmp_path: Path, fast: bool, begun: bytes, kind: int):
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local:
        with associated(local) as connection:
            connection.sendall(begun + pdu(kind, bytes(4)))
            assert abort_reason(connection) == (PROVIDER, UNRECOGNIZED)
        assert ended(port) == ("aborted", "pdu-unknown")
    assert attacks_stored(port) == []


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("begun", [b"", store_begun()])
@pytest.mark.parametrize("sent", [associate_request(), associate_request()[:6].replace(b"\x01", b"\x02", 1)])
def test_p12_second_request_or_accept_on_a_live_association(tmp_path: Path, fast: bool, begun: bytes, sent: bytes):
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local:
        with associated(local) as connection:
            connection.sendall(begun + sent.ljust(6 + int.from_bytes(sent[2:6], "big"), b"\0"))
            source, reason = abort_reason(connection)
            assert source == PROVIDER
            assert reason in (UNEXPECTED, INVALID)
        assert ended(port)[0] == "aborted"
    assert attacks_stored(port) == []


@pytest.mark.parametrize(
    "contexts",
    [
        [context_item(1), context_item(1)],
        [context_item(2)],
        [context_item(number) for number in (*range(1, 256, 2), *range(0, 256, 2))],
        [context_item(1)] * 5000,
    ],
    ids=["duplicate", "even", "256", "5000"],
)
def test_p14_context_ids(tmp_path: Path, contexts: list[bytes]):
    assert answer_to(tmp_path, request_of(APPLICATION_CONTEXT, *contexts, USER))[0] == A_ABORT


def test_p14_all_128_contexts_are_negotiated(tmp_path: Path):
    contexts = [context_item(number) for number in range(1, 256, 2)]
    assert answer_to(tmp_path, request_of(APPLICATION_CONTEXT, *contexts, USER))[0] == A_ASSOCIATE_AC


@pytest.mark.parametrize(
    "broken",
    [
        struct.pack(">BBH", 0x20, 0, 60_000) + bytes(10),
        item(0x20, struct.pack(">B3x", 1) + struct.pack(">BBH", 0x30, 0, 9_999) + b"1.2"),
        item(0x20, struct.pack(">B3x", 1) + item(0x30, b"1" * 60_000) + item(0x40, IMPLICIT)),
        item(0x20, struct.pack(">B3x", 1) + item(0x30, b"1.2") + item(0x40, b"1." * 30_000)),
        item(0x20, struct.pack(">B3x", 1) + item(0x40, IMPLICIT) * 2_000),
        item(0x20, b"\1"),
        item(0x50, struct.pack(">BBH", 0x51, 0, 4)),
        item(0x50, item(0x40, b"") * 10_000),
        b"\x20\0",
        item(0x99, b"1.2.3"),
    ],
)
def test_p15_items_that_lie_about_their_length(tmp_path: Path, broken: bytes):
    assert answer_to(tmp_path, request_of(APPLICATION_CONTEXT, broken, USER))[0] == A_ABORT


def test_p15_every_cut_of_a_request_is_refused_or_whole():
    body = associate_request()[6:]
    associate_request_check(body)
    for end in range(len(body)):
        code = ""
        try:
            associate_request_check(body[:end])
        except ProtocolViolationError as error:
            code = error.code
        assert code in ("", "request-malformed")


@pytest.mark.parametrize("items", [(), (item(0x10, b"1.2.840.10008.3.1.1.2"),)], ids=["none", "another"])
def test_p16_application_context(tmp_path: Path, items: tuple[bytes, ...]):
    port = FakePort()
    with attacked(port, tmp_path) as local:
        with raw_connection(local.address, request_of(*items, context_item(1), USER)) as connection:
            kind, body = read_pdu(connection)
            assert (kind, tuple(body[1:4])) == (A_ASSOCIATE_RJ, (1, 1, 2))
        assert ended(port) == ("rejected", "application-context")


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_p22_release_within_an_object(tmp_path: Path, fast: bool):
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local, associated(local) as connection:
        connection.sendall(store_begun() + RELEASE_REQUEST)
        assert read_pdu(connection)[0] == A_RELEASE_RP
    assert attacks_stored(port) == []
    assert all(sink.aborted for sink in port.sinks if sink.request.sop_instance_uid == "1.2.3.4")


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_p24_peer_that_never_reads(tmp_path: Path, fast: bool):
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local:
        local.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(local.address)
            connection.sendall(associate_request())
            assert read_pdu(connection)[0] == A_ASSOCIATE_AC
            connection.settimeout(20)
            with contextlib.suppress(OSError):  # we are cut off while we still send
                connection.sendall((data_pdu(3, store_command()) + data_pdu(2, b"xy")) * 2_000)
            assert ended(port) == ("lost", "send-timeout")


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500)]
    + [random.Random(seed).randbytes(400) for seed in range(5)],
)
def test_p28_other_protocols(tmp_path: Path, sent: bytes):
    port = FakePort()
    with attacked(port, tmp_path, acse_seconds=5.0) as local, raw_connection(local.address, sent) as connection:
        connection.settimeout(20)
        received = bytearray()
        while piece := connection.recv(4096):
            received += piece
        assert len(received) <= 10
    assert {peer.calling_ae_title for peer, _summary in port.closed} == {"NEIGHBOUR", "MODALITY"}


def test_p29_unlimited_asynchronous_operations_are_answered_with_one(tmp_path: Path):
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3") + item(0x53, bytes(4)))
    kind, body = answer_to(tmp_path, request_of(APPLICATION_CONTEXT, context_item(1), user))
    assert kind == A_ASSOCIATE_AC
    assert item(0x53, b"\0\1\0\1") in body or b"\x53\0\0\4" not in body


@pytest.mark.parametrize(
    "nonsense",
    [
        item(0x54, struct.pack(">H", 3) + b"1.2" + b"\7\7"),
        item(0x54, struct.pack(">H", 60_000) + b"1.2"),
        item(0x56, struct.pack(">H", len(CT_IMAGE)) + CT_IMAGE.encode() + bytes(50_000)),
        item(0x58, struct.pack(">BBH", 1, 1, 60_000) + b"u" * 60_000 + struct.pack(">H", 0)),
        item(0x58, b"\xff\xff"),
        item(0x59, bytes(100)),
        item(0xFF, bytes(100)),
    ],
)
def test_p30_negotiation_nonsense_is_ignored_or_refused(tmp_path: Path, nonsense: bytes):
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3") + nonsense[:65_000])
    assert answer_to(tmp_path, request_of(APPLICATION_CONTEXT, context_item(1), user))[0] in (
        A_ASSOCIATE_AC,
        A_ASSOCIATE_RJ,
        A_ABORT,
    )


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_l05_many_violations_make_few_lines(tmp_path: Path, fast: bool, caplog: pytest.LogCaptureFixture):
    with attacked(FakePort(), tmp_path, fast=fast) as local:
        for _ in range(20):
            with associated(local) as connection:
                connection.sendall(pdv(0xFFFFFFF0, data=b"CANARY^PATIENT"))
                assert read_pdu(connection)[0] == A_ABORT
    lines = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert len(lines) <= 2, [record.getMessage() for record in lines]
    assert not [record for record in caplog.records if record.exc_info]
    assert "CANARY" not in " ".join(str(record.__dict__) for record in caplog.records)


def test_message_of_many_pdvs_in_one_pdu_is_stored(tmp_path: Path):
    """Command and data set in one PDU, and a command in many fragments, are unusual and allowed (PS3.8 annex E)."""
    port = FakePort()
    encoded = store_command()

    def part(control: int, data: bytes) -> bytes:
        return struct.pack(">LBB", len(data) + 2, 1, control) + data

    with attacked(port, tmp_path) as local, associated(local) as connection:
        connection.sendall(pdu(4, part(3, encoded) + part(0, b"abc") + part(0, b"") + part(2, b"def")))
        assert read_pdu(connection)[0] == P_DATA
        connection.sendall(
            b"".join(data_pdu(1, encoded[at : at + 7]) for at in range(0, len(encoded), 7))
            + pdu(4, part(3, b"") + part(2, b"ghi"))
        )
        assert read_pdu(connection)[0] == P_DATA
    assert [one.dataset for one in port.requests if one.sop_instance_uid != HONEST] == [b"abcdef", b"ghi"]
