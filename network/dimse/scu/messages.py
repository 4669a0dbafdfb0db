"""Commands that a requestor sends, and those it may be sent: encoded and read without pydicom (PS3.7 9.3, annex E)."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from network.dimse.command import NO_DATA_SET, command_short

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_GET_RQ, C_GET_RSP = 0x0010, 0x8010
C_FIND_RQ, C_FIND_RSP = 0x0020, 0x8020
C_MOVE_RQ, C_MOVE_RSP = 0x0021, 0x8021
C_ECHO_RQ, C_ECHO_RSP = 0x0030, 0x8030
N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP = 0x0100, 0x8100
N_ACTION_RQ, N_ACTION_RSP = 0x0130, 0x8130
C_CANCEL_RQ = 0x0FFF

AFFECTED_SOP_CLASS_UID: Final = 0x0002
REQUESTED_SOP_CLASS_UID: Final = 0x0003
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
RESPONDED_TO: Final = 0x0120
MOVE_DESTINATION: Final = 0x0600
PRIORITY: Final = 0x0700
DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
OFFENDING_ELEMENT: Final = 0x0901
ERROR_COMMENT: Final = 0x0902
ERROR_ID: Final = 0x0903
AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
REQUESTED_SOP_INSTANCE_UID: Final = 0x1001
EVENT_TYPE_ID: Final = 0x1002
ACTION_TYPE_ID: Final = 0x1008
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023
MOVE_ORIGINATOR_AE_TITLE: Final = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID: Final = 0x1031

MEDIUM: Final = 0x0000
PRIORITIES: Final = frozenset({MEDIUM, 0x0001, 0x0002})
"""Medium, high, low (PS3.7 9.3.1.1)."""

_UIDS: Final = frozenset(
    {AFFECTED_SOP_CLASS_UID, REQUESTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID, REQUESTED_SOP_INSTANCE_UID}
)
_ELEMENT: Final = struct.Struct("<HHL")
_SHORT: Final = struct.Struct("<H")
_DATA_SET: Final = 0x0001
_COMMENT_CHARACTERS: Final = 64


def command_encode(values: Mapping[int, int | str], *, data_set: bool) -> bytes:
    """A command set: numbers as US, texts as they are (UIDs padded with NUL, others with a space)."""
    parts = []
    for element, value in sorted({**values, DATA_SET_TYPE: _DATA_SET if data_set else NO_DATA_SET}.items()):
        if isinstance(value, int):
            encoded = _SHORT.pack(value)
        else:
            encoded = value.encode("ascii", "replace")
            encoded += (b"\0" if element in _UIDS else b" ") * (len(encoded) % 2)
        parts.append(_ELEMENT.pack(0, element, len(encoded)) + encoded)
    body = b"".join(parts)
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(body)) + body


@dataclass(frozen=True)
class Message:
    """One message of the peer's: its command, and the data set that came with it unless a sink took it."""

    context_id: int
    elements: Mapping[int, bytes]
    data: bytes = field(default=b"", repr=False)

    def number(self, element: int) -> int | None:
        """The value of an element with VR US; None when it is not there."""
        return command_short(dict(self.elements), element)

    def text(self, element: int) -> str:
        """The value of a UID, AE title or comment, without its padding; not ASCII is replaced."""
        return bytes(self.elements.get(element, b"")).rstrip(b"\0 ").decode("ascii", "replace")

    @property
    def command(self) -> int:
        return self.number(COMMAND_FIELD) or 0

    @property
    def status(self) -> int | None:
        return self.number(STATUS)

    @property
    def comment(self) -> str:
        """The peer's free text, which may name a patient: for the person who asked, never for a log."""
        return self.text(ERROR_COMMENT)[:_COMMENT_CHARACTERS]
