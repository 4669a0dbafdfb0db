"""A tap on the wire: what really went from a sender to the gateway, and what was answered (PS3.8 9.3, PS3.7 9.3.1)."""

import socket
import struct
import threading
from dataclasses import dataclass, field

P_DATA = 0x04
C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001


@dataclass
class Message:
    """One C-STORE as it was on the wire; `status` is None until it is answered."""

    sop_instance_uid: str
    sop_class_uid: str
    dataset: bytes = b""
    status: int | None = None


@dataclass
class _Direction:
    """Puts the PDVs of one direction together again."""

    buffer: bytearray = field(default_factory=bytearray)
    command: bytearray = field(default_factory=bytearray)
    dataset: bytearray = field(default_factory=bytearray)


class Tap:
    """Listens on `port` and passes everything on to the gateway, unchanged, noting each C-STORE in `messages`."""

    def __init__(self, target_port: int) -> None:
        self.messages: list[Message] = []
        self._target = target_port
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Waits until everything passed on has been noted."""
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        for sock in self._sockets:
            sock.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            under_way: list[Message] = []
            for source, sink, seen in ((client, server, self._asked), (server, client, self._answered)):
                thread = threading.Thread(target=self._pass, args=(source, sink, seen, under_way), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, source, sink, seen, under_way) -> None:
        state = _Direction()
        try:
            while data := source.recv(1 << 18):
                state.buffer += data
                self._pdus(state, seen, under_way)  # noted before it is passed on, so an answer never comes first
                sink.sendall(data)
        except OSError:
            return
        finally:
            for sock in (source, sink):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def _pdus(self, state: _Direction, seen, under_way: list[Message]) -> None:
        while len(state.buffer) >= 6:
            kind, length = struct.unpack_from(">BxI", state.buffer)
            if len(state.buffer) < 6 + length:
                return
            body = bytes(state.buffer[6 : 6 + length])
            del state.buffer[: 6 + length]
            if kind == P_DATA:
                self._pdvs(state, body, seen, under_way)

    def _pdvs(self, state: _Direction, body: bytes, seen, under_way: list[Message]) -> None:
        offset = 0
        while offset < len(body):
            length, _context, control = struct.unpack_from(">IBB", body, offset)
            part = body[offset + 6 : offset + 4 + length]
            offset += 4 + length
            (state.command if control & 1 else state.dataset).extend(part)
            if control & 2:
                seen(state, bool(control & 1), under_way)

    def _asked(self, state: _Direction, is_command: bool, under_way: list[Message]) -> None:
        if is_command:
            elements = command_elements(bytes(state.command))
            state.command.clear()
            if struct.unpack("<H", elements[0x0100])[0] == C_STORE_RQ:
                message = Message(_text(elements[0x1000]), _text(elements[0x0002]))
                under_way.append(message)
                self.messages.append(message)
        else:
            under_way[-1].dataset = bytes(state.dataset)
            state.dataset.clear()

    def _answered(self, state: _Direction, is_command: bool, under_way: list[Message]) -> None:
        if is_command:
            elements = command_elements(bytes(state.command))
            state.command.clear()
            if struct.unpack("<H", elements[0x0100])[0] == C_STORE_RSP:
                under_way[-1].status = struct.unpack("<H", elements[0x0900])[0]


def command_elements(data: bytes) -> dict[int, bytes]:
    """A command set by element number: implicit little endian, flat (PS3.7 6.3.1)."""
    found, offset = {}, 0
    while offset + 8 <= len(data):
        _group, element, length = struct.unpack_from("<HHI", data, offset)
        found[element] = data[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii")
