"""C-MOVE and C-GET on the wire: sub-operations one after the other, responses and C-CANCEL in between."""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from network.dimse import statuses
from network.dimse.errors import AssociationError
from network.dimse.find_service import IdentifierSink
from network.dimse.get_sender import GetSender, PeerGoneError
from network.dimse.guards import ProtocolViolationError
from network.dimse.query.errors import QueryError
from network.dimse.retrieve.command import RetrieveCommand, RetrieveResponses
from network.dimse.retrieve.counters import SubOperations
from network.dimse.retrieve.offers import batches, chosen
from network.dimse.retrieve.ports import RetrievePlan, RetrievePort, RetrieveRequest, StoredInstance
from network.dimse.scu.association import ClientAssociation
from network.dimse.scu.echo import VERIFICATION_PROPOSAL
from network.dimse.scu.negotiation import CONTEXTS_MAX
from network.dimse.scu.store import MoveOriginator, StoreAnswer, store_each
from network.dimse.wire import Interrupted

if TYPE_CHECKING:
    from network.dimse.association import ReceivingAssociation
    from network.dimse.fast_store import FastStore
    from network.dimse.wire import PeerSocket

logger = logging.getLogger(__name__)
PENDING_SECONDS: Final = 0.25
"""Between two pending responses; the first goes out at once."""


@dataclass(frozen=True, slots=True)
class RetrieveFound:
    """A C-MOVE-RQ or C-GET-RQ at the head of the buffer: `consumed` bytes of it, then `pdu_left` of its last PDU."""

    command: RetrieveCommand
    context: Any
    context_id: int
    consumed: int
    pdu_left: int


class RetrieveService:
    """Serves the retrievals of one association, in its own thread, while the connection is its turn."""

    def __init__(
        self, association: "ReceivingAssociation", wire: "PeerSocket", fast: "FastStore", port: RetrievePort
    ) -> None:
        self._association = association
        self._wire = wire
        self._fast = fast
        self._port = port

    def serve(self, found: RetrieveFound, identifier: IdentifierSink) -> None:
        """Every sub-operation and the final response, whatever port and destination do. Raises only for the
        connection.
        """
        syntax = str(found.context.transfer_syntax[0])
        responses = RetrieveResponses(
            found.command,
            context_id=found.context_id,
            transfer_syntax_uid=syntax,
            max_pdu_bytes=self._association.requestor.maximum_length or 0,
        )
        request = self._request(found, syntax)
        try:
            plan = self._plan(found, request, identifier)
        except QueryError as error:
            logger.info("retrieval refused", extra={"code": error.code, **self._who()})
            self._wire.send(responses.final(error.status, comment=str(error)))
            return
        except Exception as exc:  # noqa: BLE001 - whatever failed, the peer must hear that it did
            self._association.log_failure("port failed on a retrieval", exc)
            self._wire.send(responses.final(statuses.QUERY_FAILED, comment="the retrieval failed here"))
            return
        _Retrieval(self._association, self._wire, self._fast, self._port, request, plan, responses).run()

    def _plan(self, found: RetrieveFound, request: RetrieveRequest, identifier: IdentifierSink) -> RetrievePlan:
        if found.command.sop_class_uid != str(found.context.abstract_syntax):
            raise QueryError(
                "not the SOP class of this context", code="sop-class", status=statuses.SOP_CLASS_NOT_SUPPORTED
            )
        if identifier.is_too_long:
            raise QueryError("identifier too long", code="identifier-too-long", status=statuses.CANNOT_UNDERSTAND)
        return self._port.plan(request, bytes(identifier.encoded))

    def _request(self, found: RetrieveFound, syntax: str) -> RetrieveRequest:
        agreed = self._association.extended_negotiation(str(found.context.abstract_syntax))
        return RetrieveRequest(
            peer=self._association.known_peer(),
            sop_class_uid=found.command.sop_class_uid,
            transfer_syntax_uid=syntax,
            message_id=found.command.message_id,
            destination=found.command.destination,
            relational=bool(agreed[0:1] == b"\1"),
            priority=found.command.priority,
        )

    def _who(self) -> dict[str, object]:
        return {"association": self._association.association_id, "address": self._association.ticket.address}


class _Retrieval:
    """One retrieval under way."""

    def __init__(
        self,
        association: "ReceivingAssociation",
        wire: "PeerSocket",
        fast: "FastStore",
        port: RetrievePort,
        request: RetrieveRequest,
        plan: RetrievePlan,
        responses: RetrieveResponses,
    ) -> None:
        self._association, self._wire, self._fast, self._port = association, wire, fast, port
        self._request, self._plan, self._responses = request, plan, responses
        uids = [*plan.missing, *(item.sop_instance_uid for item in plan.items)]
        self._done = SubOperations(len(uids))
        self._open = Counter(uids)
        self._told_at = 0.0

    def run(self) -> None:
        """Send everything, tell how it went. Raises for the connection alone."""
        for uid in self._plan.missing:
            self._count_one(uid, None)
        comment = ""
        failure: AssociationError | None = None
        try:
            code = self._move() if self._request.is_move else self._get()
        except (ProtocolViolationError, OSError, Interrupted):
            self._tell_port("peer-gone")
            raise
        except PeerGoneError:
            code = "peer-gone"
        except AssociationError as error:
            code, comment, failure = error.code, f"destination: {error.code}", error
        except Exception as exc:  # noqa: BLE001 - whatever failed, the peer must hear that it did
            self._association.log_failure("retrieval failed", exc)
            code, comment = "internal-error", "the retrieval failed here"
        if code != "cancelled":
            for uid in list(self._open.elements()):  # the counters of a final response leave nothing open
                self._count_one(uid, None)
        self._tell_port(code, failure)
        if code != "peer-gone":
            status = self._done.final_status(cancelled=code == "cancelled")
            self._wire.send(self._responses.final(status, self._done, comment=comment))

    def _tell_port(self, code: str, failure: AssociationError | None = None) -> None:
        try:
            self._port.ended(self._request, self._plan, self._done, code=code, failure=failure)
        except Exception as exc:  # noqa: BLE001 - the peer hears all the same
            self._association.log_failure("port failed on a retrieval", exc)

    # -- C-MOVE

    def _move(self) -> str:
        """Why it ended early; empty when it did not."""
        address = self._plan.address
        if address is None:
            raise RuntimeError("a C-MOVE without a destination")
        request = self._request
        originator = MoveOriginator(request.peer.calling_ae_title, request.message_id, request.priority)
        if self._plan.items:
            self._tell()
        for proposals, items in batches(self._plan.items):
            left = deque(items)

            def work(opened: ClientAssociation, left: deque[StoredInstance] = left) -> str:
                stores = store_each(opened, _as_accepted(opened, list(left)), originator=originator)
                return self._count(_taken_from(left, stores))

            if len(proposals) < CONTEXTS_MAX:  # with it a kept association can be asked whether it lives
                proposals.append(VERIFICATION_PROPOSAL)
            code = self._plan.pool.run(address, proposals, work, timeouts=self._plan.timeouts)
            if code:
                return code
        return ""

    # -- C-GET

    def _get(self) -> str:
        sender = GetSender(self._association, self._wire, self._fast, self._request)
        return self._count(sender.store_each(self._plan.items)) or ("cancelled" if sender.is_cancelled else "")

    # -- both

    def _count(self, stores: Iterator[tuple[StoredInstance, StoreAnswer]]) -> str:
        """Until all have ended, or the peer wants no more, or is no more, or our side ends the association."""
        for item, answer in stores:
            self._count_one(item.sop_instance_uid, answer.status)
            if time.monotonic() - self._told_at >= PENDING_SECONDS and self._done.remaining:
                self._tell()
            if self._association.dul.wants_to_write or self._association.connection_is_over:
                return "peer-gone"
            end = self._fast.interruption(self._request.message_id)
            if end:
                return "cancelled" if end == "cancelled" else "peer-gone"
        return ""

    def _count_one(self, sop_instance_uid: str, status: int | None) -> None:
        self._done.count(sop_instance_uid, status)
        self._open[sop_instance_uid] -= 1

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        self._wire.send(self._responses.pending(self._done))


def _taken_from(
    left: deque[StoredInstance], stores: Iterator[tuple[StoredInstance, StoreAnswer]]
) -> Iterator[tuple[StoredInstance, StoreAnswer]]:
    """The same, each taken from what is left: a kept association that turns out to be dead repeats nothing."""
    for found in stores:
        left.popleft()
        yield found


def _as_accepted(opened: ClientAssociation, items: list[StoredInstance]) -> Iterator[StoredInstance]:
    taken: dict[str, list[str]] = {}
    for context in opened.accepted.contexts.values():
        taken.setdefault(context.abstract_syntax, []).append(context.transfer_syntax)
    for item in items:
        yield chosen(item, taken.get(item.sop_class_uid, ()))
