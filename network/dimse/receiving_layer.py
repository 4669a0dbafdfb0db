"""The upper layer of an association that receives: every PDU has a length and a deadline before it is read.

It waits for what happens instead of polling, and gives C-STOREs to the association to serve. PS3.8 section 9.
"""

import contextlib
import logging
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pynetdicom.pdu import A_ABORT_RQ

from network.dimse import guards
from network.dimse.fast_store import StoreTurn
from network.dimse.guards import MessageGuard, MonotonicTimer, PduTimeoutError, ProtocolViolationError
from network.dimse.upper_layer import SERVICE_PROVIDER, ObservedStateMachine, UpperLayer
from network.dimse.wire import PDU_HEADER_BYTES, Interrupted

if TYPE_CHECKING:
    from network.dimse.wire import PeerSocket

logger = logging.getLogger(__name__)
_CONNECTION_CLOSED: Final = "Evt17"
_ARTIM_EXPIRED: Final = "Evt18"
_INVALID_PDU: Final = "Evt19"
_PDU_RECEIVED: Final = frozenset({"Evt3", "Evt4", "Evt6", "Evt10", "Evt12", "Evt13"})
_IDLE: Final = "Sta1"
_AWAITING_REQUEST: Final = "Sta2"
_DATA_TRANSFER: Final = "Sta6"
_AWAITING_CLOSE: Final = "Sta13"
_NOT_WAITING: Final = frozenset({_IDLE, _AWAITING_CLOSE})
_LOOK_SECONDS: Final = 0.001
_DISCARDED_BYTES: Final = 65_536
IDLE_SECONDS: Final = 0.1
"""The longest that timers go unlooked at."""
TURN_SECONDS: Final = 0.25
"""The longest that the association's thread looks at nothing."""


class Checkpoint(threading.Event):
    """Where pynetdicom's loop passes once a turn: it waits here for something to happen, instead of polling."""

    def __init__(self) -> None:
        super().__init__()
        self._happened = threading.Event()

    def happened(self) -> None:
        """The next turn comes at once."""
        self._happened.set()

    def set(self) -> None:
        super().set()
        self.happened()

    def wait(self, timeout: float | None = None) -> bool:
        self._happened.wait(TURN_SECONDS)
        self._happened.clear()
        return super().wait(timeout)


class _ReceivingStateMachine(ObservedStateMachine):
    def do_action(self, event: str) -> None:
        if event in _PDU_RECEIVED:  # should the state machine answer with an A-ABORT, then because of this
            self.dul.abort_reason = guards.REASON_UNEXPECTED_PDU
        super().do_action(event)
        self.dul.assoc.something_happened()


class ReceivingUpperLayer(UpperLayer):
    """The thread that reads and writes the connection, unless it has given its turn away.

    What a peer may not say is answered with an A-ABORT and counted, without a traceback. `socket` is a PeerSocket.
    """

    socket: "PeerSocket"

    def __init__(self, assoc: Any, *, max_pdu_bytes: int, pdu_seconds: float, message_bytes: int) -> None:
        super().__init__(assoc)
        self.state_machine = _ReceivingStateMachine(self)
        self.artim_timer = MonotonicTimer(30)
        self._idle_timer = MonotonicTimer(60)
        self.abort_reason = 0x00
        self._max_pdu_bytes = max_pdu_bytes
        self._pdu_seconds = pdu_seconds
        self._messages = MessageGuard(message_bytes=message_bytes)

    @property
    def _run_loop_delay(self) -> float:
        """What pynetdicom sleeps between two looks: nothing where `_await_bytes` waits for what happens."""
        state_machine = getattr(self, "state_machine", None)
        return _LOOK_SECONDS if state_machine is None or state_machine.current_state in _NOT_WAITING else 0.0

    @_run_loop_delay.setter
    def _run_loop_delay(self, seconds: float) -> None:
        """pynetdicom's own idea of it."""

    # -- called by other threads

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits to be written, or the thread is to end."""
        return self._kill_thread or not self.to_provider_queue.empty()

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self._wake()

    def kill_dul(self) -> None:
        super().kill_dul()
        self._wake()

    def stop_dul(self) -> bool:
        self._wake()
        return bool(super().stop_dul())

    def _wake(self) -> None:
        if self.socket is not None:
            self.socket.waker.wake()

    def restart_idle_timer(self) -> None:
        """A peer that waited for us has not been idle."""
        self._idle_timer.restart()

    def violated(self, violation: ProtocolViolationError) -> None:
        """End the association with an A-ABORT that says so; what the peer still sends is thrown away."""
        self.abort_reason = violation.abort_reason
        self.assoc.note_violation(violation)
        self.socket.discard()
        silent = isinstance(violation, PduTimeoutError) and self.state_machine.current_state == _AWAITING_REQUEST
        self.event_queue.put(_ARTIM_EXPIRED if silent else _INVALID_PDU)

    def connection_ended(self) -> None:
        """Nothing can follow on this connection."""
        self.event_queue.put(_CONNECTION_CLOSED)

    # -- the thread itself

    def run_reactor(self) -> None:
        """Run until the connection is over; never raises."""
        super().run_reactor()
        self.assoc.something_happened()

    def _gave_up(self, exc: Exception) -> None:
        state = self.state_machine.current_state
        logger.info("upper layer gave up", extra={"exception": type(exc).__name__, "state": state})
        self.assoc.note_violation(ProtocolViolationError("message-garbled"))

    def _is_transport_event(self) -> bool:
        state = self.state_machine.current_state
        if state == _AWAITING_CLOSE:
            return super()._is_transport_event()
        if not self._await_bytes():
            return False
        if state == _DATA_TRANSFER and self.assoc.fast_store is not None:
            return self._serve_or_read()
        self._read_pdu_data()
        return True

    def _await_bytes(self) -> bool:
        """Whether there is something to read; waits for it unless there is something else to do."""
        if self.socket is None or self.socket.socket is None:
            return False
        if not self.event_queue.empty() or self.state_machine.current_state == _IDLE:
            return False  # what has happened comes before what happens next
        if self.wants_to_write:
            return self.socket.ready
        return self.socket.wait(max(0.0, min(IDLE_SECONDS, self.artim_timer.remaining)))

    def _serve_or_read(self) -> bool:
        """A C-STORE is the association's to serve, once it serves nothing else; anything else is read here."""
        if self.assoc.dimse.message is None:
            try:
                found = self.assoc.fast_store.peek()
            except Interrupted:
                return False
            except ProtocolViolationError as violation:
                self.violated(violation)
                return True
            except OSError:
                self.connection_ended()
                return True
            if found is not None:
                return self._give_turn(StoreTurn(found)) if self.assoc.may_take_turn else self._not_yet()
        self._read_pdu_data()
        return True

    def _not_yet(self) -> bool:
        """The association is still busy with something else; only looking again can tell when it is not."""
        time.sleep(_LOOK_SECONDS)
        return False

    def _give_turn(self, turn: StoreTurn) -> bool:
        self.assoc.dimse.msg_queue.put((turn.found.context_id, turn))
        self.assoc.something_happened()
        while not turn.wait():
            if self.wants_to_write and turn.claim():
                return False
        return True

    def _peer_has_closed(self, until: float) -> bool:
        """Read and forget what waits; True when nothing can follow, or the peer does not stop."""
        connection = self.socket.socket
        if connection is None:
            return True
        self.socket.discard()
        try:
            while connection.recv(_DISCARDED_BYTES):
                if time.monotonic() >= until:
                    return True
        except BlockingIOError:
            return False
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            return True
        return True

    def _read_pdu_data(self) -> None:
        """One PDU, checked by its header before the rest is read, and by its content before it is decoded."""
        try:
            pdu = self._guarded_pdu()
            decoded, event = self._decode_pdu(pdu)
        except ProtocolViolationError as violation:
            self.violated(violation)
        except OSError:
            self.connection_ended()
        except Exception:  # noqa: BLE001 - pynetdicom's decoders raise anything; a peer's bytes are no fault of ours
            self.violated(ProtocolViolationError("pdu-garbled"))
        else:
            self.event_queue.put(event)
            self._recv_pdu.put(decoded)

    def _guarded_pdu(self) -> bytearray:
        wire = self.socket
        state = self.state_machine.current_state
        if state == _AWAITING_REQUEST:
            deadline = time.monotonic() + max(0.0, self.artim_timer.remaining)
        else:
            deadline = time.monotonic() + self._pdu_seconds
        head = _uninterrupted(wire, PDU_HEADER_BYTES, deadline)
        kind, length = head[0], int.from_bytes(head[2:], "big")
        established = state != _AWAITING_REQUEST
        guards.pdu_check(kind, length, established=established, max_pdu_bytes=self._max_pdu_bytes)
        body = _uninterrupted(wire, length, deadline)
        if kind == guards.P_DATA:
            self._messages.feed(body, self.assoc.accepted_ids)
        elif kind == guards.A_ASSOCIATE_RQ and not established:
            guards.associate_request_check(body)
        return head + body

    def _send(self, pdu: Any) -> None:
        if isinstance(pdu, A_ABORT_RQ) and pdu.source == SERVICE_PROVIDER:
            pdu.reason_diagnostic = self.abort_reason
        super()._send(pdu)


def _uninterrupted(wire: "PeerSocket", size: int, deadline: float) -> bytearray:
    """Exactly so many bytes; what our side wants to write waits until the PDU is whole, or its deadline."""
    found = bytearray()
    while len(found) < size:
        if not wire.buffered:
            with contextlib.suppress(Interrupted):
                wire.fill(deadline)
        found += wire.take(size - len(found))
    return found
