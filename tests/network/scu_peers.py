"""Peers that our requestor calls: pynetdicom's service classes, and sockets that say what a script tells them."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from network.dimse.scu.messages import command_encode

FIND = str(StudyRootQueryRetrieveInformationModelFind)
MOVE = str(StudyRootQueryRetrieveInformationModelMove)
GET = str(StudyRootQueryRetrieveInformationModelGet)
CT = str(CTImageStorage)
IMPLICIT, EXPLICIT = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)


def instance(number: int) -> Dataset:
    """One that pynetdicom can send."""
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = CTImageStorage, f"1.2.3.{number}"
    found.PatientID = "P1"
    found.file_meta = Dataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID, found.file_meta.MediaStorageSOPInstanceUID = CT, found.SOPInstanceUID
    return found


@dataclass
class Archive:
    """pynetdicom as a query/retrieve SCP with a few instances."""

    count: int = 3
    answers: int = 3
    final_status: int = 0x0000
    cancelled: list[bool] = field(default_factory=list)
    destination: tuple[str, int] | None = None
    port: int = 0
    associations: int = 0

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(self.answers):
            if event.is_cancelled:
                self.cancelled.append(True)
                yield 0xFE00, None
                return
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", f"1.2.{number}"
            yield 0xFF00, answer
        if self.final_status:
            yield self.final_status, None

    def get(self, event: Any) -> Iterator[Any]:
        yield self.count
        for number in range(self.count):
            if event.is_cancelled:
                self.cancelled.append(True)
                yield 0xFE00, None
                return
            yield 0xFF00, instance(number)

    def move(self, event: Any) -> Iterator[Any]:
        if self.destination is None:
            yield None, None
            return
        yield self.destination
        yield from self.get(event)

    @property
    def peer(self) -> dict[str, Any]:
        return {"address": "127.0.0.1", "port": self.port, "calling_ae_title": "GATEWAY", "called_ae_title": "ARCHIVE"}


@contextlib.contextmanager
def archive_running(**values: Any) -> Iterator[Archive]:
    archive = Archive(**values)
    entity = AE("ARCHIVE")
    for uid in (FIND, MOVE, GET, Verification):
        entity.add_supported_context(uid, [IMPLICIT, EXPLICIT])
    entity.add_supported_context(CT, [EXPLICIT, IMPLICIT], scu_role=True, scp_role=True)
    entity.add_requested_context(CT, [EXPLICIT, IMPLICIT])

    def established(_event: Any) -> None:
        archive.associations += 1

    handlers = [
        (evt.EVT_C_FIND, archive.find),
        (evt.EVT_C_GET, archive.get),
        (evt.EVT_C_MOVE, archive.move),
        (evt.EVT_ESTABLISHED, established),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        server.shutdown()


# -- hostile ones ------------------------------------------------------------------------------------------------------


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def pdv(context_id: int, control: int, content: bytes) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context_id, control) + content


def response(context_id: int, values: dict[int, int | str], data: bytes | None = None) -> bytes:
    """A response in one PDU."""
    found = pdv(context_id, 3, command_encode(values, data_set=data is not None))
    if data is not None:
        found += pdv(context_id, 2, data)
    return pdu(0x04, found)


def accept(contexts: list[tuple[int, str]], *, max_pdu_bytes: int = 16_384, user: bytes = b"") -> bytes:
    """An A-ASSOCIATE-AC."""

    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(value)) + value

    body = struct.pack(">HH", 1, 0) + b" " * 32 + bytes(32) + item(0x10, b"1.2.840.10008.3.1.1.1")
    for context_id, syntax in contexts:
        body += item(0x21, bytes([context_id, 0, 0, 0]) + item(0x40, syntax.encode()))
    body += item(0x50, item(0x51, struct.pack(">L", max_pdu_bytes)) + user)
    return pdu(0x02, body)


class ScriptedPeer:
    """Takes connections one after the other; to each it says the next of `says` after the next PDU it has read.

    b"" closes at once; None stays silent until the test ends.
    """

    def __init__(self, *says: bytes | None, connections: int = 1) -> None:
        self._says = says
        self._connections = connections
        self._server = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.heard: list[int] = []
        self.peer = {
            "address": "127.0.0.1",
            "port": self._server.getsockname()[1],
            "calling_ae_title": "GATEWAY",
            "called_ae_title": "HOSTILE",
        }

    def _run(self) -> None:
        for _number in range(self._connections):
            try:
                connection, _address = self._server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        for words in self._says:
            header = stream.read(6)
            if len(header) < 6:
                return
            self.heard.append(header[0])
            stream.read(int.from_bytes(header[2:], "big"))
            if words is None:
                self._over.wait(30)
                return
            if not words:
                return
            connection.sendall(words)
        while (more := stream.read(6)) and len(more) == 6:
            self.heard.append(more[0])
            stream.read(int.from_bytes(more[2:], "big"))

    def __enter__(self) -> "ScriptedPeer":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._server.close()
        self._thread.join(20)
