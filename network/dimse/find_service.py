"""C-FIND on the wire: the identifier is gathered, the answers are written many at a time, and C-CANCEL is looked for
between two batches (PS3.4 C.4.1, PS3.7 9.1.2).
"""

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from network.dimse import statuses
from network.dimse.query.command import FindCommand, FindResponses
from network.dimse.query.errors import QueryError
from network.dimse.query.ports import FindPort, FindRequest
from network.dimse.query.question import MODELS
from network.dimse.retrieve.models import FIND_MODEL

if TYPE_CHECKING:
    from network.dimse.association import ReceivingAssociation
    from network.dimse.fast_store import FastStore
    from network.dimse.wire import PeerSocket

logger = logging.getLogger(__name__)
IDENTIFIER_BYTES: Final = 256 * 1024
WRITE_BYTES: Final = 64 * 1024
"""Answers are written when so many bytes have gathered."""
End = Literal["", "cancelled", "gone"]


@dataclass(frozen=True, slots=True)
class FindFound:
    """A C-FIND-RQ at the head of the buffer: `consumed` bytes of it, then `pdu_left` of the PDU in which it ends."""

    command: FindCommand
    context: Any
    context_id: int
    consumed: int
    pdu_left: int


class IdentifierSink:
    """Takes a data set that is gathered in memory; beyond the limit nothing more."""

    def __init__(self, limit: int = IDENTIFIER_BYTES) -> None:
        self.encoded = bytearray()
        self._limit = limit
        self.is_too_long = False

    def write(self, data: memoryview) -> None:
        if len(self.encoded) + len(data) > self._limit:
            self.is_too_long = True
        else:
            self.encoded += data


class FindService:
    """Answers the queries of one association, in its own thread, while the connection is its turn."""

    def __init__(
        self, association: "ReceivingAssociation", wire: "PeerSocket", fast: "FastStore", port: FindPort
    ) -> None:
        self._association = association
        self._wire = wire
        self._fast = fast
        self._port = port

    def serve(self, found: FindFound, identifier: IdentifierSink) -> None:
        """Every answer and the final response, whatever the port does. Raises only for the connection."""
        responses = FindResponses(
            found.command,
            context_id=found.context_id,
            max_pdu_bytes=self._association.requestor.maximum_length or 0,
        )
        try:
            end = self._answer(found, identifier, responses)
        except QueryError as error:
            logger.info("query not answered", extra={"code": error.code, **self._who()})
            self._wire.send(responses.final(error.status, str(error)))
            return
        except OSError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever failed, the peer must hear that it did
            self._association.log_failure("port failed on a query", exc)
            self._wire.send(responses.final(statuses.QUERY_FAILED, "the query failed here"))
            return
        if end == "cancelled":
            self._wire.send(responses.final(statuses.CANCEL))

    def _answer(self, found: FindFound, identifier: IdentifierSink, responses: FindResponses) -> End:
        """All answers with the final response behind the last of them, unless it ended otherwise."""
        if found.command.sop_class_uid != str(found.context.abstract_syntax):
            raise QueryError(
                "not the SOP class of this context", code="sop-class", status=statuses.SOP_CLASS_NOT_SUPPORTED
            )
        if identifier.is_too_long:
            raise QueryError("identifier too long", code="identifier-too-long", status=statuses.CANNOT_UNDERSTAND)
        with contextlib.closing(self._port.find(self._request(found), bytes(identifier.encoded))) as answers:
            gathered: list[bytes] = []
            size = 0
            try:
                for number, batch in enumerate(answers):
                    if number and (end := self._ended(found.command.message_id)):
                        self._wire.send(b"".join(gathered))
                        return end
                    status = statuses.PENDING if batch.all_supported else statuses.PENDING_UNSUPPORTED
                    gathered.append(responses.pending(batch.identifiers, status))
                    size += len(gathered[-1])
                    if size >= WRITE_BYTES:
                        self._wire.send(b"".join(gathered))
                        gathered.clear()
                        size = 0
            except QueryError:
                self._wire.send(b"".join(gathered))
                raise
            gathered.append(responses.final(statuses.SUCCESS))
            self._wire.send(b"".join(gathered))
            return ""

    def _request(self, found: FindFound) -> FindRequest:
        sop_class = str(found.context.abstract_syntax)
        agreed = self._association.extended_negotiation(sop_class)
        return FindRequest(
            peer=self._association.known_peer(),
            sop_class_uid=sop_class,
            transfer_syntax_uid=str(found.context.transfer_syntax[0]),
            relational=bool(agreed[0:1] == b"\1"),
            combined=bool(agreed[1:2] == b"\1"),
            fuzzy=bool(agreed[2:3] == b"\1"),
        )

    def _ended(self, message_id: int) -> End:
        """Whether the peer wants no more, or is no more, or our side ends the association."""
        association = self._association
        if association.dul.wants_to_write or association.connection_is_over:
            return "gone"
        return self._fast.interruption(message_id)

    def _who(self) -> dict[str, object]:
        return {"association": self._association.association_id, "address": self._association.ticket.address}


_FIND_AGREED: Final = frozenset({0, 1, 2, 5, 6})
"""Bytes of PS3.4 table C.5-2: relational queries, combined date and time, fuzzy names, empty values, several values.
Not the time zone (3), not enhanced multi-frame conversion (4).
"""
_RETRIEVE_AGREED: Final = frozenset({0})
"""Bytes of table C.5-4: relational retrieval. Not enhanced multi-frame conversion (1)."""


def extended_answer(sop_class_uid: str, asked: bytes) -> bytes | None:
    """What we agree to of a peer's extended negotiation (PS3.4 C.5); None when it is not about queries."""
    if sop_class_uid in MODELS:
        agreed = _FIND_AGREED
    elif sop_class_uid in FIND_MODEL:
        agreed = _RETRIEVE_AGREED
    else:
        return None
    return bytes(byte & (at in agreed) for at, byte in enumerate(asked[:16]))
