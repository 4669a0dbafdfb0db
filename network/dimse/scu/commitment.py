"""Storage commitment as the requestor: asking a peer, and reporting to a peer that has asked us (PS3.4 J.3)."""

from typing import Final

from network.dimse import statuses
from network.dimse.commitment import Report, report_read
from network.dimse.errors import AssociationError
from network.dimse.normalized.command import event_encode
from network.dimse.normalized.ports import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, Event
from network.dimse.query.errors import QueryError
from network.dimse.scu.association import ClientAssociation
from network.dimse.scu.messages import (
    ACTION_TYPE_ID,
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    COMMAND_FIELD,
    EVENT_TYPE_ID,
    MESSAGE_ID,
    N_ACTION_RQ,
    N_ACTION_RSP,
    N_EVENT_REPORT_RQ,
    N_EVENT_REPORT_RSP,
    REQUESTED_SOP_CLASS_UID,
    REQUESTED_SOP_INSTANCE_UID,
    RESPONDED_TO,
    STATUS,
    Message,
    command_encode,
)
from network.dimse.scu.negotiation import Context, Proposal

EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
_SYNTAXES: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
ASKING: Final = Proposal(STORAGE_COMMITMENT, _SYNTAXES)
REPORTING: Final = Proposal(STORAGE_COMMITMENT, _SYNTAXES, as_scp=True)
"""On an association of ours the peer is the SCU of the service: the role is negotiated (PS3.4 J.3.3.1)."""


class CommitmentError(AssociationError):
    """The peer does not take a request or a report, or its own makes no sense (codes `commitment-refused`,
    `report-refused`, `report-unreadable`); `status` beside.
    """

    def __init__(self, words: str, *, code: str, status: int | None) -> None:
        told = "" if status is None else f" (status {status:04X})"
        super().__init__(f"{words}{told}.", code=code)
        self.status = status


def commitment_context(opened: ClientAssociation) -> Context:
    """The accepted context. Raises AssociationError (`context-rejected`)."""
    context = opened.context(STORAGE_COMMITMENT)
    if context is None:
        raise AssociationError("The peer does not offer storage commitment.", code="context-rejected", permanent=True)
    return context


def commitment_ask(opened: ClientAssociation, data: bytes) -> None:
    """An N-ACTION whose data set is `network.dimse.commitment.request_data`. Raises CommitmentError."""
    context, message_id = commitment_context(opened), opened.message_id()
    values: dict[int, int | str] = {
        REQUESTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
        COMMAND_FIELD: N_ACTION_RQ,
        MESSAGE_ID: message_id,
        REQUESTED_SOP_INSTANCE_UID: STORAGE_COMMITMENT_INSTANCE,
        ACTION_TYPE_ID: 1,
    }
    opened.send(context, command_encode(values, data_set=True), data)
    answer = opened.receive()
    if answer.command != N_ACTION_RSP or answer.number(RESPONDED_TO) != message_id:
        raise opened.broken()
    if answer.status != statuses.SUCCESS:
        raise CommitmentError("The peer refuses to commit", code="commitment-refused", status=answer.status)


def report_receive(opened: ClientAssociation, *, seconds: float) -> Report:
    """The peer's report on what was asked on this association, which is answered; it begins within `seconds`.

    A peer may as well report on an association of its own, later (PS3.4 J.3.3). Raises AssociationError
    (`response-timeout` when none came; the association is over then).
    """
    context = commitment_context(opened)
    message = opened.receive(seconds=seconds)
    is_report = message.command == N_EVENT_REPORT_RQ and message.context_id == context.context_id
    message_id = message.number(MESSAGE_ID)
    if not is_report or message_id is None or message.text(AFFECTED_SOP_CLASS_UID) != STORAGE_COMMITMENT:
        raise opened.broken()
    try:
        report = report_read(message.data, explicit=context.transfer_syntax == EXPLICIT_LITTLE)
    except QueryError as error:
        _report_answer(opened, context, message, statuses.INVALID_ARGUMENT)
        raise CommitmentError("The peer's report cannot be read", code="report-unreadable", status=None) from error
    _report_answer(opened, context, message, statuses.SUCCESS)
    return report


def _report_answer(opened: ClientAssociation, context: Context, message: Message, status: int) -> None:
    values: dict[int, int | str] = {
        AFFECTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
        COMMAND_FIELD: N_EVENT_REPORT_RSP,
        RESPONDED_TO: message.number(MESSAGE_ID) or 0,
        STATUS: status,
        AFFECTED_SOP_INSTANCE_UID: STORAGE_COMMITMENT_INSTANCE,
        EVENT_TYPE_ID: message.number(EVENT_TYPE_ID) or 0,
    }
    opened.send(context, command_encode(values, data_set=False))


def event_report(opened: ClientAssociation, event: Event) -> None:
    """An N-EVENT-REPORT that the peer takes. Raises CommitmentError."""
    context, message_id = commitment_context(opened), opened.message_id()
    command = event_encode(
        message_id=message_id,
        sop_class_uid=event.sop_class_uid,
        sop_instance_uid=event.sop_instance_uid,
        type_id=event.type_id,
    )
    opened.send(context, command, event.data)
    answer = opened.receive()
    if answer.command != N_EVENT_REPORT_RSP or answer.number(RESPONDED_TO) != message_id:
        raise opened.broken()
    if answer.status != statuses.SUCCESS:
        raise CommitmentError("The peer does not take the report", code="report-refused", status=answer.status)
