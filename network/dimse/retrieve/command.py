"""C-MOVE and C-GET on the wire: requests taken apart, responses put together (PS3.7 9.3.3, 9.3.4)."""

import struct
from dataclasses import dataclass
from typing import Final

from network.dimse import statuses
from network.dimse.command import NO_DATA_SET, CommandError, command_elements, command_short
from network.dimse.query.ports import EXPLICIT_LITTLE
from network.dimse.retrieve.counters import MOST, SubOperations
from network.dimse.scu.fragments import data_pdus
from network.dimse.scu.messages import (
    AFFECTED_SOP_CLASS_UID,
    C_GET_RQ,
    C_GET_RSP,
    C_MOVE_RQ,
    C_MOVE_RSP,
    COMMAND_FIELD,
    COMPLETED,
    DATA_SET_TYPE,
    ERROR_COMMENT,
    FAILED,
    MEDIUM,
    MESSAGE_ID,
    MOVE_DESTINATION,
    PRIORITIES,
    PRIORITY,
    REMAINING,
    RESPONDED_TO,
    STATUS,
    WARNING,
    command_encode,
)

_UID_BYTES: Final = 64
_FAILED_LIST_BYTES: Final = 0xFFFE  # of a value with VR UI in explicit VR


@dataclass(frozen=True, slots=True)
class RetrieveCommand:
    """A C-MOVE-RQ or C-GET-RQ that announces an identifier. Texts are the peer's, unchecked but for being ASCII."""

    message_id: int
    sop_class_uid: str
    is_move: bool
    destination: str
    priority: int = MEDIUM


def retrieve_command(encoded: bytes) -> RetrieveCommand | None:
    """The request in these bytes; None for any other command, one without an identifier, and all that is odd."""
    try:
        elements = command_elements(encoded)
    except CommandError:
        return None
    kind = command_short(elements, COMMAND_FIELD)
    if kind not in (C_MOVE_RQ, C_GET_RQ):
        return None
    message_id, data_set = command_short(elements, MESSAGE_ID), command_short(elements, DATA_SET_TYPE)
    uid = elements.get(AFFECTED_SOP_CLASS_UID, b"").rstrip(b"\0 ")
    destination = elements.get(MOVE_DESTINATION, b"").strip(b"\0 ")
    if message_id is None or data_set in (None, NO_DATA_SET) or not (uid + destination).isascii():
        return None
    if not 0 < len(uid) <= _UID_BYTES or len(destination) > 16 or (kind == C_MOVE_RQ) != bool(destination):
        return None
    priority = command_short(elements, PRIORITY)
    if priority not in PRIORITIES:
        priority = MEDIUM
    return RetrieveCommand(message_id, uid.decode("ascii"), kind == C_MOVE_RQ, destination.decode("ascii"), priority)


class RetrieveResponses:
    """The responses to one request as P-DATA-TF PDUs, no longer than the peer takes."""

    def __init__(
        self, command: RetrieveCommand, *, context_id: int, transfer_syntax_uid: str, max_pdu_bytes: int
    ) -> None:
        self._command = command
        self._context_id = context_id
        self._explicit = transfer_syntax_uid == EXPLICIT_LITTLE
        self._max_pdu_bytes = max_pdu_bytes

    def pending(self, done: SubOperations) -> bytes:
        return self._encoded(statuses.PENDING, done, remaining=True)

    def final(self, status: int, done: SubOperations | None = None, *, comment: str = "") -> bytes:
        """The last response. What failed is listed unless all went well; remaining is told when it was cancelled."""
        listed = b""
        if done is not None and done.failed_uids and status != statuses.SUCCESS:
            listed = self._failed_list(done.failed_uids)
        return self._encoded(status, done, comment=comment, data=listed, remaining=status == statuses.CANCEL)

    def _encoded(
        self, status: int, done: SubOperations | None, *, comment: str = "", data: bytes = b"", remaining: bool = False
    ) -> bytes:
        values: dict[int, int | str] = {
            AFFECTED_SOP_CLASS_UID: self._command.sop_class_uid,
            COMMAND_FIELD: C_MOVE_RSP if self._command.is_move else C_GET_RSP,
            RESPONDED_TO: self._command.message_id,
            STATUS: status,
        }
        if comment:
            values[ERROR_COMMENT] = comment[:64]
        if done is not None:
            counters = {COMPLETED: done.completed, FAILED: done.failed, WARNING: done.warning}
            if remaining:
                counters[REMAINING] = done.remaining
            values |= {tag: min(number, MOST) for tag, number in counters.items()}
        limit = self._max_pdu_bytes
        buffers = data_pdus(command_encode(values, data_set=bool(data)), self._context_id, limit, command=True)
        if data:
            buffers += data_pdus(data, self._context_id, limit)
        return b"".join(buffers)

    def _failed_list(self, uids: list[str]) -> bytes:
        """Failed SOP Instance UID List (0008,0058), as many as fit into one value."""
        value = b""
        for uid in uids:
            longer = value + (b"\\" if value else b"") + uid.encode("ascii")
            if len(longer) > _FAILED_LIST_BYTES:
                break
            value = longer
        value += b"\0" * (len(value) % 2)
        if self._explicit:
            return struct.pack("<HH2sH", 0x0008, 0x0058, b"UI", len(value)) + value
        return struct.pack("<HHL", 0x0008, 0x0058, len(value)) + value
