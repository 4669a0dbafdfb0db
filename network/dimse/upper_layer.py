"""pynetdicom's upper layer (PS3.8 section 9.2), made to end quietly and to remember how the association ended."""

import contextlib
import logging
import time
from typing import Any

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ

logger = logging.getLogger(__name__)
SERVICE_PROVIDER = 0x02
_A_ABORT_RECEIVED = "Evt16"
_CONNECTION_CLOSED = "Evt17"
_AWAITING_CLOSE = "Sta13"
_DISCARDED_BYTES = 65_536
LINGER_SECONDS = 1.0


class ObservedStateMachine(StateMachine):
    """Notes that the connection was lost, and not closed because the association was over."""

    def do_action(self, event: str) -> None:
        if event == _CONNECTION_CLOSED and self.current_state != _AWAITING_CLOSE:
            self.dul.connection_lost = True
        super().do_action(event)


class UpperLayer(DULServiceProvider):
    """The thread that reads and writes the connection; it never keeps the process alive.

    What pynetdicom cannot digest (a garbled command set ends its thread with a traceback) is answered with an A-ABORT.
    """

    def __init__(self, assoc: Any) -> None:
        super().__init__(assoc)
        self.daemon = True
        self.state_machine = ObservedStateMachine(self)
        self.connection_lost = False
        self._linger_until = 0.0
        self.abort_received = False
        self.abort_sent = False

    def run_reactor(self) -> None:
        """Run until the connection is over; never raises."""
        try:
            super().run_reactor()
        except Exception as exc:  # noqa: BLE001 - the outermost loop of a connection
            self._gave_up(exc)
            pdu = A_ABORT_RQ()
            pdu.source = SERVICE_PROVIDER
            pdu.reason_diagnostic = 0x00
            with contextlib.suppress(OSError):
                self._send(pdu)
            self.kill_dul()
        finally:
            # Whoever waits for the peer's next primitive or message need not wait for its timeout: none will come.
            self.to_user_queue.put(None)
            self.assoc.dimse.msg_queue.put((None, None))

    def _gave_up(self, exc: Exception) -> None:
        extra = {"exception": type(exc).__name__, "state": self.state_machine.current_state}
        logger.warning("upper layer gave up on a connection", extra=extra)

    def _is_transport_event(self) -> bool:
        """After our last PDU the peer has a moment to read it and to close; what it still says is thrown away.

        pynetdicom parses it, and so may wait for a PDU that never ends; and it closes at once, upon which TCP may take
        back what the peer has not read: the response to its last object, or the reason why it was refused.
        """
        if self.state_machine.current_state != _AWAITING_CLOSE or self.socket is None:
            return bool(super()._is_transport_event())
        now = time.monotonic()
        self._linger_until = self._linger_until or now + LINGER_SECONDS
        if now >= self._linger_until or self._peer_has_closed(self._linger_until):
            self.socket.close()
            self.event_queue.put(_CONNECTION_CLOSED)
            return True
        return False

    def _peer_has_closed(self, until: float) -> bool:
        """Read and forget what waits; True when nothing can follow, or the peer does not stop."""
        connection = self.socket.socket
        if connection is None:
            return True
        try:
            while self.socket.ready:
                if not connection.recv(_DISCARDED_BYTES) or time.monotonic() >= until:
                    return True
        except OSError:
            return True
        return False

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        pdu, event = super()._decode_pdu(bytestream)
        if event == _A_ABORT_RECEIVED:
            self.abort_received = True
        return pdu, event

    def _send(self, pdu: Any) -> None:
        if isinstance(pdu, A_ABORT_RQ):
            self.abort_sent = True
        super()._send(pdu)
