"""One receiver: takes sockets that the acceptor passes down, and serves an association on each."""

import logging
import os
import queue
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, RequestHandler, ThreadedAssociationServer

from network.dimse.access import ACCEPTED, NO_VERDICT, STOPPING, TOO_MANY, Verdict
from network.dimse.association import ReceivingAssociation
from network.dimse.channel import Order, Report, Reporter, Ticket, socket_receive
from network.dimse.contexts import supported_contexts
from network.dimse.errors import ConfigurationError, DimseError
from network.dimse.fast_store import NO_SERVICES, ServicePorts
from network.dimse.ports import StorePort
from network.dimse.pynetdicom_settings import pynetdicom_prepare
from network.dimse.rights import Rights
from network.dimse.tls import HandshakeError, handshake
from network.dimse.wire import PeerSocket

logger = logging.getLogger(__name__)
GRACE_SECONDS = 15.0
SLOW_VARIABLE = "GATEWAY_SLOW_STORE"
"""Set for tests that try pynetdicom's own way of receiving."""
SWITCH_SECONDS = 0.0001
"""A thread back from the disk or the network waits no longer for one that computes: Python's own haste is 5 ms."""
_CUT_SECONDS = 1.0
_REPORT_SECONDS = 1.0
_END_SECONDS = 2.0


@dataclass(frozen=True)
class ReceiverConfig:
    """How one receiver treats its peers; the limits hold for this process, not for all receivers together.

    `acse_seconds` bounds the negotiation (ARTIM), `network_seconds` the time in which an established association may be
    silent, `dimse_seconds` the time in which a PDU that has begun must end, and in which a peer must read what we send.
    `sub_operation_seconds` is how long it may take to answer an object of its C-GET, longer for large ones.
    `max_pdu_bytes` is what we announce (0: no limit, PS3.8 D.1). `max_associations` counts accepted ones. Without
    `fast` pynetdicom receives the data sets too, each whole in memory.
    """

    ae_title: str
    check_called: bool = False
    max_pdu_bytes: int = 262_144
    max_associations: int = 100
    acse_seconds: float = 30.0
    dimse_seconds: float = 60.0
    network_seconds: float = 60.0
    sub_operation_seconds: float = 60.0
    extra_sop_classes: Sequence[str] = field(default_factory=tuple)
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    fast: bool = field(default_factory=lambda: not os.environ.get(SLOW_VARIABLE))

    def __post_init__(self) -> None:
        title = self.ae_title
        if not title.strip() or len(title) > 16 or not title.isascii() or not title.isprintable() or "\\" in title:
            raise ConfigurationError(
                "An AE title has 1 to 16 printable ASCII characters and no backslash: correct the setting.",
                code="ae-title-invalid",
            )


class TicketAddress(tuple[str, int]):
    """The peer's address as pynetdicom's server passes it about, with the ticket that came with the socket."""

    ticket: Ticket

    def __new__(cls, ticket: Ticket) -> "TicketAddress":
        address = super().__new__(cls, (ticket.address, ticket.port))
        address.ticket = ticket
        return address


class ReceiverRequestHandler(RequestHandler):
    """Makes our association out of a socket; runs in a thread of its own, never in the receiver's loop: a peer that is
    slow in its TLS handshake delays nobody.
    """

    server: "ReceiverServer"
    request: socket.socket
    client_address: TicketAddress

    def _create_association(self) -> Association:
        server, ticket = self.server, self.client_address.ticket
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ticket.tls_settings is not None:
            self.request, certificate = handshake(self.request, ticket.tls_settings)
            ticket = replace(ticket, certificate_sha256=certificate)
        association = ReceivingAssociation(server, ticket, self.request)
        association.name = f"AcceptorThread-{association.association_id}"
        association.set_socket(PeerSocket(association, self.request, send_seconds=server.config.dimse_seconds))
        local = association.acceptor
        local.maximum_length = server.ae.maximum_pdu_size
        local.ae_title = server.ae_title
        local.address_info = AddressInformation.from_tuple(self.request.getsockname())
        local.implementation_class_uid = server.ae.implementation_class_uid
        local.implementation_version_name = server.ae.implementation_version_name
        association.requestor.address_info = self.remote
        server.remember(association)
        return association


class ReceiverServer(ThreadedAssociationServer):
    """pynetdicom's server without a port: it is fed with sockets, and knows every association of this process."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        config: ReceiverConfig,
        port: StorePort,
        reporter: Reporter,
        ports: ServicePorts = NO_SERVICES,
    ) -> None:
        self.config = config
        self.port = port
        self.ports = ports if config.fast else NO_SERVICES
        self.reporter = reporter
        self._changed = threading.Condition()
        self._changes = 0
        self._stopping = False
        self._asked: dict[int, queue.SimpleQueue[Verdict]] = {}
        self._associations: set[ReceivingAssociation] = set()
        self._admitted: set[ReceivingAssociation] = set()
        # The contexts are chosen for each request: no association needs a copy of them all.
        super().__init__(_entity(config), ("127.0.0.1", 0), config.ae_title, [], request_handler=ReceiverRequestHandler)
        self.socket.close()

    def server_bind(self) -> None:
        """Nothing: only the acceptor binds."""

    def server_activate(self) -> None:
        """Nothing: only the acceptor listens."""

    @property
    def is_stopping(self) -> bool:
        """True once nothing new is begun."""
        return self._stopping

    def supported_for(self, rights: Rights) -> Mapping[str, PresentationContext]:
        """The contexts that an association with these rights may have. Asking for something else it may not do is
        answered by that service, in words; who may not store need not send objects to learn it.
        """
        ports = self.ports
        retrieves = ports.retrieve is not None and rights.retrieve
        extra_sop_classes = tuple(self.config.extra_sop_classes) if rights.store or retrieves else None
        return supported_contexts(
            extra_sop_classes,
            queries=ports.find is not None,
            retrievals=ports.retrieve is not None,
            normalized=ports.normalized is not None,
            both_roles=retrieves,
        )

    def take(self, ticket: Ticket, connection: socket.socket) -> None:
        """Serve a connection from now on; it is closed and reported whatever fails."""
        address = TicketAddress(ticket)
        try:
            self.process_request(connection, address)
        except RuntimeError:  # no more threads
            self.handle_error(connection, address)
            self.shutdown_request(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that could not be made an association: say so, and give its place back."""
        ticket: Ticket = client_address.ticket
        error = sys.exc_info()[1]
        code = error.code if isinstance(error, DimseError) else "not-served"
        level = logging.INFO if isinstance(error, HandshakeError) else logging.ERROR
        logger.log(level, "connection could not be served", extra={"connection": ticket.connection, "code": code})
        with self._changed:
            mine = [known for known in self._associations if known.ticket.connection == ticket.connection]
            self._associations.difference_update(mine)
        for association in mine:
            association.connection.close()
        self.reporter.report(Report("closed", ticket.connection, outcome="unasked", reason=code))

    def obey(self, order: Order) -> None:
        """Pass on the acceptor's verdict, or end an association at its wish; never waits."""
        if order.order == "verdict":
            waiting = self._asked.get(order.connection)
            if waiting is not None and order.verdict is not None:
                waiting.put(order.verdict)
            return
        with self._changed:
            found = [known for known in self._associations if known.ticket.connection == order.connection]
        for association in found:
            association.end("ended-by-operator")
            # One that cannot be aborted in order, as it hangs in a read or write of its own, is cut.
            cut = threading.Timer(_END_SECONDS, association.disconnect)
            cut.daemon = True
            cut.start()

    def remember(self, association: ReceivingAssociation) -> None:
        """This association exists from now on, negotiated or not."""
        with self._changed:
            self._associations.add(association)
        self.notify()

    def admit(self, association: ReceivingAssociation) -> Verdict:
        """Count the association as accepted when the acceptor agrees; its verdict, or ours."""
        with self._changed:
            if self._stopping:
                return STOPPING
            if len(self._admitted) >= self.config.max_associations:
                return TOO_MANY
            self._admitted.add(association)
        verdict = self._ask(association) if association.ticket.ask else ACCEPTED
        if not verdict.accepted:
            with self._changed:
                self._admitted.discard(association)
        return verdict

    def _ask(self, association: ReceivingAssociation) -> Verdict:
        """The acceptor's verdict; without an answer in time the peer may try again."""
        ticket, peer = association.ticket, association.peer
        if peer is None:
            return NO_VERDICT
        waiting: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
        with self._changed:
            if self._stopping:
                return STOPPING
            self._asked[ticket.connection] = waiting
        self.reporter.report(
            Report(
                "asked",
                ticket.connection,
                association_id=peer.association_id,
                calling_ae_title=peer.calling_ae_title,
                called_ae_title=peer.called_ae_title,
                certificate_sha256=ticket.certificate_sha256,
            )
        )
        try:
            return waiting.get(timeout=self.config.acse_seconds)
        except queue.Empty:
            return NO_VERDICT
        finally:
            del self._asked[ticket.connection]

    def forget(self, association: ReceivingAssociation) -> None:
        """This association is over."""
        with self._changed:
            self._associations.discard(association)
            self._admitted.discard(association)
        self.notify()

    def notify(self) -> None:
        """An association has come, been established, become idle, or ended."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def drain(self, *, deadline: float) -> None:
        """End what is idle at once, what is busy when its object is answered, and all that is left at the deadline
        (of `time.monotonic`).
        """
        with self._changed:
            self._stopping = True
            waiting = list(self._asked.values())
        for one in waiting:  # orders are read no more: no verdict will come
            one.put(STOPPING)
        self._end_all(deadline, _end_if_idle)
        self._end_all(time.monotonic() + _CUT_SECONDS, _end)
        self._end_all(time.monotonic() + _CUT_SECONDS, ReceivingAssociation.disconnect)

    def _end_all(self, deadline: float, action: Callable[[ReceivingAssociation], None]) -> None:
        while True:
            with self._changed:
                seen, remaining = self._changes, list(self._associations)
            for association in remaining:  # without the lock: an association that ends takes it
                action(association)
            with self._changed:
                timeout = deadline - time.monotonic()
                if not self._associations or timeout <= 0:
                    return
                self._changed.wait_for(lambda: self._changes != seen, timeout)  # noqa: B023 - called here only


class Receiver:
    """Serves the acceptor's sockets until the channel ends or `stop` is called. `ports` are the services
    beside storage.

    Nothing is promised to a peer that its port has not promised; after SIGKILL every unanswered object is unknown.
    """

    def __init__(
        self,
        channel: socket.socket,
        config: ReceiverConfig,
        port: StorePort,
        ports: ServicePorts = NO_SERVICES,
    ) -> None:
        pynetdicom_prepare()
        self._channel = channel
        self._reporter = Reporter(channel)
        self._server = ReceiverServer(config, port, self._reporter, ports)
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._grace_seconds = GRACE_SECONDS

    def serve(self) -> None:
        """Take sockets until told to stop; returns when every association has ended or the grace is over."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._reporter.start()
        self._reporter.report(Report("ready"))
        try:
            self._take_sockets()
            self._reporter.report(Report("stopping"))
            self._server.drain(deadline=time.monotonic() + self._grace_seconds)
        finally:
            self._reporter.close(timeout_seconds=_REPORT_SECONDS)
            for end in (self._channel, self._wake, self._waker):
                end.close()

    def stop(self, *, grace_seconds: float) -> None:
        """Refuse what is new, let objects under way be answered, end within the grace. May be called from a signal
        handler or another thread, and again: nothing waits here.
        """
        self._grace_seconds = grace_seconds
        try:
            self._waker.send(b"s")
        except OSError:  # already awake, or already over
            logger.debug("receiver was already stopping")

    def _take_sockets(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _events in selector.select()}
                if self._wake in ready or not self._take_socket():
                    return

    def _take_socket(self) -> bool:
        try:
            received = socket_receive(self._channel)
        except ConnectionError:
            return False
        if received is None:
            return False
        if isinstance(received, Order):
            self._server.obey(received)
            return True
        ticket, connection = received
        if connection is None:
            logger.error("out of file descriptors, connection lost", extra={"connection": ticket.connection})
            self._reporter.report(Report("closed", ticket.connection))
        else:
            self._server.take(ticket, connection)
        return True


def _end_if_idle(association: ReceivingAssociation) -> None:
    if not association.is_busy:
        _end(association)


def _end(association: ReceivingAssociation) -> None:
    association.end("stopping")


def _entity(config: ReceiverConfig) -> AE:
    entity = AE(ae_title=config.ae_title)
    entity.require_called_aet = config.check_called
    entity.maximum_pdu_size = config.max_pdu_bytes
    # pynetdicom counts connections that have not even asked; we count what was accepted, in `admit`.
    entity.maximum_associations = 1_000_000
    entity.acse_timeout = config.acse_seconds
    entity.dimse_timeout = config.dimse_seconds
    entity.network_timeout = config.network_seconds
    if config.implementation_class_uid:
        entity.implementation_class_uid = config.implementation_class_uid
    if config.implementation_version_name:
        entity.implementation_version_name = config.implementation_version_name
    return entity
