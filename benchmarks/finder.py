"""A client for queries that costs next to nothing and is the same for both sides: no pynetdicom, nothing of ours."""

import socket
import struct
from collections.abc import Mapping

from benchmarks.peers import BenchmarkError
from benchmarks.scu import (
    COMMAND,
    DATA_SET,
    MAX_PDU_BYTES,
    NO_DATA_SET,
    P_DATA,
    PDV,
    STORE_CONTEXT,
    Sender,
    command_pdu,
    element,
    pdus,
    status_of,
    uid_bytes,
)

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
FIND_RQ, CANCEL_RQ = 0x0020, 0x0FFF
PENDING = (0xFF00, 0xFF01)


class Finder(Sender):
    """One association for Study Root queries in explicit little endian. Raises BenchmarkError as a Sender does."""

    def __init__(self, port: int, *, called: str, calling: str = "BENCH") -> None:
        super().__init__(port, called=called, calling=calling, sop_class=STUDY_ROOT_FIND)

    def find(self, identifier: bytes) -> int:
        """How many answers came before the final response, which must be Success."""
        self._message_id = self._message_id % 0xFFFF + 1
        self.send(request(self._message_id, identifier))
        statuses = self.statuses()
        if statuses[-1]:
            raise BenchmarkError(f"The query was answered with status {statuses[-1]:04X}.")
        return len(statuses) - 1

    def send(self, encoded: bytes) -> None:
        """Any bytes at all."""
        self._socket.sendall(encoded)

    def statuses(self) -> list[int]:
        """Those of the responses up to the final one."""
        found: list[int] = []
        while not found or found[-1] in PENDING:
            status = self.response()
            if status is not None:
                found.append(status)
        return found

    def reset(self) -> None:
        """Close in the way of a program that was killed: what is unread is thrown away."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def response(self) -> int | None:
        """The status in the next PDU, which may hold a data set alone, or both."""
        kind, body = self._read()
        if kind != P_DATA:
            raise BenchmarkError(f"The query was answered with a PDU of type {kind}.")
        found, at = None, 0
        while at < len(body):
            length, _context, control = PDV.unpack_from(body, at)
            if control & COMMAND:
                found = status_of(body[at + PDV.size : at + 4 + length])
            at += 4 + length
        return found


def request(message_id: int, identifier: bytes, *, sop_class: str = STUDY_ROOT_FIND) -> bytes:
    """A C-FIND-RQ: the PDU of its command, and that of its identifier."""
    numbers = [(0x0100, FIND_RQ), (0x0110, message_id), (0x0700, 0), (0x0800, DATA_SET)]
    elements = [element(number, struct.pack("<H", value)) for number, value in numbers]
    return command_pdu(STORE_CONTEXT, [element(0x0002, uid_bytes(sop_class)), *elements]) + b"".join(
        pdus([identifier], MAX_PDU_BYTES)
    )


def cancel(message_id: int) -> bytes:
    """A C-CANCEL-RQ."""
    numbers = [(0x0100, CANCEL_RQ), (0x0120, message_id), (0x0800, NO_DATA_SET)]
    return command_pdu(STORE_CONTEXT, [element(number, struct.pack("<H", value)) for number, value in numbers])


def identifier(keys: Mapping[int, tuple[str, str]]) -> bytes:
    """An identifier in explicit little endian: VR and text of each key by tag."""
    found = []
    for tag, (vr, text) in sorted(keys.items()):
        value = text.encode() + (b"\0" if vr == "UI" else b" ") * (len(text) % 2)
        found.append(struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value)
    return b"".join(found)
