"""gunicorn's gthread, but a request gets a thread only when it is there: no slow or silent peer keeps one from others.

The head of each request, and the body of a form, are gathered by the worker's one event loop, with deadlines and within
bounds. Longer bodies are for programs (STREAMED), which may take their time, but never be silent for SILENCE_SECONDS;
nor may whoever reads an answer. Imports no Django.
"""

import re
import socket
import struct
import time
from dataclasses import dataclass, field
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

FIRST_BYTE_SECONDS = 10.0
HEAD_SECONDS = 15.0
BODY_SECONDS = 30.0
SILENCE_SECONDS = 30
HEAD_BYTES = 64 * 1024
BODY_BYTES = 256 * 1024
STREAMED = (b"/api/", b"/dicom-web/")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,7})[ \t]*\r\n", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:", re.IGNORECASE)


@dataclass
class _Gathering:
    """A request as far as it has come; `wanted` bytes in all, once the head tells."""

    until: float
    data: bytearray = field(default_factory=bytearray)
    wanted: int = 0

    def take(self, block: bytes) -> bool:
        """True when a thread can do the rest without waiting for a slow peer."""
        if not self.data:
            self.until = time.monotonic() + HEAD_SECONDS
        self.data += block
        if not self.wanted:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return len(self.data) > HEAD_BYTES  # too long: the parser refuses it
            self.wanted = end + 4 + _body_bytes(bytes(self.data[: end + 2]))
            self.until = time.monotonic() + BODY_SECONDS
        return len(self.data) >= self.wanted


def _body_bytes(head: bytes) -> int:
    """What to wait for after the head: nothing of what is streamed, or refused by its length, or wants an answer."""
    path = head.split(b" ", 2)[1:2]
    length = _LENGTH.search(head)
    if length is None or _EXPECT.search(head) or (path and path[0].startswith(STREAMED)):
        return 0
    return int(length[1]) if int(length[1]) <= BODY_BYTES else 0


class GuardedWorker(ThreadWorker):  # type: ignore[misc]
    """Connections are in the poller while they are silent or slow, and in a thread while there is something to do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gathering: dict[TConn, _Gathering] = {}
        self._gathered: dict[TConn, bytes] = {}

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        limit = struct.pack("ll", SILENCE_SECONDS, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.nr_conns += 1
        self._gather(TConn(self.cfg, sock, client, listener.getsockname()))

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """The next request on a connection that was kept."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._gather(conn)

    def _gather(self, conn: TConn) -> None:
        self._gathering[conn] = _Gathering(time.monotonic() + FIRST_BYTE_SECONDS)
        self.poller.register(conn.sock, EVENT_READ, partial(self._readable, conn))

    def _readable(self, conn: TConn, client: socket.socket) -> None:
        gathering = self._gathering[conn]
        try:
            block = client.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            self._drop(conn)
        elif gathering.take(block):
            self.poller.unregister(client)
            del self._gathering[conn]
            self._gathered[conn] = bytes(gathering.data)
            conn.data_ready = True
            self.enqueue_req(conn)

    def _drop(self, conn: TConn) -> None:
        del self._gathering[conn]
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def handle(self, conn: TConn) -> Any:
        gathered = self._gathered.pop(conn, b"")
        if gathered:
            conn.sock.setblocking(True)
            conn.init()
            conn.parser.unreader.unread(gathered)
        return super().handle(conn)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """What a form's address was sent in pieces is not read, nor waited for: the connection ends with the answer."""
        kept = super().handle_request(req, conn)
        pieces = any(name == "TRANSFER-ENCODING" for name, _value in req.headers)
        return kept and not (pieces and not req.path.encode("latin-1", "replace").startswith(STREAMED))

    def murder_pending(self) -> None:
        """Ends what is over its time; while the worker stops, all that has not said anything yet."""
        super().murder_pending()
        now = time.monotonic()
        for conn, gathering in list(self._gathering.items()):
            if now > gathering.until or not (self.alive or gathering.data):
                self._drop(conn)
