"""Normalised operations on the wire: the request is gathered, answered, and what it sets in motion is reported on the
same association when the peer still waits for it (PS3.4 J.3.3).
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from network.dimse import statuses
from network.dimse.command import NO_DATA_SET, command_elements, command_short
from network.dimse.find_service import IdentifierSink
from network.dimse.guards import ProtocolViolationError
from network.dimse.normalized.command import NormalizedCommand, event_encode, response_encode
from network.dimse.normalized.ports import Event, NormalizedPort, NormalizedReply, NormalizedRequest
from network.dimse.scu.fragments import data_pdus
from network.dimse.scu.messages import COMMAND_FIELD, DATA_SET_TYPE, N_EVENT_REPORT_RSP, RESPONDED_TO, STATUS

if TYPE_CHECKING:
    from network.dimse.association import ReceivingAssociation
    from network.dimse.fast_store import FastStore
    from network.dimse.wire import PeerSocket

DATA_BYTES: Final = 8 << 20
"""Of a request's data set: about 60,000 references."""
EVENT_ANSWER_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class NormalizedFound:
    """A request at the head of the buffer: `consumed` bytes of it, then `pdu_left` of the PDU in which it ends."""

    command: NormalizedCommand
    context: Any
    context_id: int
    consumed: int
    pdu_left: int


class NormalizedService:
    """Serves the normalised requests of one association, in its own thread, while the connection is its turn."""

    def __init__(
        self, association: "ReceivingAssociation", wire: "PeerSocket", fast: "FastStore", port: NormalizedPort
    ) -> None:
        self._association, self._wire, self._fast, self._port = association, wire, fast, port
        self._message_id = 0

    def serve(self, found: NormalizedFound, data: IdentifierSink) -> None:
        """The response, and the event that follows from it. Raises only for the connection."""
        reply = self._reply(found, data)
        self._send(found.context_id, response_encode(found.command, reply), None)
        if reply.event is not None and reply.event_ended is not None:
            self._report(found, reply)

    def _reply(self, found: NormalizedFound, data: IdentifierSink) -> NormalizedReply:
        command = found.command
        if command.sop_class_uid != str(found.context.abstract_syntax):
            return NormalizedReply(statuses.SOP_CLASS_NOT_SUPPORTED, comment="not the SOP class of this context")
        if data.is_too_long:
            return NormalizedReply(statuses.RESOURCE_LIMITATION, comment="data set too long")
        request = NormalizedRequest(
            peer=self._association.known_peer(),
            operation=command.operation,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=str(found.context.transfer_syntax[0]),
            type_id=command.type_id,
        )
        try:
            return self._port.serve(request, bytes(data.encoded))
        except Exception as exc:  # noqa: BLE001 - whatever failed, the peer must hear that it did
            self._association.log_failure("port failed on a normalised request", exc)
            return NormalizedReply(statuses.PROCESSING_FAILURE, comment="failed here: try again")

    def _report(self, found: NormalizedFound, reply: NormalizedReply) -> None:
        """Tell the port whether the peer has taken the event, whatever becomes of the connection."""
        delivered = False
        try:
            event = reply.event() if reply.event is not None else None
            if event is None:
                return
            delivered = self._deliver(found.context_id, event)
        except (ProtocolViolationError, OSError):
            raise
        except Exception as exc:  # noqa: BLE001 - it is reported later, in another way
            self._association.log_failure("event not reported", exc)
        finally:
            self._ended(reply, delivered=delivered)

    def _ended(self, reply: NormalizedReply, *, delivered: bool) -> None:
        try:
            if reply.event_ended is not None:
                reply.event_ended(delivered)
        except Exception as exc:  # noqa: BLE001 - it is reported once more
            self._association.log_failure("port failed on an event", exc)

    def _deliver(self, context_id: int, event: Event) -> bool:
        """Whether the peer has answered the event with success. What else it says stays in the buffer."""
        self._message_id = self._message_id % 0xFFFF + 1
        command = event_encode(
            message_id=self._message_id,
            sop_class_uid=event.sop_class_uid,
            sop_instance_uid=event.sop_instance_uid,
            type_id=event.type_id,
        )
        self._send(context_id, command, event.data)
        deadline = time.monotonic() + EVENT_ANSWER_SECONDS
        while not self._wire.wait(0.5):
            over = self._association.dul.wants_to_write or self._association.connection_is_over
            if over or time.monotonic() >= deadline:
                return False
        peeked = self._fast.peek_command()
        if peeked is None or peeked.pdu_left:
            return False
        elements = command_elements(peeked.encoded)
        answers = command_short(elements, COMMAND_FIELD) == N_EVENT_REPORT_RSP
        if not answers or command_short(elements, RESPONDED_TO) != self._message_id:
            return False
        if command_short(elements, DATA_SET_TYPE) not in (None, NO_DATA_SET):
            raise ProtocolViolationError("message-order")
        self._wire.take(peeked.consumed)
        return command_short(elements, STATUS) == statuses.SUCCESS

    def _send(self, context_id: int, command: bytes, data: bytes | None) -> None:
        limit = self._association.requestor.maximum_length or 0
        buffers = data_pdus(command, context_id, limit, command=True)
        if data is not None:
            buffers += data_pdus(data, context_id, limit)
        self._wire.send(b"".join(buffers))
