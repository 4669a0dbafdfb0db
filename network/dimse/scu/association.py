"""An association that we open, on a socket of our own: negotiated, used by one thread at a time, ended in order.

pynetdicom's polling threads and its copies would cost a small object more than all of the rest.
"""

import contextlib
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from network.dimse.command import CommandError
from network.dimse.errors import AssociationError, rejection_error
from network.dimse.guards import PDU_SLACK_BYTES, ProtocolViolationError, pdv_check
from network.dimse.scu.assembly import Assembly, SinkFor
from network.dimse.scu.fragments import data_pdus
from network.dimse.scu.link import Buffer, Link, LinkClosedError, LinkTimeoutError, link_open
from network.dimse.scu.messages import Message
from network.dimse.scu.negotiation import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    MAX_PDU_BYTES,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    Accepted,
    Context,
    NegotiationError,
    Proposal,
    associate_accept,
    associate_request,
)
from network.dimse.scu.reach import ANYWHERE, Reach

LEAST_BYTES_PER_SECOND: Final = 20_000
"""A data set that comes slower than this, after the first `dimse_seconds`, is given up."""
_ASSOCIATE_BYTES: Final = 256 * 1024
_CONTROL_BYTES: Final = 1024
_RELEASE = bytes([RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0])
_RELEASED = bytes([RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0])
_ABORTED = bytes([ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0])


@dataclass(frozen=True)
class Timeouts:
    """Seconds: to connect, TLS included; for each step of negotiation and release; for a response to begin; for a peer
    that takes nothing, or leaves a PDU unfinished.
    """

    connect_seconds: float = 10.0
    acse_seconds: float = 30.0
    dimse_seconds: float = 60.0
    network_seconds: float = 60.0


DEFAULT_TIMEOUTS = Timeouts()


class ClientAssociation:
    """Established until `is_established` is False; then every call raises AssociationError with the reason."""

    def __init__(self, link: Link, accepted: Accepted, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.accepted = accepted
        self.answered = 0
        """How many messages have come since it was taken from the pool, or opened."""
        self.reused = False
        self.is_established = True
        self._link = link
        self._failure: AssociationError | None = None
        self._message_id = 0
        self._left: list[tuple[int, int, memoryview]] = []
        self._by_syntax: dict[tuple[str, str], Context] = {}
        for context in accepted.contexts.values():
            self._by_syntax.setdefault((context.abstract_syntax, context.transfer_syntax), context)

    # -- what was agreed ----------------------------------------------------------------------------------------------

    def context(self, abstract_syntax: str, transfer_syntax: str = "") -> Context | None:
        """The accepted context for this abstract syntax, in that transfer syntax if one is given."""
        if transfer_syntax:
            return self._by_syntax.get((abstract_syntax, transfer_syntax))
        return next((one for one in self._by_syntax.values() if one.abstract_syntax == abstract_syntax), None)

    def contexts(self, abstract_syntax: str) -> list[Context]:
        """Every accepted context for this abstract syntax, in the order of the proposals."""
        return [one for one in self._by_syntax.values() if one.abstract_syntax == abstract_syntax]

    def message_id(self) -> int:
        """The next one; 1 to 65535, around again."""
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    @property
    def last_message_id(self) -> int:
        return self._message_id

    # -- messages -----------------------------------------------------------------------------------------------------

    def send(self, context: Context, command: bytes, data: Buffer | None = None) -> None:
        """A whole message, its data set in memory."""
        buffers = data_pdus(command, context.context_id, self.accepted.max_pdu_bytes, command=True)
        if data is not None:
            buffers += data_pdus(data, context.context_id, self.accepted.max_pdu_bytes)
        self.send_pdus(buffers)

    def send_pdus(self, buffers: Sequence[Buffer]) -> None:
        """P-DATA PDUs of the caller's making (`fragments`)."""
        self._check()
        try:
            self._link.send(buffers, stall_seconds=self.timeouts.network_seconds)
        except LinkTimeoutError as exc:
            raise self._fail(_timeout(), abort=True) from exc
        except LinkClosedError as exc:
            raise self._fail(self._last_words()) from exc

    def receive(self, *, seconds: float | None = None, sink_for: SinkFor | None = None) -> Message:
        """The next message. It begins within `seconds` (default: dimse_seconds) and then keeps coming.

        `sink_for` is asked about each command that announces a data set; without a sink the data set is gathered, up to
        IDENTIFIER_BYTES. What a sink raises passes through, and the association is aborted.
        """
        self._check()
        waits = self.timeouts.dimse_seconds if seconds is None else seconds
        try:
            message = self._message(time.monotonic() + waits, sink_for)
        except LinkTimeoutError as exc:
            raise self._fail(_timeout(), abort=True) from exc
        except LinkClosedError as exc:
            raise self._fail(_lost()) from exc
        except (ProtocolViolationError, CommandError) as exc:
            raise self._fail(_invalid(), abort=True) from exc
        except AssociationError:
            raise
        except BaseException:
            self.abort()
            raise
        self.answered += 1
        return message

    def _message(self, deadline: float, sink_for: SinkFor | None) -> Message:
        assembly, began = Assembly(sink_for), time.monotonic()
        while True:
            fragments = iter(self._left) if self._left else self._fragments(deadline)
            for context_id, control, fragment in fragments:
                found = assembly.feed(context_id, control, fragment)
                if found is not None:  # what follows in the same PDU belongs to the next message
                    self._left = [(number, kind, memoryview(bytes(rest))) for number, kind, rest in fragments]
                    return found
            self._left = []
            allowed = self.timeouts.dimse_seconds + assembly.data_bytes / LEAST_BYTES_PER_SECOND
            deadline = max(deadline, began + allowed)

    def _fragments(self, deadline: float) -> Iterator[tuple[int, int, memoryview]]:
        """Context id, control header and fragment of each PDV of the next P-DATA PDU."""
        kind, length = self._link.header(deadline)
        if kind == ABORT:
            raise self._fail(_aborted())
        if kind == RELEASE_RQ:
            with contextlib.suppress(LinkTimeoutError, LinkClosedError):
                self._link.send([_RELEASED], stall_seconds=1.0)
            raise self._fail(
                AssociationError("The peer released the association before it had answered.", code="connection-lost")
            )
        if kind != P_DATA or length > MAX_PDU_BYTES + PDU_SLACK_BYTES:
            raise ProtocolViolationError("pdu-unexpected")
        body = self._link.body(length, time.monotonic() + self.timeouts.network_seconds)
        at = 0
        while at < length:
            if length - at < 6:
                raise ProtocolViolationError("pdv-length")
            size, context_id, control = int.from_bytes(body[at : at + 4], "big"), body[at + 4], body[at + 5]
            pdv_check(size, context_id, left_bytes=length - at, contexts=self.accepted.contexts)
            yield context_id, control, body[at + 6 : at + 4 + size]
            at += 4 + size

    # -- the end ------------------------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Whether an idle association still stands: the peer has said nothing and not closed."""
        return self.is_established and not self._left and not self._link.readable()

    def release(self, *, seconds: float | None = None) -> None:
        """End it in order; what the peer makes of it, within `seconds` (default: acse_seconds), is not our concern. May
        be repeated; never raises.
        """
        if not self.is_established:
            return
        self.is_established = False
        patience = self.timeouts.acse_seconds if seconds is None else seconds
        deadline = time.monotonic() + patience
        with contextlib.suppress(LinkTimeoutError, LinkClosedError):
            self._link.send([_RELEASE], stall_seconds=patience)
            kind = 0
            while kind not in (RELEASE_RP, ABORT):
                kind, length = self._link.header(deadline)
                if length > MAX_PDU_BYTES + PDU_SLACK_BYTES:
                    break
                self._link.body(length, deadline)
                if kind == RELEASE_RQ:  # both at once (PS3.8 9.2.3, release collision)
                    self._link.send([_RELEASED], stall_seconds=patience)
        self._link.close()

    def abort(self) -> None:
        """End it at once. May be repeated; never raises."""
        if self.is_established:
            self.is_established = False
            with contextlib.suppress(LinkTimeoutError, LinkClosedError):
                self._link.send([_ABORTED], stall_seconds=1.0)
        self._link.close()

    def broken(self) -> AssociationError:
        """To raise when an answer makes no sense: the association is aborted."""
        return self._fail(_invalid(), abort=True)

    def _check(self) -> None:
        if not self.is_established:
            raise self._failure or _lost()

    def _fail(self, failure: AssociationError, *, abort: bool = False) -> AssociationError:
        self._failure = failure
        if abort:
            self.abort()
        self.is_established = False
        self._link.close()
        return failure

    def _last_words(self) -> AssociationError:
        """Writing has failed: what the peer said before it went, if anything."""
        try:
            for _attempt in range(8):
                kind, length = self._link.header(time.monotonic() + 0.2)
                if kind == ABORT:
                    return _aborted()
                self._link.body(min(length, MAX_PDU_BYTES), time.monotonic() + 0.2)
        except (LinkTimeoutError, LinkClosedError):
            pass
        return _lost()


def associate(
    proposals: Sequence[Proposal],
    *,
    address: str,
    port: int,
    calling_ae_title: str,
    called_ae_title: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    tls: ssl.SSLContext | None = None,
    reach: Reach = ANYWHERE,
) -> ClientAssociation:
    """Open an association; it may have no accepted context at all. Raises AssociationError, ConfigurationError."""
    request = associate_request(proposals, calling=calling_ae_title, called=called_ae_title)
    link = link_open(address, port, seconds=timeouts.connect_seconds, tls=tls, reach=reach)
    return associate_on(link, request, proposals, timeouts)


def associate_on(link: Link, request: bytes, proposals: Sequence[Proposal], timeouts: Timeouts) -> ClientAssociation:
    """The same on a connection that stands; `request` is the A-ASSOCIATE-RQ of these proposals. Raises
    AssociationError, and the connection is closed.
    """
    try:
        accepted = _negotiate(link, request, proposals, timeouts)
    except LinkTimeoutError as exc:
        link.close()
        raise AssociationError(
            "The peer takes connections but does not answer the association request: check that it speaks DICOM.",
            code="association-timeout",
        ) from exc
    except LinkClosedError as exc:
        link.close()
        raise _unanswered(is_tls=link.is_tls) from exc
    except (NegotiationError, ProtocolViolationError) as exc:
        link.close()
        raise _invalid() from exc
    except BaseException:
        link.close()
        raise
    return ClientAssociation(link, accepted, timeouts)


@contextlib.contextmanager
def association(
    proposals: Sequence[Proposal],
    *,
    address: str,
    port: int,
    calling_ae_title: str,
    called_ae_title: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    tls: ssl.SSLContext | None = None,
    reach: Reach = ANYWHERE,
) -> Iterator[ClientAssociation]:
    """As `associate`, released at the end of the block, aborted when the block raises."""
    opened = associate(
        proposals,
        address=address,
        port=port,
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        timeouts=timeouts,
        tls=tls,
        reach=reach,
    )
    try:
        yield opened
    except BaseException:
        opened.abort()
        raise
    opened.release()


def _negotiate(link: Link, request: bytes, proposals: Sequence[Proposal], timeouts: Timeouts) -> Accepted:
    link.send([request], stall_seconds=timeouts.acse_seconds)
    deadline = time.monotonic() + timeouts.acse_seconds
    kind, length = link.header(deadline)
    if kind not in (ASSOCIATE_AC, ASSOCIATE_RJ, ABORT):
        raise ProtocolViolationError("pdu-unexpected")
    if length > (_ASSOCIATE_BYTES if kind == ASSOCIATE_AC else _CONTROL_BYTES):
        raise ProtocolViolationError("pdu-too-long")
    body = link.body(length, deadline)
    if kind == ASSOCIATE_AC:
        return associate_accept(body, proposals)
    if kind == ASSOCIATE_RJ and length >= 4:
        raise rejection_error(result=body[1], source=body[2], diagnostic=body[3])
    raise _aborted()


def _aborted() -> AssociationError:
    return AssociationError(
        "The peer aborted the association: its log may say why; try again.", code="association-aborted"
    )


def _unanswered(*, is_tls: bool) -> AssociationError:
    """With TLS 1.3 a peer says only after the handshake that it wants a certificate."""
    wants = "wants a certificate of ours and trusts it" if is_tls else "wants TLS, and takes calls from this machine"
    return AssociationError(
        f"The peer closed the connection without an answer: check whether it speaks DICOM on this port, {wants}.",
        code="connection-lost",
    )


def _lost() -> AssociationError:
    return AssociationError("The peer closed the connection: try again.", code="connection-lost")


def _timeout() -> AssociationError:
    return AssociationError(
        "The peer did not answer in time: check that it is not overloaded, or allow more time.",
        code="response-timeout",
    )


def _invalid() -> AssociationError:
    return AssociationError("The peer broke the protocol and the association ended.", code="response-invalid")
