"""Command sets without pydicom: a flat list of elements in implicit VR little endian (PS3.7 6.3.1, annex E)."""

import struct
from dataclasses import dataclass
from typing import Final

from network.dimse.errors import DimseError

C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
NO_DATA_SET: Final = 0x0101

_GROUP_LENGTH: Final = 0x0000
_AFFECTED_SOP_CLASS_UID: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_ERROR_COMMENT: Final = 0x0902
_AFFECTED_SOP_INSTANCE_UID: Final = 0x1000

_ELEMENT: Final = struct.Struct("<HHL")
_SHORT: Final = struct.Struct("<H")
_PDV: Final = struct.Struct(">BBLLBB")
_PDV_BYTES: Final = 6
_P_DATA: Final = 0x04
_LAST_COMMAND: Final = 0x03
_COMMAND: Final = 0x01
_COMMENT_BYTES: Final = 64
_UID_BYTES: Final = 64


class CommandError(DimseError):
    """What a peer sent as a command set is none (code `command-garbled`)."""

    def __init__(self) -> None:
        super().__init__("The peer sent a command set that cannot be read.", code="command-garbled", permanent=True)


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """A C-STORE-RQ that announces a data set. The UIDs are the peer's, unchecked but for being ASCII, not padded."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


def command_elements(encoded: bytes) -> dict[int, bytes]:
    """Values by element number. Raises CommandError when the bytes are no command set that ends where its last element
    does, in ascending order, without repetition.
    """
    found: dict[int, bytes] = {}
    at, end, last = 0, len(encoded), -1
    while at < end:
        if end - at < _ELEMENT.size:
            raise CommandError
        group, element, length = _ELEMENT.unpack_from(encoded, at)
        at += _ELEMENT.size + length
        if group != 0 or element <= last or at > end:
            raise CommandError
        last = element
        found[element] = encoded[at - length : at]
    return found


def command_short(elements: dict[int, bytes], element: int) -> int | None:
    """The value of an element with VR US, or None when it is not there or no US."""
    value = elements.get(element, b"")
    return int.from_bytes(value, "little") if len(value) == _SHORT.size else None


def command_has_data_set(encoded: bytes) -> bool:
    """Whether a data set follows this command. Raises CommandError when it does not say so, or not what it is."""
    elements = command_elements(encoded)
    kind = command_short(elements, _DATA_SET_TYPE)
    if kind is None or command_short(elements, _COMMAND_FIELD) is None:
        raise CommandError
    return kind != NO_DATA_SET


def store_command(encoded: bytes) -> StoreCommand | None:
    """The C-STORE-RQ in these bytes; None for any other command, one without a data set, and all that is odd."""
    try:
        elements = command_elements(encoded)
    except CommandError:
        return None
    if command_short(elements, _COMMAND_FIELD) != C_STORE_RQ:
        return None
    message_id, kind = command_short(elements, _MESSAGE_ID), command_short(elements, _DATA_SET_TYPE)
    sop_class, sop_instance = (
        elements.get(tag, b"").rstrip(b"\0 ") for tag in (_AFFECTED_SOP_CLASS_UID, _AFFECTED_SOP_INSTANCE_UID)
    )
    if message_id is None or kind is None or kind == NO_DATA_SET:
        return None
    for uid in (sop_class, sop_instance):
        if not uid or len(uid) > _UID_BYTES or not uid.isascii():
            return None
    return StoreCommand(message_id, sop_class.decode("ascii"), sop_instance.decode("ascii"))


def store_response(
    command: StoreCommand, *, context_id: int, status: int, comment: str, max_pdu_bytes: int = 0
) -> bytes:
    """The C-STORE-RSP as P-DATA-TF PDUs, one unless the peer's maximum (0: none) is very small (PS3.7 9.3.1.2)."""
    elements = [
        _element(_AFFECTED_SOP_CLASS_UID, _even(command.sop_class_uid.encode("ascii"), b"\0")),
        _element(_COMMAND_FIELD, _SHORT.pack(C_STORE_RSP)),
        _element(_MESSAGE_ID_BEING_RESPONDED_TO, _SHORT.pack(command.message_id)),
        _element(_DATA_SET_TYPE, _SHORT.pack(NO_DATA_SET)),
        _element(_STATUS, _SHORT.pack(status)),
    ]
    if comment:
        elements.append(_element(_ERROR_COMMENT, _even(comment.encode("ascii", "replace")[:_COMMENT_BYTES], b" ")))
    elements.append(_element(_AFFECTED_SOP_INSTANCE_UID, _even(command.sop_instance_uid.encode("ascii"), b"\0")))
    body = b"".join(elements)
    return _pdus(_element(_GROUP_LENGTH, struct.pack("<L", len(body))) + body, context_id, max_pdu_bytes)


def _pdus(encoded: bytes, context_id: int, max_pdu_bytes: int) -> bytes:
    step = max(1, max_pdu_bytes - _PDV_BYTES) if max_pdu_bytes else len(encoded)
    pieces = [encoded[at : at + step] for at in range(0, len(encoded), step)]
    return b"".join(
        _PDV.pack(
            _P_DATA,
            0,
            len(piece) + _PDV_BYTES,
            len(piece) + 2,
            context_id,
            _LAST_COMMAND if number == len(pieces) else _COMMAND,
        )
        + piece
        for number, piece in enumerate(pieces, 1)
    )


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding * (len(value) % 2)
