"""The acceptor: the one process that binds the ports, holds the limits, and passes every socket to a receiver."""

import logging
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from network.dimse.channel import Report, Ticket
from network.dimse.errors import listen_error
from network.dimse.receiver_process import ReceiverProcess

logger = logging.getLogger(__name__)
BACKLOG = 128
STOP_SECONDS = 20.0
PAUSE_SECONDS = 0.2
_REFUSED_LOG_SECONDS = 10.0
_ACCEPTS_A_ROUND = 64

OnReady = Callable[[list[tuple[str, int]]], None]


@dataclass(frozen=True)
class LiveAssociation:
    """One connection that is open now; `association_id` is empty until it is negotiated. Counts lag by a second."""

    connection: int
    receiver: int
    address: str
    port: int
    connected_at: datetime
    association_id: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    objects_stored: int = 0
    objects_refused: int = 0
    bytes_received: int = 0


class Acceptor:
    """Listens on the endpoints and shares connections among receiver processes, which it starts and starts again.

    Never reads from a peer. Connections beyond `max_connections` (in all) or `max_connections_per_address` are closed
    before they cost a thread; 0 means no limit. While no receiver is ready, connections wait in the kernel's backlog.
    A receiver that dies takes its own connections with it and nothing else. All sockets are served by one thread, the
    caller of `serve`; `stop` and `live` may be called from any.
    """

    def __init__(
        self,
        endpoints: Sequence[tuple[str, int]],
        *,
        receiver_command: Callable[[int, int], list[str]],
        receivers: int = 1,
        max_connections: int = 0,
        max_connections_per_address: int = 0,
        on_ready: OnReady | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._endpoints = list(endpoints)
        self._receivers = [ReceiverProcess(index, receiver_command) for index in range(receivers)]
        self._max_connections = max_connections
        self._max_per_address = max_connections_per_address
        self._on_ready = on_ready
        self._stop_seconds = stop_seconds
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._listening = False
        self._waiting: tuple[socket.socket, Ticket] | None = None
        self._pause_until = 0.0
        self._kill_at: float | None = None
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._live: dict[int, LiveAssociation] = {}
        self._next_connection = 1
        self._refused: Counter[str] = Counter()
        self._refused_logged_at = 0.0

    def live(self) -> list[LiveAssociation]:
        """Every open connection, oldest first; a copy. Any thread."""
        with self._lock:
            return list(self._live.values())

    def stop(self) -> None:
        """Make `serve` close the ports, let receivers finish what is under way and return. Never waits; any thread,
        signal handlers too; may be repeated.
        """
        self._stop.set()
        try:
            self._waker.send(b"s")
        except OSError:  # already awake, or already over
            logger.debug("acceptor was already stopping")

    def serve(self) -> None:
        """Bind, start the receivers, accept until `stop`; returns within `stop_seconds` and a moment after it, when
        every receiver has ended.

        `on_ready` is called once, with the addresses bound, when the first receiver is ready. Raises ListenError when
        a port cannot be had, before anything is started. On any other failure the receivers are killed.
        """
        try:
            for host, port in self._endpoints:
                self._listeners.append(_listener(host, port))
            self._selector.register(self._wake, selectors.EVENT_READ, lambda: self._wake.recv(64))
            while not self._is_over():
                for key, _events in self._selector.select(self._timeout()):
                    key.data()
        finally:
            self._close()

    # The loop: what is due by the clock, then what has happened.

    def _is_over(self) -> bool:
        """Do what is due; True when told to stop and every receiver has ended."""
        now = time.monotonic()
        if self._stop.is_set():
            if self._kill_at is None:
                self._kill_at = now + self._stop_seconds
                self._stop_accepting()
                self._each(ReceiverProcess.terminate)
            elif now >= self._kill_at:
                logger.warning("receivers did not end in time and are killed")
                self._kill_at = float("inf")
                self._each(ReceiverProcess.kill)
            return not any(receiver.process for receiver in self._receivers)
        for receiver in self._receivers:
            if receiver.start_at is not None and now >= receiver.start_at and (watched := receiver.start()):
                channel, pidfd = watched
                self._selector.register(channel, selectors.EVENT_READ, partial(self._on_reports, receiver))
                self._selector.register(pidfd, selectors.EVENT_READ, partial(self._on_end, receiver, pidfd))
        self._place_waiting()
        self._update_listening(now)
        return False

    def _timeout(self) -> float | None:
        """Seconds until something is due by the clock; None when nothing is."""
        if self._kill_at is not None:
            due = [self._kill_at] if self._kill_at != float("inf") else []
        else:
            due = [receiver.start_at for receiver in self._receivers if receiver.start_at is not None]
            if self._pause_until:
                due.append(self._pause_until)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _each(self, action: Callable[[ReceiverProcess], None]) -> None:
        for receiver in self._receivers:
            action(receiver)

    def _update_listening(self, now: float) -> None:
        """Accept only while a receiver can take the socket: otherwise it waits in the kernel, at no cost."""
        if self._pause_until and now >= self._pause_until:
            self._pause_until = 0.0
        wanted = not self._waiting and not self._pause_until and any(one.is_ready for one in self._receivers)
        if wanted == self._listening:
            return
        self._listening = wanted
        for listener in self._listeners:
            if wanted:
                self._selector.register(listener, selectors.EVENT_READ, partial(self._on_connections, listener))
            else:
                self._selector.unregister(listener)
        if wanted and self._on_ready is not None:
            on_ready, self._on_ready = self._on_ready, None
            on_ready([listener.getsockname()[:2] for listener in self._listeners])

    # Connections

    def _on_connections(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_ROUND):
            if self._waiting or self._pause_until:
                return
            try:
                connection, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:  # EMFILE, ENFILE, ENOBUFS, ENOMEM: the peers wait in the backlog meanwhile
                logger.error("accept failed, pausing", extra={"errno": exc.errno})  # noqa: TRY400 - no text of ours
                self._pause_until = time.monotonic() + PAUSE_SECONDS
                return
            limit = self._limit_reached(address[0])
            if limit:
                connection.close()
                self._count_refused(limit)
            else:
                self._waiting = connection, Ticket(self._next_connection, address[0], address[1])
                self._next_connection += 1
                self._place_waiting()

    def _limit_reached(self, address: str) -> str:
        with self._lock:
            if self._max_connections and len(self._live) >= self._max_connections:
                return "max-connections"
            if self._max_per_address:
                same = sum(1 for one in self._live.values() if one.address == address)
                if same >= self._max_per_address:
                    return "max-connections-per-address"
        return ""

    def _count_refused(self, limit: str) -> None:
        self._refused[limit] += 1
        now = time.monotonic()
        if now - self._refused_logged_at >= _REFUSED_LOG_SECONDS:
            logger.warning("connections refused by a limit", extra={"refused": dict(self._refused)})
            self._refused.clear()
            self._refused_logged_at = now

    def _place_waiting(self) -> None:
        """Pass the waiting socket to the least loaded receiver that takes it; else try again later, when a receiver is
        ready, or after a pause when those that are have no room for it.
        """
        if self._waiting is None:
            return
        connection, ticket = self._waiting
        with self._lock:
            load = Counter(one.receiver for one in self._live.values())
        for receiver in sorted(self._receivers, key=lambda one: load[one.index]):
            if receiver.hand(ticket, connection):
                self._waiting = None
                connection.close()
                one = LiveAssociation(ticket.connection, receiver.index, ticket.address, ticket.port, datetime.now(UTC))
                with self._lock:
                    self._live[ticket.connection] = one
                return
        if any(receiver.is_ready for receiver in self._receivers):
            self._pause_until = time.monotonic() + PAUSE_SECONDS

    # Receivers

    def _on_reports(self, receiver: ReceiverProcess) -> None:
        try:
            for report in receiver.reports():
                self._on_report(receiver, report)
        except EOFError:
            self._channel_lost(receiver)

    def _on_report(self, receiver: ReceiverProcess, report: Report) -> None:
        if report.event in ("ready", "stopping"):
            receiver.is_ready = report.event == "ready"
            return
        with self._lock:
            known = self._live.get(report.connection)
            if known is None:
                return
            if report.event == "closed":
                del self._live[report.connection]
                return
            self._live[report.connection] = replace(
                known,
                association_id=report.association_id,
                calling_ae_title=report.calling_ae_title,
                called_ae_title=report.called_ae_title,
                objects_stored=report.objects_stored,
                objects_refused=report.objects_refused,
                bytes_received=report.bytes_received,
            )

    def _channel_lost(self, receiver: ReceiverProcess) -> None:
        """It ends, or has: no more sockets for it."""
        if receiver.channel is not None:
            self._selector.unregister(receiver.channel)
            receiver.channel_close()
            receiver.terminate()

    def _on_end(self, receiver: ReceiverProcess, pidfd: int) -> None:
        self._on_reports(receiver)
        self._selector.unregister(pidfd)
        if receiver.channel is not None:
            self._selector.unregister(receiver.channel)
        code = receiver.is_over()
        with self._lock:
            gone = [number for number, one in self._live.items() if one.receiver == receiver.index]
            for number in gone:
                del self._live[number]
        if not self._stop.is_set():
            extra = {"receiver": receiver.index, "exit_code": code, "connections_lost": len(gone)}
            logger.error("receiver ended and is started again", extra=extra)

    # The end

    def _stop_accepting(self) -> None:
        if self._listening:
            for listener in self._listeners:
                self._selector.unregister(listener)
        self._listening = False
        for listener in self._listeners:
            listener.close()
        if self._waiting is not None:
            self._waiting[0].close()
            self._waiting = None

    def _close(self) -> None:
        self._stop_accepting()
        for receiver in self._receivers:
            if receiver.process is not None:
                receiver.kill()
                receiver.is_over()
        self._selector.close()
        self._wake.close()
        self._waker.close()


def _listener(host: str, port: int) -> socket.socket:
    """A listening socket that does not block; an IPv6 one is IPv6 only, so that both families can be bound."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _name, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise listen_error(exc, host=host, port=port) from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise listen_error(exc, host=host, port=port) from exc
    return listener
