"""C-FIND and C-CANCEL on the wire (PS3.7 9.3.2): requests taken apart, responses made of parts that are made once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from network.dimse.command import NO_DATA_SET, CommandError, command_elements, command_short
from network.dimse.scu.fragments import data_pdus
from network.dimse.scu.link import Buffer
from network.dimse.scu.messages import (
    AFFECTED_SOP_CLASS_UID,
    C_CANCEL_RQ,
    C_FIND_RQ,
    C_FIND_RSP,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    ERROR_COMMENT,
    MESSAGE_ID,
    RESPONDED_TO,
    STATUS,
    command_encode,
)

_UID_BYTES: Final = 64
_COMMENT_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class FindCommand:
    """A C-FIND-RQ that announces an identifier. The UID is the peer's, unchecked but for being ASCII, not padded."""

    message_id: int
    sop_class_uid: str


def find_command(encoded: bytes) -> FindCommand | None:
    """The C-FIND-RQ in these bytes; None for any other command, one without an identifier, and all that is odd."""
    elements = _elements(encoded)
    if command_short(elements, COMMAND_FIELD) != C_FIND_RQ:
        return None
    message_id, kind = command_short(elements, MESSAGE_ID), command_short(elements, DATA_SET_TYPE)
    uid = elements.get(AFFECTED_SOP_CLASS_UID, b"").rstrip(b"\0 ")
    if message_id is None or kind in (None, NO_DATA_SET) or not uid.isascii() or not 0 < len(uid) <= _UID_BYTES:
        return None
    return FindCommand(message_id, uid.decode("ascii"))


def cancelled_id(encoded: bytes) -> int | None:
    """The message ID that a C-CANCEL-RQ is about; None for another command."""
    elements = _elements(encoded)
    if command_short(elements, COMMAND_FIELD) != C_CANCEL_RQ:
        return None
    return command_short(elements, RESPONDED_TO)


def _elements(encoded: bytes) -> dict[int, bytes]:
    try:
        return command_elements(encoded)
    except CommandError:
        return {}


class FindResponses:
    """The C-FIND-RSPs to one request as P-DATA-TF PDUs, no longer than the peer takes (0: as long as may be)."""

    def __init__(self, command: FindCommand, *, context_id: int, max_pdu_bytes: int) -> None:
        self._command = command
        self._context_id = context_id
        self._max_pdu_bytes = max_pdu_bytes
        self._pending: dict[int, bytes] = {}

    def pending(self, identifiers: Iterable[bytes], status: int) -> bytes:
        """A pending response for each identifier: its command and its data set, in PDUs of their own."""
        head = self._pending.get(status)
        if head is None:
            head = self._pending[status] = self._response(status, "", data_set=True)
        parts: list[Buffer] = []
        for identifier in identifiers:
            parts.append(head)
            parts += data_pdus(identifier, self._context_id, self._max_pdu_bytes)
        return b"".join(parts)

    def final(self, status: int, comment: str = "") -> bytes:
        """The last response."""
        return self._response(status, comment, data_set=False)

    def _response(self, status: int, comment: str, *, data_set: bool) -> bytes:
        values: dict[int, int | str] = {
            AFFECTED_SOP_CLASS_UID: self._command.sop_class_uid,
            COMMAND_FIELD: C_FIND_RSP,
            RESPONDED_TO: self._command.message_id,
            STATUS: status,
        }
        if comment:
            values[ERROR_COMMENT] = comment[:_COMMENT_CHARACTERS]
        encoded = command_encode(values, data_set=data_set)
        return b"".join(data_pdus(encoded, self._context_id, self._max_pdu_bytes, command=True))
