"""One peer's connection: read through one buffer, written whole, every wait bounded by the monotonic clock."""

import contextlib
import mmap
import os
import select
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

from pynetdicom.transport import AssociationSocket

from network.dimse.guards import PduTimeoutError

if TYPE_CHECKING:
    from network.dimse.association import ReceivingAssociation

BUFFER_BYTES: Final = 512 * 1024
_LEAST_ROOM_BYTES: Final = 64 * 1024
_PDU_HEADER: Final = struct.Struct(">BxL")
PDU_HEADER_BYTES: Final = _PDU_HEADER.size
_CONNECTION_CLOSED: Final = "Evt17"


class Interrupted(Exception):  # noqa: N818 - nothing is wrong: someone wants to write
    """A wait for the peer ended because our side has something to say."""


class Waker:
    """Ends another thread's wait on the wire; may be used after that thread has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._descriptor

    def wake(self) -> None:
        """The present wait, or the next one, returns at once."""
        with self._lock:
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        """Forget that it was woken."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._descriptor >= 0:
                os.eventfd_read(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back. May be repeated."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)


class PeerSocket(AssociationSocket):  # type: ignore[misc]
    """pynetdicom's socket over a buffer of ours. One thread at a time reads, and it may look before it takes.

    TCP_NODELAY is for the caller to set; TCP_QUICKACK is armed again after every read, because Linux clears it: a
    sender with Nagle's algorithm waits for our acknowledgement in the middle of each message. The buffer's pages are
    touched only when so much comes at once. TLS sockets work alike: what is decrypted already is asked for first.
    """

    def __init__(self, association: "ReceivingAssociation", connection: socket.socket, *, send_seconds: float) -> None:
        super().__init__(association, client_socket=connection)
        connection.setblocking(False)  # so that no call waits beyond its deadline, TLS records included
        self.waker = Waker()
        self.send_timed_out = False
        self._send_seconds = send_seconds
        self._is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
        self._view = memoryview(mmap.mmap(-1, BUFFER_BYTES))
        self._start = self._end = 0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self.waker, select.POLLIN)

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """How many bytes are here and not taken."""
        return self._end - self._start

    @property
    def ready(self) -> bool:
        """Whether a read would return at once: bytes, or the end of the connection."""
        if self.socket is None:
            return False
        return self.buffered > 0 or self.wait(0.0)

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read, waiting at most so long; False at once when the waker was used."""
        connection = self.socket
        if connection is None:
            return False
        return self.buffered > 0 or self._wait_for_more(connection, seconds)

    def _wait_for_more(self, connection: socket.socket, seconds: float) -> bool:
        """As `wait`, for more than is buffered."""
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        try:
            events = self._poll.poll(seconds * 1000)
        except (OSError, ValueError):
            return True  # closed under us: reading says so
        woken = False
        for descriptor, _event in events:
            if descriptor == self.waker.fileno():
                self.waker.clear()
                woken = True
        return len(events) > woken

    def header(self, at: int = 0) -> tuple[int, int]:
        """Kind and declared length of the PDU that begins there; six bytes must be buffered."""
        kind, length = _PDU_HEADER.unpack_from(self._view, self._start + at)
        return kind, length

    def peek(self, at: int, size: int) -> memoryview:
        """Buffered bytes, which stay; valid until the next read."""
        return self._view[self._start + at : self._start + at + size]

    # -- reading ------------------------------------------------------------------------------------------------------

    def need(self, size: int, deadline: float) -> None:
        """At least `size` bytes are buffered, at most BUFFER_BYTES. Errors as of `fill`."""
        while self._end - self._start < size:
            self.fill(deadline, size)

    def fill(self, deadline: float, size: int = 1) -> None:
        """More bytes are buffered than before, waiting until `deadline` (monotonic).

        Raises PduTimeoutError, ConnectionError or another OSError when nothing can follow, Interrupted when our side
        wants to write.
        """
        self._make_room(size)
        while True:
            connection = self.socket
            if connection is None:
                raise ConnectionResetError
            try:
                count = connection.recv_into(self._view[self._end :])
            except (BlockingIOError, ssl.SSLWantReadError):
                self._await(connection, select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._await(connection, select.POLLOUT, deadline)
            else:
                break
        if not count:
            raise ConnectionResetError
        self._end += count
        if self._is_tcp:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _make_room(self, size: int) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif BUFFER_BYTES - self._end < _LEAST_ROOM_BYTES or self._start + size > BUFFER_BYTES:
            held = self._end - self._start
            self._view[:held] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, held

    def _await(self, connection: socket.socket, event: int, deadline: float) -> None:
        if event == select.POLLOUT:
            _wait_writable(connection, deadline)
            return
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise PduTimeoutError
        if not self._wait_for_more(connection, seconds) and self.assoc.dul.wants_to_write:
            raise Interrupted

    def take(self, size: int) -> memoryview:
        """Up to `size` of the buffered bytes; valid until the next read."""
        start = self._start
        self._start = min(start + size, self._end)
        return self._view[start : self._start]

    def read(self, size: int, deadline: float) -> bytearray:
        """Exactly `size` bytes, which need not fit into the buffer; memory grows with what came, not with `size`."""
        found = bytearray()
        while len(found) < size:
            if not self.buffered:
                self.fill(deadline)
            found += self.take(size - len(found))
        return found

    def recv(self, nr_bytes: int) -> bytearray:
        """pynetdicom's way to read."""
        return self.read(nr_bytes, time.monotonic() + self._send_seconds)

    def discard(self) -> None:
        """What is buffered is forgotten."""
        self._start = self._end = 0

    def release(self) -> None:
        """Give back the memory and the waker's descriptor; nobody reads any more. May be repeated."""
        self.waker.close()
        self._view.release()

    # -- writing ------------------------------------------------------------------------------------------------------

    def send(self, bytestream: bytes) -> None:
        """All of it is handed to the kernel, or the connection counts as closed: a peer that never reads has no claim.

        Never raises.
        """
        connection, deadline = self.socket, time.monotonic() + self._send_seconds
        view = memoryview(bytestream)
        try:
            while view and connection is not None:
                try:
                    view = view[connection.send(view) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    _wait_writable(connection, deadline)
                except ssl.SSLWantReadError:
                    self._poll.poll(100)
                    if time.monotonic() >= deadline:
                        raise PduTimeoutError("send-timeout") from None
        except PduTimeoutError:
            self.send_timed_out = True
            self.event_queue.put(_CONNECTION_CLOSED)
        except (OSError, ValueError):
            self.event_queue.put(_CONNECTION_CLOSED)


def _wait_writable(connection: socket.socket, deadline: float) -> None:
    seconds = deadline - time.monotonic()
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    if seconds <= 0 or not poll.poll(seconds * 1000):
        raise PduTimeoutError("send-timeout")
