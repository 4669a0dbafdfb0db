"""C-STORE without detours: data sets stream from the connection's buffer into the sink. C-FIND goes the same way.

    upper layer's thread: sees a C-STORE-RQ, whole in the buffer, nothing else under way -> gives its turn away
    association's thread: takes it, streams, answers, looks at the next PDU ... -> gives the turn back
    upper layer's thread: handles whatever is neither, its bytes untouched

The connection belongs to one of the two threads at a time.
"""

import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from network.dimse import guards
from network.dimse.command import StoreCommand, store_command, store_response
from network.dimse.find_service import End, FindFound, FindService, IdentifierSink
from network.dimse.guards import PDV_HEADER_BYTES, PduTimeoutError, ProtocolViolationError
from network.dimse.normalized.command import normalized_command
from network.dimse.normalized.ports import SERVED, NormalizedPort
from network.dimse.normalized_service import DATA_BYTES, NormalizedFound, NormalizedService
from network.dimse.query.command import cancelled_id, find_command
from network.dimse.query.ports import FindPort
from network.dimse.query.question import MODELS
from network.dimse.retrieve.command import retrieve_command
from network.dimse.retrieve.models import FIND_MODEL
from network.dimse.retrieve.ports import RetrievePort
from network.dimse.retrieve_service import RetrieveFound, RetrieveService
from network.dimse.wire import BUFFER_BYTES, PDU_HEADER_BYTES, Interrupted, PeerSocket

if TYPE_CHECKING:
    from network.dimse.association import ReceivingAssociation

LINGER_SECONDS: Final = 0.25
"""How long the association's thread keeps the connection while nothing comes."""
_TURN_SECONDS: Final = 0.05
_PDV: Final = struct.Struct(">LBB")
_COMMAND: Final = 0x01
_LAST: Final = 0x02
_ABORT: Final = 0x07


@dataclass(frozen=True, slots=True)
class StoreFound:
    """A C-STORE-RQ at the head of the buffer: `consumed` bytes of it, then `pdu_left` of the PDU in which it ends."""

    command: StoreCommand
    context: Any
    context_id: int
    consumed: int
    pdu_left: int


@dataclass(frozen=True, slots=True)
class Peeked:
    """A whole command set at the head of the buffer, which stays there."""

    encoded: bytes
    context_id: int
    consumed: int
    pdu_left: int


Found = StoreFound | FindFound | RetrieveFound | NormalizedFound


@dataclass(frozen=True)
class ServicePorts:
    """The services beside C-STORE; None where there is none."""

    find: FindPort | None = None
    retrieve: RetrievePort | None = None
    normalized: NormalizedPort | None = None


NO_SERVICES: Final = ServicePorts()


class StoreTurn:
    """The right to use the connection, offered by the upper layer's thread through the queue of messages."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self._lock = threading.Lock()
        self._claimed = False
        self._over = threading.Event()

    def claim(self) -> bool:
        """Whoever hears True first has the turn: the association by serving, the upper layer by withdrawing."""
        with self._lock:
            claimed, self._claimed = self._claimed, True
            return not claimed

    def end(self) -> None:
        """The connection is the upper layer's again."""
        self._over.set()

    def wait(self) -> bool:
        """Whether it is over; waits a moment."""
        return self._over.wait(_TURN_SECONDS)


class _Taker(Protocol):
    """Takes a data set while it arrives."""

    def write(self, data: memoryview) -> None: ...


class _OtherPdu(Exception):  # noqa: N818 - nothing is wrong
    """Within a data set came a PDU that is none of ours: it stays in the buffer."""


class FastStore:
    """The C-STORE service of one association, and what `ports` serve beside it; `peek` for the thread whose turn
    it is, `serve` for the association's.
    """

    def __init__(
        self,
        association: "ReceivingAssociation",
        wire: PeerSocket,
        *,
        max_pdu_bytes: int,
        pdu_seconds: float,
        ports: ServicePorts = NO_SERVICES,
    ) -> None:
        self._association = association
        self._wire = wire
        self._max_pdu_bytes = max_pdu_bytes
        self._pdu_seconds = pdu_seconds
        self._pdu_left = 0
        self._pdu_deadline = 0.0
        self._find = FindService(association, wire, self, ports.find) if ports.find else None
        self._retrieve = RetrieveService(association, wire, self, ports.retrieve) if ports.retrieve else None
        self._normalized = NormalizedService(association, wire, self, ports.normalized) if ports.normalized else None

    def peek(self) -> Found | None:
        """The C-STORE-RQ or C-FIND-RQ that comes next, or None when something else does, which stays in the buffer
        untouched.

        Waits until a command set that has begun is whole. Raises PduTimeoutError, OSError, Interrupted, and
        ProtocolViolationError for a PDU that may not be so long.
        """
        peeked = self.peek_command()
        return None if peeked is None else self._found(peeked)

    def interruption(self, message_id: int) -> End:
        """What the peer has said while it is answered: a C-CANCEL-RQ is taken, which counts when it is of this message
        (PS3.7 9.3.2.3); all else stays.
        """
        if not self._wire.wait(0.0):
            return ""
        self._wire.need(PDU_HEADER_BYTES, time.monotonic() + self._pdu_seconds)
        if self._wire.header()[0] == _ABORT:
            return "gone"
        peeked = self.peek_command()
        cancelled = None if peeked is None or peeked.pdu_left else cancelled_id(peeked.encoded)
        if peeked is None or cancelled is None:
            return ""
        self._wire.take(peeked.consumed)
        return "cancelled" if cancelled == message_id else ""

    def peek_command(self) -> Peeked | None:
        """The command set that comes next, or None when something else does; neither is taken. Errors as of `peek`."""
        wire = self._wire
        deadline = time.monotonic() + self._pdu_seconds
        encoded = b""
        at = pdu_left = 0
        while True:
            if not pdu_left:
                pdu_left = self._peek_pdu(at, deadline)
                at += PDU_HEADER_BYTES
            if pdu_left < PDV_HEADER_BYTES:
                return None
            wire.need(at + PDV_HEADER_BYTES, deadline)
            item_bytes, context_id, control = _PDV.unpack(wire.peek(at, PDV_HEADER_BYTES))
            size = item_bytes - 2
            at += PDV_HEADER_BYTES
            pdu_left -= PDV_HEADER_BYTES + size
            if not control & _COMMAND or size < 0 or pdu_left < 0:
                return None
            if len(encoded) + size > guards.COMMAND_BYTES or at + size + PDU_HEADER_BYTES > BUFFER_BYTES:
                return None
            wire.need(at + size, deadline)
            encoded += wire.peek(at, size)
            at += size
            if control & _LAST:
                return Peeked(encoded, context_id, at, pdu_left)

    def _peek_pdu(self, at: int, deadline: float) -> int:
        """The length of the P-DATA PDU that begins there; 0 for another."""
        self._wire.need(at + PDU_HEADER_BYTES, deadline)
        kind, length = self._wire.header(at)
        if kind != guards.P_DATA:
            return 0
        guards.pdu_check(kind, length, established=True, max_pdu_bytes=self._max_pdu_bytes)
        return length

    def _found(self, peeked: Peeked) -> Found | None:
        context = self._association.context_of(peeked.context_id)
        if context is None:
            return None
        where = context, peeked.context_id, peeked.consumed, peeked.pdu_left
        store = store_command(peeked.encoded)
        if store is not None:
            return StoreFound(store, *where)
        abstract = str(context.abstract_syntax)
        if self._find is not None and abstract in MODELS:
            find = find_command(peeked.encoded)
            return None if find is None else FindFound(find, *where)
        if self._retrieve is not None and abstract in FIND_MODEL:
            retrieve = retrieve_command(peeked.encoded)
            return None if retrieve is None else RetrieveFound(retrieve, *where)
        if self._normalized is not None and abstract in SERVED:
            normalized = normalized_command(peeked.encoded)
            return None if normalized is None else NormalizedFound(normalized, *where)
        return None

    def serve(self, turn: StoreTurn) -> None:
        """Store one object after the other until something else comes, or nothing for a moment. Never raises for what
        a peer does.
        """
        found: Found | None = turn.found
        try:
            while found is not None:
                self._association.is_serving = True
                self._wire.take(found.consumed)
                self._pdu_left = found.pdu_left
                self._pdu_deadline = time.monotonic() + self._pdu_seconds
                if isinstance(found, StoreFound):
                    self._serve_store(found)
                else:
                    self._serve_other(found)
                self._association.served()
                found = self._next()
        except (Interrupted, _OtherPdu):
            pass  # the upper layer has something to write, or to read
        except ProtocolViolationError as violation:
            self._association.violated(violation)
        except OSError:
            self._association.dul.connection_ended()

    def _next(self) -> Found | None:
        """What comes next if it comes soon, and the association is not to end."""
        association = self._association
        if association.server.is_stopping:
            association.end("stopping")
        if association.dul.wants_to_write or self._wire.send_timed_out or not self._wire.wait(LINGER_SECONDS):
            return None
        return self.peek()

    def _serve_other(self, found: FindFound | RetrieveFound | NormalizedFound) -> None:
        """What has its data set in memory; an N-ACTION or N-SET may come without one."""
        normalized = isinstance(found, NormalizedFound)
        gathered = IdentifierSink(DATA_BYTES) if normalized else IdentifierSink()
        if not isinstance(found, NormalizedFound) or found.command.has_data:
            self._stream(gathered, found.context_id)
        elif found.pdu_left:
            raise ProtocolViolationError("data-set-unannounced")
        if isinstance(found, FindFound) and self._find is not None:
            self._find.serve(found, gathered)
        elif isinstance(found, RetrieveFound) and self._retrieve is not None:
            self._retrieve.serve(found, gathered)
        elif isinstance(found, NormalizedFound) and self._normalized is not None:
            self._normalized.serve(found, gathered)

    def _serve_store(self, found: StoreFound) -> None:
        association = self._association
        sink = association.sink_for(found.command, found.context, found.context_id)
        try:
            size = self._stream(sink, found.context_id)
            result = sink.commit()
        finally:
            sink.abort()
        association.object_ended(result, size)
        response = store_response(
            found.command,
            context_id=found.context_id,
            status=result.status,
            comment=result.comment,
            max_pdu_bytes=association.requestor.maximum_length or 0,
        )
        self._wire.send(response)

    def _stream(self, sink: "_Taker", context_id: int) -> int:
        """Every fragment of the data set to the sink, until the last; how many bytes they were."""
        wire, size = self._wire, 0
        while True:
            if not self._pdu_left:
                self._next_pdu()
            if self._pdu_left < PDV_HEADER_BYTES:
                raise ProtocolViolationError("pdv-length")
            wire.need(PDV_HEADER_BYTES, self._pdu_deadline)
            item_bytes: int
            item_bytes, item_context_id, control = _PDV.unpack(wire.take(PDV_HEADER_BYTES))
            guards.pdv_check(item_bytes, item_context_id, left_bytes=self._pdu_left, contexts=(context_id,))
            if control & _COMMAND:
                raise ProtocolViolationError("data-set-missing")
            fragment_bytes = item_bytes - 2
            self._fragment(sink, fragment_bytes)
            size += fragment_bytes
            self._pdu_left -= PDV_HEADER_BYTES + fragment_bytes
            if control & _LAST:
                if self._pdu_left:
                    raise ProtocolViolationError("data-set-unannounced")
                return size

    def _fragment(self, sink: "_Taker", left: int) -> None:
        wire = self._wire
        while left:
            if not wire.buffered:
                wire.fill(self._pdu_deadline)
            piece = wire.take(left)
            sink.write(piece)
            left -= len(piece)

    def _next_pdu(self) -> None:
        """The header of the next P-DATA PDU, which may be as long in coming as an association may be silent."""
        wire = self._wire
        now = time.monotonic()
        if not wire.buffered:
            try:
                wire.fill(now + self._association.silence_seconds)
            except PduTimeoutError as timeout:
                raise PduTimeoutError("idle") from timeout
            now = time.monotonic()
        self._pdu_deadline = now + self._pdu_seconds
        wire.need(PDU_HEADER_BYTES, self._pdu_deadline)
        kind, length = wire.header()
        if kind != guards.P_DATA:
            raise _OtherPdu
        guards.pdu_check(kind, length, established=True, max_pdu_bytes=self._max_pdu_bytes)
        if not length:
            raise ProtocolViolationError("pdv-missing")
        wire.take(PDU_HEADER_BYTES)
        self._pdu_left = length
