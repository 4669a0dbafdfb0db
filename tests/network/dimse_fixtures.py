"""What the DIMSE tests share: a receiver in this process, an acceptor with receiver processes, files, raw PDUs."""

import contextlib
import json
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from network.dimse.acceptor import Acceptor
from network.dimse.channel import Report, Ticket, channel_pair, reports_receive, socket_send
from network.dimse.fast_store import NO_SERVICES, ServicePorts
from network.dimse.ports import AssociationSummary, Peer, StoreRequest, StoreResult
from network.dimse.receiver import Receiver, ReceiverConfig

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """The first true value of `condition`; fails loudly when there is none in a time that only a fault needs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("what was waited for did not happen")


@dataclass
class WholeRequest(StoreRequest):
    """A request with all of its data set."""

    dataset: bytes = b""


class CollectingSink:
    """Gathers a data set in memory and gives it to `keep`."""

    def __init__(self, request: StoreRequest, keep: Callable[[WholeRequest], StoreResult]) -> None:
        self.request = request
        self.keep = keep
        self.data = bytearray()
        self.aborted = False

    def write(self, data: memoryview) -> None:
        self.data += data

    def commit(self) -> StoreResult:
        values = {item.name: getattr(self.request, item.name) for item in fields(self.request)}
        return self.keep(WholeRequest(**values, dataset=bytes(self.data)))

    def abort(self) -> None:
        self.aborted = True


@dataclass
class FakePort:
    """Remembers every call with its thread; `answer` decides what a store gives."""

    answer: Callable[[WholeRequest], StoreResult] = lambda _request: StoreResult(0x0000)
    opened: list[Peer] = field(default_factory=list)
    requests: list[WholeRequest] = field(default_factory=list)
    sinks: list[CollectingSink] = field(default_factory=list)
    releasing: list[Peer] = field(default_factory=list)
    closed: list[tuple[Peer, AssociationSummary]] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)

    def association_opened(self, peer: Peer) -> None:
        self.threads.append(threading.current_thread().name)
        self.opened.append(peer)

    def begin(self, request: StoreRequest) -> CollectingSink:
        self.sinks.append(CollectingSink(request, self._keep))
        return self.sinks[-1]

    def _keep(self, request: WholeRequest) -> StoreResult:
        self.threads.append(threading.current_thread().name)
        self.requests.append(request)
        return self.answer(request)

    def association_releasing(self, peer: Peer) -> None:
        self.releasing.append(peer)

    def association_closed(self, peer: Peer, summary: AssociationSummary) -> None:
        self.threads.append(threading.current_thread().name)
        self.closed.append((peer, summary))

    def summary(self) -> AssociationSummary:
        wait_until(lambda: self.closed)
        assert len(self.closed) == 1
        return self.closed[0][1]


class LocalReceiver:
    """A receiver in a thread of this process, with a port of its own in place of the acceptor."""

    def __init__(self, port: FakePort, *, ports: ServicePorts = NO_SERVICES, **config: Any) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        self.channel, theirs = channel_pair()
        self.receiver = Receiver(theirs, ReceiverConfig(**{"ae_title": "GATEWAY"} | config), port, ports)
        self.serving = threading.Thread(target=self.receiver.serve)
        self.passing = threading.Thread(target=self._pass, daemon=True)
        self.reports: list[Report] = []

    @property
    def peer(self) -> dict[str, Any]:
        """The keyword arguments with which `scu` reaches this receiver."""
        host, port = self.address
        return {"address": host, "port": port, "calling_ae_title": "MODALITY", "called_ae_title": "GATEWAY"}

    def __enter__(self) -> "LocalReceiver":
        self.serving.start()
        self.passing.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.receiver.stop(grace_seconds=2.0)
        self.serving.join(10)
        self.listener.close()
        assert not self.serving.is_alive()
        with contextlib.suppress(EOFError):
            self.reports.extend(reports_receive(self.channel))
        self.channel.close()

    def read_reports(self) -> list[Report]:
        self.reports.extend(reports_receive(self.channel))
        return self.reports

    def _pass(self) -> None:
        number = 0
        with contextlib.suppress(OSError):
            while True:
                connection, (host, port) = self.listener.accept()
                number += 1
                with connection:
                    socket_send(self.channel, Ticket(number, host, port), connection)


def receiver_command(directory: Path, options: str, descriptor: int) -> list[str]:
    return [sys.executable, "-m", "tests.network.receiver_program", str(descriptor), str(directory), options]


def read_events(directory: Path, *names: str) -> list[dict[str, Any]]:
    """What the receiver programs of this directory have told, oldest first."""
    path = directory / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for line in lines if (event := json.loads(line))["event"] in names]


class Gateway:
    """An acceptor in a thread of this process, with receiver processes that write into `directory`."""

    def __init__(self, directory: Path, *, options: dict[str, Any] | None = None, **acceptor: Any) -> None:
        self.directory = directory
        ready: queue.Queue[list[tuple[str, int]]] = queue.Queue()
        acceptor = {"endpoints": [("127.0.0.1", 0)], "receiver_command": self.command} | acceptor
        self.options = json.dumps(options or {})
        self.acceptor = Acceptor(acceptor.pop("endpoints"), on_ready=ready.put, **acceptor)
        self.thread = threading.Thread(target=self.acceptor.serve)
        self.ready = ready
        self.endpoints: list[tuple[str, int]] = []

    def command(self, _index: int, descriptor: int) -> list[str]:
        return receiver_command(self.directory, self.options, descriptor)

    @property
    def peer(self) -> dict[str, Any]:
        host, port = self.endpoints[0]
        return {"address": host, "port": port, "calling_ae_title": "MODALITY", "called_ae_title": "GATEWAY"}

    def events(self, *names: str) -> list[dict[str, Any]]:
        return read_events(self.directory, *names)

    def __enter__(self) -> "Gateway":
        self.thread.start()
        self.endpoints = self.ready.get(timeout=30)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.acceptor.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()


def element(tag: tuple[int, int], vr: bytes, value: bytes, *, explicit: bool = True) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    if explicit and vr == b"UT":
        return struct.pack("<HH2sxxL", *tag, vr, len(value)) + value
    if explicit:
        return struct.pack("<HH2sH", *tag, vr, len(value)) + value
    return struct.pack("<HHL", *tag, len(value)) + value


def write_instance(
    path: Path,
    *,
    sop_class_uid: str = CT_IMAGE,
    sop_instance_uid: str = "1.2.3.4",
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    size_bytes: int = 100,
) -> bytes:
    """Write a Part 10 file with the smallest data set that is one; returns the bytes of its data set."""
    meta = b"".join(
        element((2, tag), b"UI", uid.encode())
        for tag, uid in ((2, sop_class_uid), (3, sop_instance_uid), (0x10, transfer_syntax_uid))
    )
    meta = element((2, 0), b"UL", struct.pack("<L", len(meta))) + meta
    explicit = transfer_syntax_uid != ImplicitVRLittleEndian
    dataset = b"".join(
        element(tag, vr, value, explicit=explicit)
        for tag, vr, value in (
            ((8, 0x16), b"UI", sop_class_uid.encode()),
            ((8, 0x18), b"UI", sop_instance_uid.encode()),
            ((0x10, 0x10), b"PN", b"CANARY^PATIENT"),
            ((0x11, 0x1010), b"UT", b"x" * size_bytes),
        )
    )
    path.write_bytes(bytes(128) + b"DICM" + meta + dataset)
    return dataset


# Raw PDUs, for peers that do not keep to the standard (PS3.8 9.3)


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_request(
    *, called: str = "GATEWAY", calling: str = "RAW", contexts: tuple[tuple[str, tuple[str, ...]], ...] = ()
) -> bytes:
    contexts = contexts or ((CT_IMAGE, (ImplicitVRLittleEndian,)),)
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, syntaxes) in enumerate(contexts):
        names = item(0x30, abstract.encode()) + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
        body += item(0x20, struct.pack(">B3x", 2 * number + 1) + names)
    body += item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    return pdu(0x01, body)


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def data_pdu(control: int, fragment: bytes, *, context_id: int = 1) -> bytes:
    return pdu(0x04, struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment)


def store_command(*, sop_class_uid: str = CT_IMAGE, sop_instance_uid: str = "1.2.3.4", message_id: int = 1) -> bytes:
    short = struct.Struct("<H").pack
    elements = b"".join(
        element((0, tag), vr, value, explicit=False)
        for tag, vr, value in (
            (0x0002, b"UI", sop_class_uid.encode()),
            (0x0100, b"US", short(0x0001)),
            (0x0110, b"US", short(message_id)),
            (0x0700, b"US", short(0)),
            (0x0800, b"US", short(0x0001)),
            (0x1000, b"UI", sop_instance_uid.encode()),
        )
    )
    return element((0, 0), b"UL", struct.pack("<L", len(elements)), explicit=False) + elements


@contextlib.contextmanager
def raw_connection(address: tuple[str, int], *sent: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        for data in sent:
            connection.sendall(data)
        yield connection


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """The type and body of the next PDU; type 0 when the peer has closed the connection."""
    stream = connection.makefile("rb")
    head = stream.read(6)
    if len(head) < 6:
        return 0, b""
    kind, _reserved, length = struct.unpack(">BBL", head)
    return kind, stream.read(length)
