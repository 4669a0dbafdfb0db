"""Storage commitment as the requestor: asking a peer, and reporting to a peer that has asked us (PS3.4 J.3)."""

from typing import Final

from network.dimse import statuses
from network.dimse.errors import AssociationError
from network.dimse.normalized.command import event_encode
from network.dimse.normalized.ports import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, Event
from network.dimse.scu.association import ClientAssociation
from network.dimse.scu.messages import (
    ACTION_TYPE_ID,
    COMMAND_FIELD,
    MESSAGE_ID,
    N_ACTION_RQ,
    N_ACTION_RSP,
    N_EVENT_REPORT_RSP,
    REQUESTED_SOP_CLASS_UID,
    REQUESTED_SOP_INSTANCE_UID,
    RESPONDED_TO,
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
    """The peer does not take a request or a report (codes `commitment-refused`, `report-refused`); `status` beside."""

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
