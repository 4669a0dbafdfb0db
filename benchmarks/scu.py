"""A sender that costs next to nothing: what it writes is encoded beforehand, so that its clock measures the receiver.

    python -m benchmarks.scu PORT CALLED_AE_TITLE FOLDER    one association with every file of the folder

The program associates, prints `ready`, waits for a line, sends, releases and prints a `Sent` as JSON. It uses neither
pynetdicom nor the gateway's own protocol code: it judges both from outside.
"""

import json
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from benchmarks.peers import BenchmarkError

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
IMPLEMENTATION = b"2.25.30187233915441"
MAX_PDU_BYTES = 131_072
ANSWER_SECONDS = 120.0

ASSOCIATE_AC, P_DATA, RELEASE_RQ, RELEASE_RP = 0x02, 0x04, 0x05, 0x06
ECHO_CONTEXT, STORE_CONTEXT = 1, 3
COMMAND, LAST = 0x01, 0x02
ECHO_RQ, STORE_RQ = 0x0030, 0x0001
NO_DATA_SET, DATA_SET = 0x0101, 0x0001
STATUS = 0x0900
HEADER = struct.Struct(">BxL")
PDV = struct.Struct(">LBB")
ELEMENT = struct.Struct("<HHL")


@dataclass(frozen=True)
class DataSet:
    """What one C-STORE carries: its identity and the encoded data set, whole or in pieces that are made as they go."""

    sop_class_uid: str
    sop_instance_uid: str
    pieces: Iterable[bytes]


@dataclass
class Sent:
    """When a sender began and ended, by the clock that all processes share, and what `store_encoded` told of each."""

    began: float = 0.0
    ended: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Sender:
    """One association as the requestor, for CT in explicit little endian (or another class) and for verification.

    Raises BenchmarkError for whatever is not accepted, not answered or not Success.
    """

    def __init__(self, port: int, *, called: str, calling: str = "BENCH", sop_class: str = CTImageStorage) -> None:
        self._message_id = 0
        self._socket = connect(port)
        try:
            self._socket.sendall(associate_request(called, calling, sop_class))
            self.max_pdu_bytes = self._accepted()
        except BaseException:
            self._socket.close()
            raise

    def _accepted(self) -> int:
        """The longest PDU that the receiver takes."""
        kind, body = self._read()
        if kind != ASSOCIATE_AC:
            raise BenchmarkError(f"The association was not accepted (PDU type {kind}, {body[:4].hex()}).")
        results, maximum = {}, 0
        for item, value in items(body[68:]):
            if item == 0x21:
                results[value[0]] = value[2]
            if item == 0x50:
                maximum = next((int.from_bytes(v) for k, v in items(value) if k == 0x51), 0)
        if results != {ECHO_CONTEXT: 0, STORE_CONTEXT: 0}:
            raise BenchmarkError(f"Presentation contexts were not accepted: {results}.")
        return min(maximum or MAX_PDU_BYTES, MAX_PDU_BYTES)

    def encoded(self, sop_class: str, sop_instance: str, content: bytes) -> tuple[bytes, bytes]:
        """A C-STORE's command PDU and its data set PDUs, for this association only; the message ID counts up."""
        self._message_id = self._message_id % 0xFFFF + 1
        command = store_request(self._message_id, sop_class, sop_instance)
        return command, b"".join(pdus([content], self.max_pdu_bytes))

    def store_encoded(self, command: bytes, data: bytes) -> float:
        """Seconds from the first PDV of the data set to the response."""
        self._socket.sendall(command)
        began = time.perf_counter()
        self._socket.sendall(data)
        self._success()
        return time.perf_counter() - began

    def store(self, data_set: DataSet) -> float:
        """The same for a data set that is encoded while it is sent: never whole in memory."""
        self._message_id = self._message_id % 0xFFFF + 1
        self._socket.sendall(store_request(self._message_id, data_set.sop_class_uid, data_set.sop_instance_uid))
        began = time.perf_counter()
        for pdu in pdus(data_set.pieces, self.max_pdu_bytes):
            self._socket.sendall(pdu)
        self._success()
        return time.perf_counter() - began

    def echo(self) -> None:
        self._message_id = self._message_id % 0xFFFF + 1
        elements = [
            element(0x0002, uid_bytes(VERIFICATION)),
            *(element(number, struct.pack("<H", value)) for number, value in self._numbers(ECHO_RQ, NO_DATA_SET)),
        ]
        self._socket.sendall(command_pdu(ECHO_CONTEXT, elements))
        self._success()

    def _numbers(self, command: int, data_set: int) -> list[tuple[int, int]]:
        return [(0x0100, command), (0x0110, self._message_id), (0x0800, data_set)]

    def release(self) -> None:
        """Ends the association in order, and the connection."""
        self._socket.sendall(HEADER.pack(RELEASE_RQ, 4) + bytes(4))
        kind, _body = self._read()
        self._socket.close()
        if kind != RELEASE_RP:
            raise BenchmarkError(f"The release was answered with a PDU of type {kind}.")

    def close(self) -> None:
        self._socket.close()

    def _success(self) -> None:
        kind, body = self._read()
        status = status_of(body[6:]) if kind == P_DATA and len(body) > 6 else None
        if status != 0:
            words = f"status {status:04X}" if status is not None else f"a PDU of type {kind}"
            raise BenchmarkError(f"The receiver answered with {words}.")

    def _read(self) -> tuple[int, bytes]:
        kind, length = HEADER.unpack(self._exactly(HEADER.size))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            try:
                piece = self._socket.recv(count - len(found))
            except TimeoutError:
                raise BenchmarkError(f"The receiver did not answer in {ANSWER_SECONDS:.0f} s.") from None
            if not piece:
                raise BenchmarkError("The receiver closed the connection.")
            found += piece
        return bytes(found)


def connect(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


# PS3.8 9.3: what goes over the wire


def associate_request(called: str, calling: str, sop_class: str) -> bytes:
    contexts = [
        (ECHO_CONTEXT, VERIFICATION, ImplicitVRLittleEndian),
        (STORE_CONTEXT, sop_class, ExplicitVRLittleEndian),
    ]
    user = item(0x51, struct.pack(">L", MAX_PDU_BYTES)) + item(0x52, IMPLEMENTATION) + item(0x55, b"BENCH")
    body = b"".join(
        [
            struct.pack(">HH16s16s32x", 1, 0, called.encode().ljust(16), calling.encode().ljust(16)),
            item(0x10, APPLICATION_CONTEXT),
            *(item(0x20, bytes([number, 0, 0, 0]) + item(0x30, one.encode()) + item(0x40, other.encode()))
              for number, one, other in contexts),
            item(0x50, user),
        ]
    )  # fmt: skip
    return HEADER.pack(0x01, len(body)) + body


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(encoded):
        kind, length = struct.unpack_from(">BxH", encoded, at)
        yield kind, encoded[at + 4 : at + 4 + length]
        at += 4 + length


def store_request(message_id: int, sop_class: str, sop_instance: str) -> bytes:
    numbers = [(0x0100, STORE_RQ), (0x0110, message_id), (0x0700, 0), (0x0800, DATA_SET)]
    return command_pdu(
        STORE_CONTEXT,
        [
            element(0x0002, uid_bytes(sop_class)),
            *(element(number, struct.pack("<H", value)) for number, value in numbers),
            element(0x1000, uid_bytes(sop_instance)),
        ],
    )


def element(number: int, value: bytes) -> bytes:
    return ELEMENT.pack(0, number, len(value)) + value


def uid_bytes(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def command_pdu(context: int, elements: Sequence[bytes]) -> bytes:
    body = b"".join(elements)
    body = element(0x0000, struct.pack("<L", len(body))) + body
    return HEADER.pack(P_DATA, len(body) + PDV.size) + PDV.pack(len(body) + 2, context, COMMAND | LAST) + body


def status_of(command: bytes) -> int | None:
    at = 0
    while at + ELEMENT.size <= len(command):
        _group, number, length = ELEMENT.unpack_from(command, at)
        at += ELEMENT.size
        if number == STATUS:
            return int.from_bytes(command[at : at + length], "little")
        at += length
    return None


def pdus(pieces: Iterable[bytes], max_pdu_bytes: int) -> Iterator[bytes]:
    """The data set as P-DATA-TF PDUs of one PDV each, all but the last as long as the receiver allows."""
    room = max_pdu_bytes - PDV.size
    waiting = bytearray()
    for piece in pieces:
        at = 0
        while at < len(piece):
            if len(waiting) == room:
                yield data_pdu(waiting)
                waiting.clear()
            taken = piece[at : at + room - len(waiting)]
            waiting += taken
            at += len(taken)
    yield data_pdu(waiting, LAST)


def data_pdu(fragment: bytes | bytearray, control: int = 0) -> bytes:
    size = len(fragment)
    return b"".join((HEADER.pack(P_DATA, size + PDV.size), PDV.pack(size + 2, STORE_CONTEXT, control), fragment))


def part10_read(content: bytes) -> DataSet:
    """Identity and data set of a Part 10 file (PS3.10 7.1) with the file meta information that pydicom writes."""
    end = 144 + int.from_bytes(content[140:144], "little")
    found, at = {}, 144
    while at < end:
        number, vr, length = struct.unpack_from("<2xH2sH", content, at)
        at += 8
        if vr == b"OB":
            length = int.from_bytes(content[at : at + 4], "little")
            at += 4
        found[number] = content[at : at + length].rstrip(b"\0").decode("latin-1")
        at += length
    return DataSet(found[0x0002], found[0x0003], [content[end:]])


def main() -> None:
    port, called, folder = sys.argv[1:]
    sender = Sender(int(port), called=called)
    objects = [part10_read(path.read_bytes()) for path in sorted(Path(folder).iterdir())]
    encoded = [sender.encoded(o.sop_class_uid, o.sop_instance_uid, b"".join(o.pieces)) for o in objects]
    print("ready", flush=True)
    sys.stdin.readline()
    sent = Sent(began=time.perf_counter())
    for command, data in encoded:
        sent.latencies.append(sender.store_encoded(command, data))
    sender.release()
    sent.ended = time.perf_counter()
    print(json.dumps(asdict(sent)), flush=True)


if __name__ == "__main__":
    main()
