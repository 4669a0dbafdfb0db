"""C-STORE sub-operations of a C-GET: sent on the association that asked, where it took the role of the SCP."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Final

from network.dimse import statuses
from network.dimse.command import NO_DATA_SET, command_elements, command_short
from network.dimse.guards import ProtocolViolationError
from network.dimse.query.command import cancelled_id
from network.dimse.retrieve.offers import chosen
from network.dimse.retrieve.ports import RetrieveRequest, StoredInstance
from network.dimse.scu.fragments import data_pdus, fragment_bytes
from network.dimse.scu.messages import C_STORE_RSP, COMMAND_FIELD, DATA_SET_TYPE, RESPONDED_TO, STATUS
from network.dimse.scu.store import (
    PIECE_BYTES,
    SLOWEST_BYTES_PER_SECOND,
    StoreAnswer,
    read_exactly,
    store_command,
)

if TYPE_CHECKING:
    from network.dimse.association import ReceivingAssociation
    from network.dimse.fast_store import FastStore
    from network.dimse.wire import PeerSocket

_WAIT_SECONDS: Final = 1.0


class PeerGoneError(Exception):
    """The association is over, or is to be: nobody hears any more."""


class GetSender:
    """Sends on one association; a C-CANCEL-RQ that comes meanwhile is remembered."""

    def __init__(
        self, association: "ReceivingAssociation", wire: "PeerSocket", fast: "FastStore", request: RetrieveRequest
    ) -> None:
        self._association, self._wire, self._fast = association, wire, fast
        self._request_id, self._priority = request.message_id, request.priority
        self._message_id = 0
        self._limit = association.requestor.maximum_length or 0
        self._contexts: dict[str, dict[str, int]] = {}
        for context in association.accepted_contexts:
            if context.as_scu:
                syntaxes = self._contexts.setdefault(str(context.abstract_syntax), {})
                syntaxes.setdefault(str(context.transfer_syntax[0]), int(context.context_id))
        self.is_cancelled = False

    def store_each(self, items: Iterable[StoredInstance]) -> Iterator[tuple[StoredInstance, StoreAnswer]]:
        """Each object's fate, in order, until the peer cancels.

        Raises PeerGoneError, and for the connection ProtocolViolationError, Interrupted, OSError.
        """
        for item in items:
            yield item, self._store(item)
            if self.is_cancelled:
                return

    def _store(self, item: StoredInstance) -> StoreAnswer:
        taken = self._contexts.get(item.sop_class_uid, {})
        sent = chosen(item, taken)
        context_id = taken.get(sent.transfer_syntax_uid)
        if context_id is None:
            return StoreAnswer(code="context-rejected")
        try:
            stream = sent.open_dataset()
        except OSError:
            return StoreAnswer(code="file-unreadable")
        with stream:
            try:
                piece = read_exactly(stream, min(self._piece_bytes(), sent.dataset_bytes))
            except OSError:
                return StoreAnswer(code="file-unreadable")
            self._message_id = self._message_id % 0xFFFF + 1
            command = store_command(
                self._message_id, item.sop_class_uid, item.sop_instance_uid, priority=self._priority
            )
            buffers = data_pdus(command, context_id, self._limit, command=True)
            done = len(piece)
            while True:
                buffers += data_pdus(piece, context_id, self._limit, last=done == sent.dataset_bytes)
                self._send(b"".join(buffers))
                if done == sent.dataset_bytes:
                    break
                piece, buffers = self._more(stream, sent.dataset_bytes - done), []
                done += len(piece)
        return self._answer(sent.dataset_bytes)

    def _more(self, stream: BinaryIO, left: int) -> bytes:
        """The next piece; a file that ends here ends the association, whose peer would wait for the rest."""
        try:
            return read_exactly(stream, min(self._piece_bytes(), left))
        except OSError as exc:
            self._association.end("file-vanished")
            raise PeerGoneError from exc

    def _piece_bytes(self) -> int:
        step = fragment_bytes(self._limit)
        return max(1, PIECE_BYTES // step) * step

    def _send(self, encoded: bytes) -> None:
        self._wire.send(encoded)
        if self._association.connection_is_over:
            raise PeerGoneError

    def _answer(self, dataset_bytes: int) -> StoreAnswer:
        """The C-STORE-RSP, in the time that the object may take."""
        patience = self._association.server.config.sub_operation_seconds + dataset_bytes / SLOWEST_BYTES_PER_SECOND
        deadline = time.monotonic() + patience
        while True:
            self._wait(deadline)
            peeked = self._fast.peek_command()
            if peeked is None:
                raise PeerGoneError  # an abort, a release, or nonsense: the upper layer reads it
            if peeked.pdu_left:
                raise ProtocolViolationError("message-order")
            cancelled = cancelled_id(peeked.encoded)
            if cancelled is not None:  # one of something else is of nothing that is under way (PS3.7 9.3.2.3)
                self._wire.take(peeked.consumed)
                self.is_cancelled |= cancelled == self._request_id
                continue
            elements = command_elements(peeked.encoded)
            status = command_short(elements, STATUS)
            answers = command_short(elements, COMMAND_FIELD) == C_STORE_RSP
            mine = command_short(elements, RESPONDED_TO) == self._message_id
            if not (answers and mine) or command_short(elements, DATA_SET_TYPE) != NO_DATA_SET or status is None:
                raise ProtocolViolationError("message-order")
            self._wire.take(peeked.consumed)
            return StoreAnswer(status, "" if statuses.is_stored(status) else "refused")

    def _wait(self, deadline: float) -> None:
        while not self._wire.wait(min(_WAIT_SECONDS, max(0.0, deadline - time.monotonic()))):
            if self._association.dul.wants_to_write or time.monotonic() >= deadline:
                self._association.end("sub-operation-timeout")
                raise PeerGoneError
