"""C-FIND as the requestor: identifiers as bytes, answered one by one (PS3.4 C.4.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from network.dimse.errors import AssociationError
from network.dimse.scu.association import ClientAssociation
from network.dimse.scu.messages import (
    AFFECTED_SOP_CLASS_UID,
    C_CANCEL_RQ,
    C_FIND_RQ,
    C_FIND_RSP,
    COMMAND_FIELD,
    MESSAGE_ID,
    PRIORITY,
    RESPONDED_TO,
    Message,
    command_encode,
)
from network.dimse.scu.negotiation import Context

SUCCESS: Final = 0x0000
CANCELLED: Final = 0xFE00
PENDING: Final = frozenset({0xFF00, 0xFF01})
ANSWERS_MAX: Final = 100_000
"""Of one question; a peer that goes on is cut off."""
CANCEL_ANSWERS: Final = 1000
"""How many more answers are read after a C-CANCEL before the association is aborted."""


class QueryError(AssociationError):
    """The peer ended a query with a failure (code `query-failed`); `status` and the peer's comment beside it."""

    def __init__(self, status: int | None, comment: str = "") -> None:
        words = "without a status" if status is None else f"with status {status:04X}"
        super().__init__(f"The peer ended the query {words}.", code="query-failed")
        self.status = status
        self.comment = comment


@dataclass(frozen=True)
class Answer:
    """One match: its identifier as it came, in the transfer syntax of the context."""

    identifier: bytes
    transfer_syntax_uid: str
    all_keys_supported: bool


def find(
    opened: ClientAssociation, sop_class_uid: str, identifier: bytes, *, context: Context | None = None, limit: int = 0
) -> Iterator[Answer]:
    """Every match. The identifier is encoded in the context's transfer syntax.

    Ends early, with a C-CANCEL, after `limit` answers or when the caller stops. Raises QueryError for a failure status,
    AssociationError (`context-rejected` when the peer does not answer such questions).
    """
    context = context or opened.context(sop_class_uid)
    if context is None:
        raise AssociationError("The peer does not answer this kind of query.", code="context-rejected", permanent=True)
    message_id = request_send(opened, context, C_FIND_RQ, identifier)
    count, ended = 0, False
    try:
        while True:
            message = answer_receive(opened, C_FIND_RSP, message_id)
            if message.status not in PENDING:
                ended = True
                if message.status not in (SUCCESS, CANCELLED):
                    raise QueryError(message.status, message.comment)
                return
            count += 1
            if count > ANSWERS_MAX:
                raise opened.broken()
            yield Answer(message.data, context.transfer_syntax, message.status == 0xFF00)
            if limit and count >= limit:
                return
    finally:
        if not ended and opened.is_established:
            cancel(opened, context, C_FIND_RSP, message_id)


def request_send(
    opened: ClientAssociation,
    context: Context,
    command: int,
    identifier: bytes,
    extra: dict[int, int | str] | None = None,
) -> int:
    """A C-FIND, C-MOVE or C-GET request; answers its message id."""
    message_id = opened.message_id()
    values: dict[int, int | str] = {
        AFFECTED_SOP_CLASS_UID: context.abstract_syntax,
        COMMAND_FIELD: command,
        MESSAGE_ID: message_id,
        PRIORITY: 0,
        **(extra or {}),
    }
    opened.send(context, command_encode(values, data_set=True), identifier)
    return message_id


def answer_receive(
    opened: ClientAssociation, command: int, message_id: int, *, seconds: float | None = None
) -> Message:
    """The next response to this request. Raises AssociationError (`response-invalid`) for any other message."""
    message = opened.receive(seconds=seconds)
    if message.command != command or message.number(RESPONDED_TO) != message_id or message.status is None:
        raise opened.broken()
    return message


def cancel_send(opened: ClientAssociation, context: Context, message_id: int) -> None:
    """A C-CANCEL-RQ for this request (PS3.7 9.3.2.3)."""
    opened.send(context, command_encode({COMMAND_FIELD: C_CANCEL_RQ, RESPONDED_TO: message_id}, data_set=False))


def cancel(opened: ClientAssociation, context: Context, command: int, message_id: int) -> None:
    """Ask for the end, and read until it has come; a peer that does not stop is cut off."""
    cancel_send(opened, context, message_id)
    for _answer in range(CANCEL_ANSWERS):
        if answer_receive(opened, command, message_id).status not in PENDING:
            return
    opened.abort()
