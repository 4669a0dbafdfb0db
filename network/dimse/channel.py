"""Between the acceptor and one receiver: accepted sockets and orders go down, reports come up; a datagram each
(SEQPACKET).
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from network.dimse.access import Verdict
from network.dimse.errors import DimseError
from network.dimse.rights import rights_from_json
from network.dimse.tls import TlsSettings

DATAGRAM_BYTES = 16_384
PROGRESS_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ticket:
    """What goes with a socket: our number for the connection, and who is at the other end.

    `ask`: the acceptor decides about its association. `certificate_sha256` is known only after the TLS handshake.
    """

    connection: int
    address: str
    port: int
    tls: bool = False
    ask: bool = False
    tls_settings: TlsSettings | None = None
    certificate_sha256: str = ""


@dataclass(frozen=True)
class Order:
    """What the acceptor tells a receiver about one connection: its verdict, or to end it."""

    order: Literal["verdict", "end"]
    connection: int
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Report:
    """What a receiver says of itself (`ready`, `stopping`) or of one connection. Counts are totals, not increments.

    `asked` wants a verdict; `over`: the association has ended and its place is free, its connection may linger.
    `outcome` and `reason` come with `closed`: "rejected", "unasked" (no association was asked for), else empty.
    """

    event: Literal["ready", "stopping", "asked", "opened", "progress", "over", "closed"]
    connection: int = 0
    association_id: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    objects_stored: int = 0
    objects_refused: int = 0
    bytes_received: int = 0
    certificate_sha256: str = ""
    outcome: Literal["", "rejected", "unasked"] = ""
    reason: str = ""


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """The acceptor's end and the receiver's end; neither is inherited unless it is named in `pass_fds`."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def channel_open(descriptor: int) -> socket.socket:
    """The receiver's end, from the descriptor on its command line; from here on the process ends with the acceptor.

    The kernel sends SIGTERM when the acceptor dies (PR_SET_PDEATHSIG); should it have died before, the channel is at
    its end and `Receiver.serve` returns at once. Raises DimseError (`channel-invalid`).
    """
    os.set_inheritable(descriptor, False)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    channel = socket.socket(fileno=descriptor)
    if channel.family != socket.AF_UNIX or channel.type != socket.SOCK_SEQPACKET:
        channel.close()
        raise DimseError(
            "The receiver was not started by the acceptor: start it through runlisteners.",
            code="channel-invalid",
            permanent=True,
        )
    return channel


def socket_send(channel: socket.socket, ticket: Ticket, connection: socket.socket) -> bool:
    """Hand a socket down; False when the channel is full or its receiver gone, and then the socket is still ours."""
    try:
        socket.send_fds(channel, [_encoded(ticket)], [connection.fileno()], socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True


def order_send(channel: socket.socket, order: Order) -> bool:
    """Tell the receiver; False when the channel is full or its receiver gone."""
    try:
        channel.send(_encoded(order), socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True


def socket_receive(channel: socket.socket) -> tuple[Ticket, socket.socket | None] | Order | None:
    """The next socket or order, or None when the acceptor has closed the channel. Blocks only while nothing was sent.

    A ticket without a socket means that this process is out of descriptors: the kernel has closed the connection.
    """
    flags = socket.MSG_CMSG_CLOEXEC
    data, descriptors, _flags, _address = socket.recv_fds(channel, DATAGRAM_BYTES, 1, flags)
    if not data:
        return None
    message = json.loads(data)
    if "order" in message:
        verdict = message.pop("verdict")
        if verdict is not None:
            verdict = Verdict(**{**verdict, "rights": rights_from_json(verdict["rights"])})
        return Order(**message, verdict=verdict)
    tls = message.pop("tls_settings")
    connection = socket.socket(fileno=descriptors[0]) if descriptors else None
    return Ticket(**message, tls_settings=None if tls is None else TlsSettings(**tls)), connection


def reports_receive(channel: socket.socket, *, limit: int = 256) -> Iterator[Report]:
    """Up to `limit` waiting reports, without blocking; raises EOFError when the receiver has closed its end."""
    for _ in range(limit):
        try:
            data = channel.recv(DATAGRAM_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionError as exc:
            raise EOFError from exc
        if not data:
            raise EOFError
        yield Report(**json.loads(data))


class Reporter:
    """Sends reports from a thread of its own, so that no association ever waits for the acceptor.

    Progress is sent at most twice a second for each connection, the newest only; all else in order and at once. When
    the acceptor is gone, reports are dropped: the receiver is about to end.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._changed = threading.Condition()
        self._queue: deque[Report] = deque()
        self._progress: dict[int, Callable[[], Report]] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def report(self, report: Report) -> None:
        """Send this as soon as possible; never blocks for the network."""
        with self._changed:
            self._progress.pop(report.connection, None)
            self._queue.append(report)
            self._changed.notify()

    def progress(self, connection: int, report: Callable[[], Report]) -> None:
        """Send soon what `report` then answers; it is called in the reporter's thread. Costs next to nothing."""
        if connection in self._progress:
            return
        with self._changed:
            self._progress[connection] = report
            self._changed.notify()

    def close(self, *, timeout_seconds: float) -> None:
        """Send what is waiting, then end; gives up when the acceptor does not read within the timeout."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the acceptor is gone: nobody is left to tell
            while batch := self._next_batch():
                for report in batch:
                    self._channel.send(_encoded(report))

    def _next_batch(self) -> list[Report]:
        """What to send now; empty only when closing and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._progress or self._closing)
            if not self._queue:
                self._changed.wait_for(lambda: self._queue or self._closing, PROGRESS_SECONDS)
            # first the exchange: what is counted after its report was asked for asks for another
            progress, self._progress = self._progress, {}
            batch = [*(report() for report in progress.values()), *self._queue]
            self._queue.clear()
            return batch


def _encoded(message: Ticket | Order | Report) -> bytes:
    return json.dumps(asdict(message), separators=(",", ":")).encode()
