"""One association with a peer that called us: pynetdicom's negotiation and state machine, our store service.

Leans on internals of pynetdicom 3.0.4, which is pinned; tests fail when they move.
"""

import contextlib
import logging
import socket
import traceback
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_CANCEL, C_ECHO, C_STORE

from network.dimse import guards, statuses
from network.dimse.channel import Report, Ticket
from network.dimse.command import StoreCommand
from network.dimse.contexts import VERIFICATION
from network.dimse.fast_store import FastStore, StoreTurn
from network.dimse.find_service import extended_answer
from network.dimse.guards import ProtocolViolationError
from network.dimse.negotiation import ReceivingACSE, ReceivingDIMSE
from network.dimse.ports import AssociationSummary, Outcome, Peer, StoreRequest, StoreResult, StoreSink
from network.dimse.receiving_layer import Checkpoint, ReceivingUpperLayer
from network.dimse.rights import Rights
from network.dimse.sinks import FAILED, GuardedSink, RefusingSink
from network.dimse.tally import Tally
from network.dimse.wire import PeerSocket

if TYPE_CHECKING:
    from network.dimse.receiver import ReceiverServer

logger = logging.getLogger(__name__)
COMMENT_CHARACTERS = 64
END_SECONDS = 2.0
PIECE_BYTES = 1 << 20


class ReceivingAssociation(Association):
    """One connection that the acceptor passed to us, from its first byte to its last; a thread of its own.

    The port hears of its end exactly once if there was an A-ASSOCIATE-RQ, whichever way this thread leaves.
    """

    def __init__(self, server: "ReceiverServer", ticket: Ticket, connection: socket.socket) -> None:
        super().__init__(server.ae, "acceptor")
        self.server = server
        self.ticket = ticket
        self.connection = connection
        self.association_id = uuid.uuid4().hex
        self.peer: Peer | None = None
        self.tally = Tally()
        self.end_reason = ""
        self.is_serving = False
        self.fast_store: FastStore | None = None
        self._server = server
        self._context_uids: dict[int, tuple[str, str]] = {}  # transfer and abstract syntax, once agreed upon
        self._released = False
        self._told_opened = False
        config = server.config
        self._reactor_checkpoint = Checkpoint()
        self._reactor_checkpoint.set()
        self.acse = ReceivingACSE(self)
        self.dul = ReceivingUpperLayer(
            self,
            max_pdu_bytes=config.max_pdu_bytes,
            pdu_seconds=config.dimse_seconds,
            message_bytes=guards.MESSAGE_BYTES if config.fast else 0,
        )
        self.dimse = ReceivingDIMSE(self)
        self.acse_timeout = config.acse_seconds
        self.network_timeout = config.network_seconds

    @property
    def is_busy(self) -> bool:
        """True from the command of an object (or of anything else) until its response is on its way."""
        return self.is_serving or self.dimse.message is not None or not self.dimse.msg_queue.empty()

    @property
    def may_take_turn(self) -> bool:
        """True when the port has heard of the association and nothing else is under way."""
        return self._told_opened and not self.is_serving and self.dimse.msg_queue.empty()

    @property
    def silence_seconds(self) -> float:
        """How long the peer may say nothing."""
        return self.server.config.network_seconds

    @property
    def accepted_ids(self) -> Collection[int]:
        """The presentation contexts in which there may be messages."""
        ids: Collection[int] = self._accepted_cx
        return ids

    def context_of(self, context_id: int) -> Any:
        """The accepted presentation context, or None."""
        return self._accepted_cx.get(context_id)

    def set_socket(self, wire: PeerSocket) -> None:
        """The connection, once; the fast path is installed with it."""
        super().set_socket(wire)
        config = self.server.config
        if config.fast:
            self.fast_store = FastStore(
                self,
                wire,
                max_pdu_bytes=config.max_pdu_bytes,
                pdu_seconds=config.dimse_seconds,
                ports=self.server.ports,
            )

    @property
    def connection_is_over(self) -> bool:
        """Whether a write has failed, so that nobody reads what is written."""
        return self.dul.socket is None or not self.dul.event_queue.empty()

    def extended_negotiation(self, sop_class_uid: str) -> bytes:
        """What was agreed for this SOP class; empty when nothing was."""
        asked = self.requestor.sop_class_extended.get(sop_class_uid)
        return (extended_answer(sop_class_uid, asked) or b"") if asked else b""

    def something_happened(self) -> None:
        """This association's thread need not wait: from the upper layer's thread."""
        self._reactor_checkpoint.happened()

    def note_violation(self, violation: ProtocolViolationError) -> None:
        """The reason why this association is about to be aborted; counted."""
        self.end_reason = self.end_reason or violation.code
        guards.VIOLATIONS.add(violation.code, address=self.ticket.address)

    def violated(self, violation: ProtocolViolationError) -> None:
        """End the association because the peer broke a rule."""
        self.dul.violated(violation)

    def end(self, reason: str) -> None:
        """Abort from another thread without waiting, unless it ends already; an object that is not yet answered is
        not acknowledged.
        """
        if self.is_established:
            self.end_reason = self.end_reason or reason
            self._abort_blocking(block=False)
        elif self.peer is None:
            self.disconnect()

    def disconnect(self) -> None:
        """Cut the connection now; whatever waits on it returns."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's: it would go on in clear with whatever another thread is just sending.
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def run_reactor(self) -> None:
        """Serve the association; the port, the acceptor and the server hear of its end on every path."""
        try:
            super().run_reactor()
        except Exception as exc:  # noqa: BLE001 - the outermost loop of an association
            self.log_failure("association failed", exc)
            self.end_reason = self.end_reason or "internal-error"
        finally:
            self._finish()

    def peer_known(self) -> None:
        """An A-ASSOCIATE-RQ has come: from here on the port hears of the end."""
        request = self.requestor.primitive
        self.peer = Peer(
            association_id=self.association_id,
            calling_ae_title=request.calling_ae_title.strip(),
            called_ae_title=request.called_ae_title.strip(),
            address=self.ticket.address,
            port=self.ticket.port,
            tls=self.ticket.tls,
        )
        self.tally = Tally()

    def rights_known(self, rights: Rights) -> None:
        """It is admitted, and may do this from now on."""
        self.peer = replace(self.known_peer(), rights=rights)

    def releasing(self) -> None:
        """The peer has asked for the release, and waits for the answer."""
        self._released = True
        if self.tally.objects_stored:
            self._tell_port(self.server.port.association_releasing, self.known_peer())
        self.server.reporter.report(self._report("over"))

    def _tell_closed(self) -> None:
        """Tell the port of the end, if there was an association."""
        if self.peer is None:
            return
        outcome, reason = self._outcome()
        tally = self.tally
        summary = AssociationSummary(
            outcome=outcome,
            objects_stored=tally.objects_stored,
            objects_refused=tally.objects_refused,
            bytes_received=tally.bytes_received,
            opened_at=tally.opened_at,
            closed_at=datetime.now(UTC),
            reason=reason,
        )
        self._tell_port(self.server.port.association_closed, self.peer, summary)

    def _run_reactor(self) -> None:
        self._tell_port(self.server.port.association_opened, self.known_peer())
        self.server.reporter.report(self._report("opened"))
        self.server.notify()
        self._told_opened = True
        super()._run_reactor()

    def _abort_blocking(self, block: bool = True) -> None:
        if not self.end_reason:
            self.end_reason = "idle" if self.dul.idle_timer_expired() else "protocol-error"
        super()._abort_blocking(block)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        try:
            if isinstance(msg, StoreTurn):
                self._serve_turn(msg)
            else:
                self._serve(msg, context_id)
        finally:
            self.served()

    def _serve_turn(self, turn: StoreTurn) -> None:
        if not turn.claim() or self.fast_store is None:
            return
        try:
            self.fast_store.serve(turn)
        finally:
            turn.end()

    def served(self) -> None:
        """A message is answered."""
        self.is_serving = False
        self.dul.restart_idle_timer()
        if self.server.is_stopping:  # else nobody waits for anyone to become idle
            self.server.notify()

    def _serve(self, msg: Any, context_id: int) -> None:
        context = self.context_of(context_id)
        if isinstance(msg, C_CANCEL):
            return  # of nothing that is under way (PS3.7 9.3.2.3)
        if context is None or not msg.is_valid_request or not isinstance(msg, C_ECHO | C_STORE):
            # PS3.7 8.1: a message that this association did not negotiate, or without what it must have
            self.end_reason = "unexpected-message"
            self.abort()
        elif isinstance(msg, C_ECHO):
            super()._serve_request(msg, context_id)
        else:
            self._serve_store(msg, context)

    def _serve_store(self, msg: Any, context: Any) -> None:
        command = StoreCommand(msg.MessageID, str(msg.AffectedSOPClassUID), str(msg.AffectedSOPInstanceUID))
        sink = self.sink_for(command, context, context.context_id)
        try:
            dataset = msg.DataSet.getbuffer()
            for start in range(0, len(dataset), PIECE_BYTES):
                sink.write(dataset[start : start + PIECE_BYTES])
            result = sink.commit()
        finally:
            sink.abort()
        self.object_ended(result, len(dataset))
        if self.is_established:
            self.dimse.send_msg(_store_response(msg, result), context.context_id)

    # The sink of one object: whatever the port does, the peer gets an answer, and both paths give the same.

    def sink_for(self, command: StoreCommand, context: Any, context_id: int) -> StoreSink:
        """Where the data set that follows goes. Never raises."""
        uids = self._context_uids.get(context_id)
        if uids is None:
            uids = self._context_uids[context_id] = (str(context.transfer_syntax[0]), str(context.abstract_syntax))
        request = StoreRequest(
            peer=self.known_peer(),
            message_id=command.message_id,
            context_id=context_id,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=uids[0],
            abstract_syntax_uid=uids[1],
        )
        if request.abstract_syntax_uid == VERIFICATION:
            return RefusingSink(StoreResult(statuses.SOP_CLASS_NOT_SUPPORTED, "not a storage context"))
        if not request.peer.rights.store:
            return RefusingSink(StoreResult(statuses.NOT_AUTHORIZED, "this AE may not store"))
        port_failed = partial(self.log_failure, "port failed on an object")
        try:
            return GuardedSink(self.server.port.begin(request), port_failed)
        except Exception as exc:  # noqa: BLE001 - whatever failed, the sender must hear that nothing was kept
            port_failed(exc)
            return RefusingSink(FAILED)

    def object_ended(self, result: StoreResult, size_bytes: int) -> None:
        """Count what became of one object, before its sender hears it."""
        self.tally.add(result.status, size_bytes)
        self.server.reporter.progress(self.ticket.connection, self._report_progress)

    def _tell_port(self, tell: Callable[..., None], *details: object) -> None:
        try:
            tell(*details)
        except Exception as exc:  # noqa: BLE001 - the port may be anything; the association goes its way all the same
            self.log_failure("port failed on an association", exc)

    def _finish(self) -> None:
        self.disconnect()
        self.dul.kill_dul()
        if self.dul.is_alive():
            self.dul.join(END_SECONDS)
        self.connection.close()
        if self.dul.socket is not None:
            self.dul.socket.release()
            if self.dul.socket.send_timed_out:
                self.end_reason = self.end_reason or "send-timeout"
        guards.VIOLATIONS.flush()
        if self.peer is not None and not self._released:
            self.server.reporter.report(self._report("over"))
        self._tell_closed()
        self.server.forget(self)
        self.server.reporter.report(self._report_closed())

    def _outcome(self) -> tuple[Outcome, str]:
        if self._released:
            return "released", ""
        if self.is_rejected:
            return "rejected", self.end_reason or self._reject_reason()
        if self.dul.abort_received:
            return "aborted", "by-peer"
        if not self.dul.connection_lost and (self.dul.abort_sent or self._sent_abort):
            return "aborted", self.end_reason or "protocol-error"
        return "lost", self.end_reason or "connection-closed"

    def _reject_reason(self) -> str:
        answer = self.acceptor.primitive
        return "called-ae-title" if answer is not None and answer.diagnostic == 0x07 else "refused"

    def known_peer(self) -> Peer:
        """Who has asked for this association."""
        if self.peer is None:
            raise RuntimeError("the association has not been requested")
        return self.peer

    def _report(self, event: Any) -> Report:
        return Report(
            event=event,
            connection=self.ticket.connection,
            association_id=self.association_id,
            calling_ae_title=self.peer.calling_ae_title if self.peer else "",
            called_ae_title=self.peer.called_ae_title if self.peer else "",
            objects_stored=self.tally.objects_stored,
            objects_refused=self.tally.objects_refused,
            bytes_received=self.tally.bytes_received,
        )

    def _report_progress(self) -> Report:
        return self._report("progress")

    def _report_closed(self) -> Report:
        if self.peer is None:
            return replace(self._report("closed"), outcome="unasked", reason=self.end_reason or "no-association")
        if self.is_rejected:
            return replace(self._report("closed"), outcome="rejected", reason=self._outcome()[1])
        return self._report("closed")

    def log_failure(self, event: str, exc: Exception) -> None:
        """Where and what kind, never the text: it may quote the peer's data."""
        frames = traceback.extract_tb(exc.__traceback__)
        origin = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        extra = {"association_id": self.association_id, "exception": type(exc).__name__, "origin": origin}
        logger.error(event, extra=extra)


def _store_response(msg: Any, result: StoreResult) -> Any:
    response = C_STORE()
    response.MessageIDBeingRespondedTo = msg.MessageID
    response.AffectedSOPClassUID = msg.AffectedSOPClassUID
    response.AffectedSOPInstanceUID = msg.AffectedSOPInstanceUID
    response.Status = result.status
    if result.comment:
        response.ErrorComment = result.comment.encode("ascii", "replace").decode()[:COMMENT_CHARACTERS]
    return response
