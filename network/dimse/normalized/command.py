"""Normalised requests taken apart, and their responses (PS3.7 10.3)."""

from dataclasses import dataclass
from typing import Final

from network.dimse.command import NO_DATA_SET, CommandError, command_elements, command_short
from network.dimse.normalized.ports import NormalizedReply, Operation
from network.dimse.scu.messages import (
    ACTION_TYPE_ID,
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    ERROR_COMMENT,
    ERROR_ID,
    EVENT_TYPE_ID,
    MESSAGE_ID,
    N_EVENT_REPORT_RQ,
    REQUESTED_SOP_CLASS_UID,
    REQUESTED_SOP_INSTANCE_UID,
    RESPONDED_TO,
    STATUS,
    command_encode,
)

N_GET_RQ, N_SET_RQ, N_ACTION_RQ, N_CREATE_RQ, N_DELETE_RQ = 0x0110, 0x0120, 0x0130, 0x0140, 0x0150
OPERATIONS: Final[dict[int, Operation]] = {
    N_GET_RQ: "get",
    N_SET_RQ: "set",
    N_ACTION_RQ: "action",
    N_CREATE_RQ: "create",
    N_DELETE_RQ: "delete",
}
_RESPONSE: Final = 0x8000
_UID_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class NormalizedCommand:
    """A request; UIDs are the peer's, unchecked but for being ASCII and short."""

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    type_id: int
    has_data: bool

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.field]


def normalized_command(encoded: bytes) -> NormalizedCommand | None:
    """The normalised request in these bytes; None for any other command, an event's report, and all that is odd."""
    try:
        elements = command_elements(encoded)
    except CommandError:
        return None
    field = command_short(elements, COMMAND_FIELD)
    message_id, data_set = command_short(elements, MESSAGE_ID), command_short(elements, DATA_SET_TYPE)
    if field not in OPERATIONS or message_id is None or data_set is None:
        return None
    creates = field == N_CREATE_RQ
    tags = (AFFECTED_SOP_CLASS_UID if creates else REQUESTED_SOP_CLASS_UID,
            AFFECTED_SOP_INSTANCE_UID if creates else REQUESTED_SOP_INSTANCE_UID)  # fmt: skip
    sop_class, sop_instance = (elements.get(tag, b"").rstrip(b"\0 ") for tag in tags)
    if not (sop_class + sop_instance).isascii() or max(len(sop_class), len(sop_instance)) > _UID_BYTES:
        return None
    return NormalizedCommand(
        field,
        message_id,
        sop_class.decode("ascii"),
        sop_instance.decode("ascii"),
        command_short(elements, ACTION_TYPE_ID) or 0,
        data_set != NO_DATA_SET,
    )


def response_encode(command: NormalizedCommand, reply: NormalizedReply) -> bytes:
    """The response, without a data set."""
    values: dict[int, int | str] = {
        AFFECTED_SOP_CLASS_UID: command.sop_class_uid,
        COMMAND_FIELD: command.field | _RESPONSE,
        RESPONDED_TO: command.message_id,
        STATUS: reply.status,
    }
    if reply.sop_instance_uid:
        values[AFFECTED_SOP_INSTANCE_UID] = reply.sop_instance_uid
    if reply.comment:
        values[ERROR_COMMENT] = reply.comment[:64]
    if reply.error_id:
        values[ERROR_ID] = reply.error_id
    if command.operation == "action":
        values[ACTION_TYPE_ID] = command.type_id
    return command_encode(values, data_set=False)


def event_encode(*, message_id: int, sop_class_uid: str, sop_instance_uid: str, type_id: int) -> bytes:
    """An N-EVENT-REPORT-RQ that announces a data set (PS3.7 10.3.1.1)."""
    values: dict[int, int | str] = {
        AFFECTED_SOP_CLASS_UID: sop_class_uid,
        COMMAND_FIELD: N_EVENT_REPORT_RQ,
        MESSAGE_ID: message_id,
        AFFECTED_SOP_INSTANCE_UID: sop_instance_uid,
        EVENT_TYPE_ID: type_id,
    }
    return command_encode(values, data_set=True)
