"""C-FIND and C-CANCEL on the wire (PS3.7 9.3.2): requests taken apart, responses made of parts that are made once."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from network.dimse.command import NO_DATA_SET, CommandError, command_elements, command_short

C_FIND_RQ: Final = 0x0020
C_FIND_RSP: Final = 0x8020
C_CANCEL_RQ: Final = 0x0FFF
DATA_SET: Final = 0x0001

_SOP_CLASS: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_RESPONDED_TO: Final = 0x0120
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_ERROR_COMMENT: Final = 0x0902
_ELEMENT: Final = struct.Struct("<HHL")
_PDU: Final = struct.Struct(">BBLLBB")
_P_DATA: Final = 0x04
_PDV_BYTES: Final = 6
_UID_BYTES: Final = 64
_COMMENT_BYTES: Final = 64
_COMMAND: Final = 0x01
_LAST: Final = 0x02


@dataclass(frozen=True, slots=True)
class FindCommand:
    """A C-FIND-RQ that announces an identifier. The UID is the peer's, unchecked but for being ASCII, not padded."""

    message_id: int
    sop_class_uid: str


def find_command(encoded: bytes) -> FindCommand | None:
    """The C-FIND-RQ in these bytes; None for any other command, one without an identifier, and all that is odd."""
    elements = _elements(encoded)
    if command_short(elements, _COMMAND_FIELD) != C_FIND_RQ:
        return None
    message_id, kind = command_short(elements, _MESSAGE_ID), command_short(elements, _DATA_SET_TYPE)
    uid = elements.get(_SOP_CLASS, b"").rstrip(b"\0 ")
    if message_id is None or kind in (None, NO_DATA_SET) or not uid.isascii() or not 0 < len(uid) <= _UID_BYTES:
        return None
    return FindCommand(message_id, uid.decode("ascii"))


def cancelled_id(encoded: bytes) -> int | None:
    """The message ID that a C-CANCEL-RQ is about; None for another command."""
    elements = _elements(encoded)
    if command_short(elements, _COMMAND_FIELD) != C_CANCEL_RQ:
        return None
    return command_short(elements, _RESPONDED_TO)


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
        self._room = max(1, max_pdu_bytes - _PDV_BYTES) if max_pdu_bytes else 1 << 30
        self._pending: dict[int, bytes] = {}

    def pending(self, identifiers: Iterable[bytes], status: int) -> bytes:
        """A pending response for each identifier: its command and its data set, in PDUs of their own."""
        head = self._pending.get(status)
        if head is None:
            head = self._pending[status] = self._pdus(self._encoded(status, "", DATA_SET), _COMMAND)
        return b"".join([head + self._pdus(identifier, 0) for identifier in identifiers])

    def final(self, status: int, comment: str = "") -> bytes:
        """The last response."""
        return self._pdus(self._encoded(status, comment, NO_DATA_SET), _COMMAND)

    def _encoded(self, status: int, comment: str, data_set: int) -> bytes:
        uid = self._command.sop_class_uid.encode("ascii")
        elements = [
            _element(_SOP_CLASS, uid + b"\0" * (len(uid) % 2)),
            _element(_COMMAND_FIELD, struct.pack("<H", C_FIND_RSP)),
            _element(_RESPONDED_TO, struct.pack("<H", self._command.message_id)),
            _element(_DATA_SET_TYPE, struct.pack("<H", data_set)),
            _element(_STATUS, struct.pack("<H", status)),
        ]
        if comment:
            text = comment.encode("ascii", "replace")[:_COMMENT_BYTES]
            elements.append(_element(_ERROR_COMMENT, text + b" " * (len(text) % 2)))
        body = b"".join(elements)
        return _element(0, struct.pack("<L", len(body))) + body

    def _pdus(self, encoded: bytes, kind: int) -> bytes:
        if len(encoded) <= self._room:
            return self._pdu(encoded, kind | _LAST)
        pieces = [encoded[at : at + self._room] for at in range(0, len(encoded), self._room)]
        last = len(pieces) - 1
        return b"".join(self._pdu(piece, kind | (_LAST if at == last else 0)) for at, piece in enumerate(pieces))

    def _pdu(self, piece: bytes, control: int) -> bytes:
        size = len(piece)
        return _PDU.pack(_P_DATA, 0, size + _PDV_BYTES, size + 2, self._context_id, control) + piece


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value
