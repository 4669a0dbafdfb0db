"""C-STORE without detours: data sets stream from the connection's buffer into the sink, and nothing else does.

    upper layer's thread: sees a C-STORE-RQ, whole in the buffer, nothing else under way -> gives its turn away
    association's thread: takes it, streams, answers, looks at the next PDU ... -> gives the turn back
    upper layer's thread: handles whatever is not a C-STORE, its bytes untouched

The connection belongs to one of the two threads at a time.
"""

import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from network.dimse import guards
from network.dimse.command import StoreCommand, store_command, store_response
from network.dimse.guards import PDV_HEADER_BYTES, PduTimeoutError, ProtocolViolationError
from network.dimse.ports import StoreSink
from network.dimse.wire import BUFFER_BYTES, PDU_HEADER_BYTES, Interrupted, PeerSocket

if TYPE_CHECKING:
    from network.dimse.association import ReceivingAssociation

LINGER_SECONDS: Final = 0.25
"""How long the association's thread keeps the connection while nothing comes."""
_TURN_SECONDS: Final = 0.05
_PDV: Final = struct.Struct(">LBB")
_COMMAND: Final = 0x01
_LAST: Final = 0x02


@dataclass(frozen=True, slots=True)
class StoreFound:
    """A C-STORE-RQ at the head of the buffer: `consumed` bytes of it, then `pdu_left` of the PDU in which it ends."""

    command: StoreCommand
    context: Any
    context_id: int
    consumed: int
    pdu_left: int


class StoreTurn:
    """The right to use the connection, offered by the upper layer's thread through the queue of messages."""

    def __init__(self, found: StoreFound) -> None:
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


class _OtherPdu(Exception):  # noqa: N818 - nothing is wrong
    """Within a data set came a PDU that is none of ours: it stays in the buffer."""


class FastStore:
    """The C-STORE service of one association; `peek` for the thread whose turn it is, `serve` for the association's."""

    def __init__(
        self, association: "ReceivingAssociation", wire: PeerSocket, *, max_pdu_bytes: int, pdu_seconds: float
    ) -> None:
        self._association = association
        self._wire = wire
        self._max_pdu_bytes = max_pdu_bytes
        self._pdu_seconds = pdu_seconds
        self._pdu_left = 0
        self._pdu_deadline = 0.0

    def peek(self) -> StoreFound | None:
        """The C-STORE-RQ that comes next, or None when something else does, which stays in the buffer untouched.

        Waits until a command set that has begun is whole. Raises PduTimeoutError, OSError, Interrupted, and
        ProtocolViolationError for a PDU that may not be so long.
        """
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
                return self._found(encoded, context_id, at, pdu_left)

    def _peek_pdu(self, at: int, deadline: float) -> int:
        """The length of the P-DATA PDU that begins there; 0 for another."""
        self._wire.need(at + PDU_HEADER_BYTES, deadline)
        kind, length = self._wire.header(at)
        if kind != guards.P_DATA:
            return 0
        guards.pdu_check(kind, length, established=True, max_pdu_bytes=self._max_pdu_bytes)
        return length

    def _found(self, encoded: bytes, context_id: int, consumed: int, pdu_left: int) -> StoreFound | None:
        context = self._association.context_of(context_id)
        command = store_command(encoded) if context is not None else None
        return None if command is None else StoreFound(command, context, context_id, consumed, pdu_left)

    def serve(self, turn: StoreTurn) -> None:
        """Store one object after the other until something else comes, or nothing for a moment. Never raises for what
        a peer does.
        """
        found: StoreFound | None = turn.found
        try:
            while found is not None:
                self._serve_one(found)
                found = self._next()
        except (Interrupted, _OtherPdu):
            pass  # the upper layer has something to write, or to read
        except ProtocolViolationError as violation:
            self._association.violated(violation)
        except OSError:
            self._association.dul.connection_ended()

    def _next(self) -> StoreFound | None:
        """What comes next if it comes soon, and the association is not to end."""
        association = self._association
        if association.server.is_stopping:
            association.end("stopping")
        if association.dul.wants_to_write or self._wire.send_timed_out or not self._wire.wait(LINGER_SECONDS):
            return None
        return self.peek()

    def _serve_one(self, found: StoreFound) -> None:
        association = self._association
        association.is_serving = True
        self._wire.take(found.consumed)
        self._pdu_left = found.pdu_left
        self._pdu_deadline = time.monotonic() + self._pdu_seconds
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
        association.served()

    def _stream(self, sink: StoreSink, context_id: int) -> int:
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

    def _fragment(self, sink: StoreSink, left: int) -> None:
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
