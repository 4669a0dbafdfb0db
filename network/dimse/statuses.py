"""DIMSE status codes that we send, and what a received one means (PS3.4 B.2.3, PS3.7 annex C)."""

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
INVALID_ATTRIBUTE_VALUE = 0x0106
DUPLICATE_INSTANCE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
INVALID_OBJECT_INSTANCE = 0x0117
CLASS_INSTANCE_CONFLICT = 0x0119
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
NO_SUCH_ACTION = 0x0123
DUPLICATE_TRANSACTION = 0x0131
"""A Transaction UID that is under way with other references (PS3.4 J.3.5)."""
UNRECOGNISED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
UNABLE_TO_COUNT = 0xA701
"""Of a retrieval: how many objects match cannot be told, or is beyond the limit."""
UNABLE_TO_PERFORM = 0xA702
"""Of a retrieval: no object could be sent."""
MOVE_DESTINATION_UNKNOWN = 0xA801
DATASET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
"""The data set is unreadable, cut short or without identity."""
HANDLER_FAILED = 0xC211
"""A fault of ours while the object was kept: nothing is wrong with the object, the sender may try again."""

NOT_AUTHORIZED = 0x0124
CANCEL = 0xFE00
PENDING = 0xFF00
PENDING_UNSUPPORTED = 0xFF01
"""An answer to a question of which some optional keys do not count here."""
QUERY_FAILED = 0xC001

_WARNINGS = range(0xB000, 0xC000)
_MEANINGS = {
    SUCCESS: "stored",
    PROCESSING_FAILURE: "processing failure",
    INVALID_OBJECT_INSTANCE: "invalid SOP instance UID",
    SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
}
_FAMILIES = {0xA7: "out of resources", 0xA9: "data set does not match the SOP class"}


def is_stored(status: int) -> bool:
    """True when the sender may take the object for kept: success or a warning."""
    return status == SUCCESS or status in _WARNINGS


def meaning(status: int) -> str:
    """A C-STORE status in words; never empty."""
    if status in _MEANINGS:
        return _MEANINGS[status]
    if status >> 8 in _FAMILIES:
        return _FAMILIES[status >> 8]
    if status in _WARNINGS:
        return "stored with a warning"
    if status >> 12 == 0xC:
        return "cannot understand"
    return "failed"
