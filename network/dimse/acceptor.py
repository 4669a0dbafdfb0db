"""The acceptor: the one process that binds the ports, holds the limits, and passes every socket to a receiver."""

import logging
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from network.dimse.access import Caller, Policy, address_is_within, judge
from network.dimse.channel import Order, Report, Ticket
from network.dimse.endpoints import Endpoint, Listeners
from network.dimse.errors import ListenError
from network.dimse.floods import RateLimit, Refusals
from network.dimse.live import LiveAssociation, LiveTable
from network.dimse.receiver_process import ReceiverProcess

logger = logging.getLogger(__name__)
STOP_SECONDS = 20.0
PAUSE_SECONDS = 0.2
_FULL_CHANNEL_SECONDS = 0.02
_REFUSED_LOG_SECONDS = 10.0
_ACCEPTS_A_ROUND = 64

OnReady = Callable[[list[tuple[str, int]]], None]


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds on sockets, held before one costs a thread; 0 = none. `per_second` is for each address."""

    in_all: int = 0
    per_address: int = 0
    per_second: float = 0.0


class Acceptor:
    """Listens on the endpoints and shares connections among receiver processes, which it starts and starts again.

    Never reads from a peer. Connections from networks that the policy does not allow, or beyond the limits, are closed
    before they cost a thread and are counted in `refusals`. With a policy, receivers ask here before they accept an
    association, so its limits hold over all of them. While no receiver is ready, connections wait in the kernel's
    backlog. A receiver that dies takes its own connections with it and nothing else. All sockets are served by one
    thread, the caller of `serve`; every other public method may be called from any, and never waits.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint | tuple[str, int]],
        *,
        receiver_command: Callable[[int, int], list[str]],
        receivers: int = 1,
        policy: Policy | None = None,
        limits: ConnectionLimits | None = None,
        on_ready: OnReady | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._endpoints = [one if isinstance(one, Endpoint) else Endpoint(*one) for one in endpoints]
        self._receivers = [ReceiverProcess(index, receiver_command) for index in range(receivers)]
        self._policy = policy
        self._limits = limits or ConnectionLimits()
        self._rate = RateLimit(self._limits.per_second)
        self._on_ready = on_ready
        self._stop_seconds = stop_seconds
        self._selector = selectors.DefaultSelector()
        self._listeners = Listeners()
        self._listening = False
        self._waiting: tuple[socket.socket, Endpoint, Ticket] | None = None
        self._pause_until = 0.0
        self._kill_at: float | None = None
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._stop = threading.Event()
        self._asked: deque[Callable[[], None]] = deque()
        self._live = LiveTable()
        self._next_connection = 1
        self._refused: Counter[str] = Counter()
        self._refused_logged_at = 0.0
        self.refusals = Refusals()

    def live(self) -> list[LiveAssociation]:
        """Every open connection, oldest first; a copy."""
        return self._live.rows()

    def totals(self) -> dict[str, int]:
        """Connections taken and associations accepted since this process began."""
        return {"connections": self._live.connections_total, "associations": self._live.associations_total}

    def endpoints_failed(self) -> dict[str, ListenError]:
        """By name, the endpoints that could not be listened on when they were last set."""
        return dict(self._listeners.failed)

    def endpoints_set(self, endpoints: Iterable[Endpoint]) -> None:
        """Listen on these from now on, and nowhere else; living associations go on, whatever becomes of their endpoint.

        One that cannot be had keeps no other from it: `endpoints_failed`. May be repeated, to try those again.
        """
        self._ask(partial(self._follow, list(endpoints)))

    def rules_set(self, *, policy: Policy, limits: ConnectionLimits) -> None:
        """Judge what comes from now on by these; what is open stays."""
        self._ask(partial(self._follow_rules, policy, limits))

    def end(self, association_id: str) -> bool:
        """Have one association aborted; False when no such one is open. It is over a moment later."""
        row = self._live.find(association_id) if association_id else None
        if row is None:
            return False
        receiver = self._receivers[row.receiver]
        self._ask(partial(receiver.tell, Order("end", row.connection)))
        return True

    def stop(self) -> None:
        """Make `serve` close the ports, let receivers finish what is under way and return. Never waits; any thread,
        signal handlers too; may be repeated.
        """
        self._stop.set()
        self._awake()

    def serve(self) -> None:
        """Bind, start the receivers, accept until `stop`; returns within `stop_seconds` and a moment after it, when
        every receiver has ended.

        `on_ready` is called once, with the addresses bound, when the first receiver is ready. Raises ListenError when
        a port cannot be had, before anything is started. On any other failure the receivers are killed.
        """
        try:
            self._listeners.open_all(self._endpoints)
            self._selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
            while not self._is_over():
                for key, _events in self._selector.select(self._timeout()):
                    key.data()
        finally:
            self._close()

    # From other threads: done by the loop's own.

    def _ask(self, action: Callable[[], None]) -> None:
        self._asked.append(action)
        self._awake()

    def _awake(self) -> None:
        try:
            self._waker.send(b"w")
        except OSError:  # already awake, or already over
            logger.debug("acceptor need not be woken")

    def _on_wake(self) -> None:
        self._wake.recv(64)
        while self._asked and not self._stop.is_set():
            self._asked.popleft()()

    def _follow(self, endpoints: list[Endpoint]) -> None:
        if endpoints == self._endpoints and not self._listeners.failed:
            return
        self._endpoints = endpoints
        self._listen(False)
        self._listeners.follow(endpoints)

    def _follow_rules(self, policy: Policy, limits: ConnectionLimits) -> None:
        self._policy = policy
        if limits != self._limits:
            self._limits = limits
            self._rate = RateLimit(limits.per_second)

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
            unsent = [receiver for receiver in self._receivers if not receiver.tell_rest()]
            if unsent:
                due.append(time.monotonic() + _FULL_CHANNEL_SECONDS)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _each(self, action: Callable[[ReceiverProcess], None]) -> None:
        for receiver in self._receivers:
            action(receiver)

    def _update_listening(self, now: float) -> None:
        """Accept only while a receiver can take the socket: otherwise it waits in the kernel, at no cost."""
        if self._pause_until and now >= self._pause_until:
            self._pause_until = 0.0
        wanted = not self._waiting and not self._pause_until and any(one.is_ready for one in self._receivers)
        self._listen(wanted)
        if wanted and self._on_ready is not None:
            on_ready, self._on_ready = self._on_ready, None
            on_ready(self._listeners.addresses())

    def _listen(self, wanted: bool) -> None:
        if wanted == self._listening:
            return
        self._listening = wanted
        for endpoint, listener in self._listeners.items():
            if wanted:
                self._selector.register(
                    listener, selectors.EVENT_READ, partial(self._on_connections, endpoint, listener)
                )
            else:
                self._selector.unregister(listener)

    # Connections

    def _on_connections(self, endpoint: Endpoint, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_ROUND):
            if self._waiting or self._pause_until or not self._listening:
                return
            try:
                connection, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:  # EMFILE, ENFILE, ENOBUFS, ENOMEM: the peers wait in the backlog meanwhile
                logger.error("accept failed, pausing", extra={"errno": exc.errno})  # noqa: TRY400 - no text of ours
                self._pause_until = time.monotonic() + PAUSE_SECONDS
                return
            reason = self._reason_to_close(address[0])
            if reason:
                connection.close()
                self._count_refused(address[0], reason, tls=endpoint.tls is not None)
            else:
                self._waiting = connection, endpoint, self._ticket(endpoint, address[0], address[1])
                self._place_waiting()

    def _ticket(self, endpoint: Endpoint, address: str, port: int) -> Ticket:
        number = self._next_connection
        self._next_connection += 1
        has_policy = self._policy is not None
        return Ticket(number, address, port, endpoint.tls is not None, ask=has_policy, tls_settings=endpoint.tls)

    def _reason_to_close(self, address: str) -> str:
        """Why this connection is not served at all; empty when it is."""
        if self._policy is not None and not address_is_within(address, self._policy.networks):
            return "network-not-allowed"
        if not self._rate.allows(address):
            return "too-many-connections-per-second"
        if self._limits.in_all and len(self._live) >= self._limits.in_all:
            return "too-many-connections"
        if self._limits.per_address and self._live.connections_of(address) >= self._limits.per_address:
            return "too-many-connections-of-address"
        return ""

    def _count_refused(self, address: str, reason: str, *, tls: bool) -> None:
        self.refusals.count(address, reason, tls=tls)
        self._refused[reason] += 1
        now = time.monotonic()
        if now - self._refused_logged_at >= _REFUSED_LOG_SECONDS:
            logger.warning("connections refused", extra={"refused": dict(self._refused)})
            self._refused.clear()
            self._refused_logged_at = now

    def _place_waiting(self) -> None:
        """Pass the waiting socket to the least loaded receiver that takes it; else try again later, when a receiver is
        ready, or after a pause when those that are have no room for it.
        """
        if self._waiting is None:
            return
        connection, endpoint, ticket = self._waiting
        for receiver in sorted(self._receivers, key=lambda one: self._live.load_of(one.index)):
            if receiver.hand(ticket, connection):
                self._waiting = None
                connection.close()
                self._live.add(
                    LiveAssociation(
                        connection=ticket.connection,
                        receiver=receiver.index,
                        address=ticket.address,
                        port=ticket.port,
                        connected_at=datetime.now(UTC),
                        endpoint=endpoint.name,
                        our_ae_title=endpoint.ae_title,
                        tls=ticket.tls,
                    )
                )
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
        if report.event == "over":
            self._live.over(report.connection)
            return
        if report.event != "closed":
            self._live.told(report)
            if report.event == "asked":
                self._judge(receiver, report)
            return
        known = self._live.remove(report.connection)
        if known is not None and report.outcome:
            self.refusals.count(
                known.address,
                report.reason,
                calling=report.calling_ae_title,
                called=report.called_ae_title,
                port=known.port,
                tls=known.tls,
            )

    def _judge(self, receiver: ReceiverProcess, report: Report) -> None:
        row = self._live.get(report.connection)
        if row is None:
            return
        caller = Caller(report.calling_ae_title, report.called_ae_title, row.address, report.certificate_sha256)
        verdict = judge(
            caller,
            self._policy or Policy(),
            our_ae_title=row.our_ae_title,
            associations=self._live.associations(),
            associations_of_peer=self._live.associations_of(row.address),
        )
        if verdict.accepted:
            self._live.admit(row.connection)
        receiver.tell(Order("verdict", row.connection, verdict))

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
        gone = self._live.remove_of(receiver.index)
        if not self._stop.is_set():
            extra = {"receiver": receiver.index, "exit_code": code, "connections_lost": gone}
            logger.error("receiver ended and is started again", extra=extra)

    # The end

    def _stop_accepting(self) -> None:
        self._listen(False)
        self._listeners.close()
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
