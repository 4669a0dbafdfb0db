"""One connection that we opened: every wait has a deadline, every PDU a bound, and no thread is needed for either."""

import select
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from typing import Final

from network.dimse.errors import AssociationError, connect_error
from network.dimse.scu.reach import ANYWHERE, Reach, refused_error

RECEIVE_BYTES: Final = 512 * 1024
_SEND_BUFFERS: Final = 512  # of one sendmsg; Linux takes 1024
_TLS_PIECE_BYTES: Final = 256 * 1024
_HEADER: Final = struct.Struct(">BxL")
HEADER_BYTES: Final = _HEADER.size

Buffer = bytes | bytearray | memoryview


class LinkTimeoutError(Exception):
    """The peer took or gave nothing before the deadline."""


class LinkClosedError(Exception):
    """The connection is over: closed or reset by the peer, or by us."""


class Link:
    """TCP_NODELAY is set; TCP_QUICKACK is armed again after each read, because Linux clears it.

    One thread at a time uses it. Raises LinkTimeoutError and LinkClosedError alone.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self.is_tls = isinstance(connection, ssl.SSLSocket)
        self._is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def buffered(self) -> int:
        """How many bytes have come and were not taken."""
        return self._end - self._start

    def readable(self) -> bool:
        """Whether the peer has said something, or closed: of an idle association both mean its end."""
        if self.buffered or (isinstance(self._connection, ssl.SSLSocket) and self._connection.pending()):
            return True
        try:
            return bool(self._poll.poll(0))
        except (OSError, ValueError):
            return True

    # -- reading ------------------------------------------------------------------------------------------------------

    def header(self, deadline: float) -> tuple[int, int]:
        """Kind and declared length of the next PDU, which stays unread but for its header."""
        self._need(HEADER_BYTES, deadline)
        kind, length = _HEADER.unpack_from(self._view, self._start)
        self._start += HEADER_BYTES
        return kind, length

    def body(self, size: int, deadline: float) -> memoryview:
        """The next `size` bytes, at most RECEIVE_BYTES; valid until the next read."""
        self._need(size, deadline)
        self._start += size
        return self._view[self._start - size : self._start]

    def _need(self, size: int, deadline: float) -> None:
        if RECEIVE_BYTES - self._start < size or self._start == self._end:
            held = self.buffered
            self._view[:held] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, held
        while self.buffered < size:
            self._fill(deadline)

    def _fill(self, deadline: float) -> None:
        while True:
            try:
                count = self._connection.recv_into(self._view[self._end :])
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline)
            except (OSError, ValueError) as exc:
                raise LinkClosedError from exc
            else:
                break
        if not count:
            raise LinkClosedError
        self._end += count
        if self._is_tcp:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    # -- writing ------------------------------------------------------------------------------------------------------

    def send(self, buffers: Sequence[Buffer], *, stall_seconds: float) -> None:
        """All of it is handed to the kernel; the peer takes something at least every `stall_seconds`."""
        if self.is_tls:
            self._send_joined(buffers, stall_seconds)
            return
        pending = [memoryview(buffer) for buffer in buffers]
        at = 0
        while at < len(pending):
            try:
                sent = self._connection.sendmsg(pending[at : at + _SEND_BUFFERS])
            except BlockingIOError:
                self._wait(select.POLLOUT, time.monotonic() + stall_seconds)
                continue
            except (OSError, ValueError) as exc:
                raise LinkClosedError from exc
            while at < len(pending) and sent >= len(pending[at]):
                sent -= len(pending[at])
                at += 1
            if sent:
                pending[at] = pending[at][sent:]

    def _send_joined(self, buffers: Sequence[Buffer], stall_seconds: float) -> None:
        """TLS has no sendmsg: records are made of joined buffers."""
        view = memoryview(b"".join(buffers))
        while view:
            try:
                view = view[self._connection.send(view[:_TLS_PIECE_BYTES]) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT, time.monotonic() + stall_seconds)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, time.monotonic() + stall_seconds)
            except (OSError, ValueError) as exc:
                raise LinkClosedError from exc

    def _wait(self, event: int, deadline: float) -> None:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise LinkTimeoutError
        try:
            if event == select.POLLIN:
                ready = self._poll.poll(seconds * 1000)
            else:
                poll = select.poll()
                poll.register(self._connection, event)
                ready = poll.poll(seconds * 1000)
        except (OSError, ValueError) as exc:
            raise LinkClosedError from exc
        if not ready:
            raise LinkTimeoutError

    def close(self) -> None:
        """Give the descriptor back. May be repeated."""
        self._connection.close()


Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]
"""One address of a peer, as the resolver gives it."""


def link_open(
    address: str, port: int, *, seconds: float, tls: ssl.SSLContext | None = None, reach: Reach = ANYWHERE
) -> Link:
    """A connection to the first of the peer's addresses that takes one, TLS included, within `seconds` for all of it.

    With TLS the certificate must name `address`, unless the context says otherwise. Raises AssociationError.
    """
    deadline = time.monotonic() + seconds
    places = link_resolve(address, port, reach=reach)
    return link_secure(link_connect(places, address, port, deadline), address, deadline, tls=tls)


def link_resolve(address: str, port: int, *, reach: Reach = ANYWHERE) -> list[Place]:
    """Where the name leads and may lead; the name is asked for once, and only these are connected to.

    Raises AssociationError (`address-unknown`, `address-refused`).
    """
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:  # UnicodeError: a label that is empty, or longer than DNS allows
        raise AssociationError(
            f"The name {address} is unknown: check the peer's address.", code="address-unknown"
        ) from exc
    places = [one for one in found if reach.allows(str(one[4][0]))]
    if not places:
        raise refused_error()
    return places  # type: ignore[return-value]


def link_connect(places: Sequence[Place], address: str, port: int, deadline: float) -> socket.socket:
    """To the first that takes a connection. Raises AssociationError, in whose words the peer is `address`."""
    failure: OSError | None = None
    for family, kind, protocol, _name, where in places:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            failure = failure or TimeoutError()
            break
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.connect(where)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as exc:
            connection.close()
            failure = exc
        else:
            return connection
    raise connect_error(failure, address=address, port=port)


def link_secure(connection: socket.socket, address: str, deadline: float, *, tls: ssl.SSLContext | None = None) -> Link:
    """The connection as a link, after its TLS handshake if there is one. Raises AssociationError; it is closed then."""
    if tls is None:
        return Link(connection)
    try:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        return Link(tls.wrap_socket(connection, server_hostname=address if tls.check_hostname else None))
    except TimeoutError as exc:
        connection.close()
        raise AssociationError(
            "The peer did not finish its TLS handshake in time: check that it expects TLS on this port.",
            code="tls-handshake-timeout",
        ) from exc
    except ssl.SSLCertVerificationError as exc:
        connection.close()
        raise AssociationError(
            "The peer's certificate is not trusted, or does not name this address: check the CA that is set for it.",
            code="tls-certificate-untrusted",
        ) from exc
    except (OSError, ValueError) as exc:
        connection.close()
        raise AssociationError(
            "The TLS handshake failed: check that the peer expects TLS here, which version, and whether it wants a "
            "certificate of ours.",
            code="tls-handshake-failed",
        ) from exc
