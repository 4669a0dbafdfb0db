"""An association that we open: connected, negotiated, and closed with an error that says what happened."""

import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from network.dimse.errors import AssociationError, ConfigurationError, connect_error, rejection_error
from network.dimse.pynetdicom_settings import pynetdicom_prepare
from network.dimse.upper_layer import UpperLayer

logger = logging.getLogger(__name__)
CONTEXTS_MAX = 128
MAX_PDU_BYTES = 262_144
END_SECONDS = 2.0


@dataclass(frozen=True)
class Timeouts:
    """Seconds: to connect; for each step of negotiation and release; for a response; for one read or write."""

    connect_seconds: float = 10.0
    acse_seconds: float = 30.0
    dimse_seconds: float = 60.0
    network_seconds: float = 60.0


DEFAULT_TIMEOUTS = Timeouts()


class _ConnectingSocket(socket.socket):
    """Remembers why it could not connect, which pynetdicom only logs."""

    connect_failure: OSError | None = None

    def connect(self, address: Any) -> None:
        try:
            super().connect(address)
        except OSError as exc:
            self.connect_failure = exc
            raise


class _RequestorSocket(AssociationSocket):
    """Once connected it stays so for pynetdicom: a peer that answers and closes faster than the waiting thread wakes
    would otherwise count as one that could not be reached, and its answer would not be looked at.
    """

    _was_connected = False

    @property
    def _is_connected(self) -> bool:
        return self._was_connected

    @_is_connected.setter
    def _is_connected(self, connected: bool) -> None:
        self._was_connected = self._was_connected or connected

    def _create_socket(self, address: AddressInformation) -> socket.socket:
        family = socket.AF_INET if address.is_ipv4 else socket.AF_INET6
        self.created = _ConnectingSocket(family, socket.SOCK_STREAM)
        self.created.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.created


class _RequestorDIMSE(DIMSEServiceProvider):
    """Leaves every message to whoever waits for it.

    pynetdicom's idle loop takes messages too, and with them the sign that the association is over: then the next
    request would wait for its whole timeout.
    """

    def get_msg(self, block: bool = False) -> Any:
        return super().get_msg(block) if block else (None, None)


class RequestedAssociation(Association):
    """One association as the requestor. Leans on internals of pynetdicom 3.0.4, which is pinned."""

    def __init__(self, entity: AE, timeouts: Timeouts) -> None:
        super().__init__(entity, "requestor")
        self.dul = UpperLayer(self)
        self.dimse = _RequestorDIMSE(self)
        self.acse_timeout = timeouts.acse_seconds
        self.network_timeout = timeouts.network_seconds

    @property
    def connection(self) -> _ConnectingSocket:
        """The TCP connection, also when pynetdicom has let go of it."""
        connection: _ConnectingSocket = self.dul.socket.created
        return connection

    def close(self) -> None:
        """Give the descriptor back; pynetdicom forgets to when the peer has closed first."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.dul.kill_dul()
        if self.dul.is_alive():
            self.dul.join(END_SECONDS)
        self.connection.close()

    def failure(self) -> AssociationError:
        """Why the association is no longer there."""
        if self.dul.abort_received:
            return AssociationError(
                "The peer aborted the association: its log may say why; try again.", code="association-aborted"
            )
        if self.dul.connection_lost:
            return AssociationError("The peer closed the connection: try again.", code="connection-lost")
        if self._sent_abort:
            return AssociationError(
                "The peer did not answer in time: check that it is not overloaded, or allow more time.",
                code="response-timeout",
            )
        return AssociationError("The peer broke the protocol and the association ended.", code="response-invalid")


@contextlib.contextmanager
def association(
    contexts: Sequence[tuple[str, str]],
    *,
    address: str,
    port: int,
    calling_ae_title: str,
    called_ae_title: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Iterator[RequestedAssociation]:
    """An established association, released at the end of the block, aborted when the block raises.

    `contexts` are at most 128 pairs of abstract and transfer syntax, each proposed as a context of its own. When the
    peer accepts none of them the association comes back ended, with no accepted contexts. Raises AssociationError.
    """
    pynetdicom_prepare()
    opened = _prepared(contexts, address, port, (calling_ae_title, called_ae_title), timeouts)
    try:
        opened.request()
        if opened.is_established:
            with contextlib.suppress(OSError):
                opened.connection.settimeout(timeouts.network_seconds)
            opened.start()
        elif not opened.rejected_contexts:
            raise _opening_failure(opened, address, port)
        try:
            yield opened
        except BaseException:
            opened.abort()
            raise
        opened.release()
    finally:
        opened.close()


def _prepared(
    contexts: Sequence[tuple[str, str]], address: str, port: int, titles: tuple[str, str], timeouts: Timeouts
) -> RequestedAssociation:
    calling, called = titles
    try:
        remote = AddressInformation.from_addr_port(address, port)
    except (OSError, UnicodeError) as exc:  # UnicodeError: a label that is empty, or longer than DNS allows
        raise AssociationError(
            f"The name {address} is unknown: check the peer's address.", code="address-unknown"
        ) from exc
    try:
        entity = AE(ae_title=calling)
        entity.connection_timeout = timeouts.connect_seconds
        entity.acse_timeout = timeouts.acse_seconds
        entity.dimse_timeout = timeouts.dimse_seconds
        entity.network_timeout = timeouts.network_seconds
        prepared = RequestedAssociation(entity, timeouts)
        prepared.acceptor.ae_title = called
        prepared.requestor.ae_title = calling
    except ValueError as exc:
        raise ConfigurationError(
            "An AE title has 1 to 16 printable ASCII characters and no backslash: correct it.", code="ae-title-invalid"
        ) from exc
    local = AddressInformation("0.0.0.0" if remote.is_ipv4 else "::", 0)  # noqa: S104 - never bound
    prepared.set_socket(_RequestorSocket(prepared, address=local))
    prepared.acceptor.address_info = remote
    prepared.requestor.address_info = local
    prepared.requestor.maximum_length = MAX_PDU_BYTES
    prepared.requestor.implementation_class_uid = entity.implementation_class_uid
    prepared.requestor.implementation_version_name = entity.implementation_version_name
    prepared.requestor.requested_contexts = [_context(2 * i + 1, *pair) for i, pair in enumerate(contexts)]
    return prepared


def _context(context_id: int, abstract_syntax: str, transfer_syntax: str) -> PresentationContext:
    context = PresentationContext()
    context.context_id = context_id
    context.abstract_syntax = abstract_syntax
    context.transfer_syntax = [transfer_syntax]
    return context


def _opening_failure(opened: RequestedAssociation, address: str, port: int) -> AssociationError:
    if opened.is_rejected:
        answer = opened.acceptor.primitive
        return rejection_error(result=answer.result, source=answer.result_source, diagnostic=answer.diagnostic)
    if opened.connection.connect_failure is not None:
        return connect_error(opened.connection.connect_failure, address=address, port=port)
    failure = opened.failure()
    if failure.code == "response-timeout":
        return AssociationError(
            "The peer takes connections but does not answer the association request: check that it speaks DICOM.",
            code="association-timeout",
        )
    return failure
