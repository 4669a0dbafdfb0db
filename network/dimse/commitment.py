"""The data sets of storage commitment: requests read within bounds, reports and requests written (PS3.4 J.3)."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from network.dimse.normalized.ports import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, Event
from network.dimse.query.dataset import Elements, elements_read
from network.dimse.query.errors import garbled

REQUEST_ACTION: Final = 1
ALL_COMMITTED, SOME_FAILED = 1, 2
TRANSACTION_UID: Final = 0x00081195
REFERENCED_SOP_SEQUENCE: Final = 0x00081199
FAILED_SOP_SEQUENCE: Final = 0x00081198
REFERENCED_SOP_CLASS_UID: Final = 0x00081150
REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
FAILURE_REASON: Final = 0x00081197
MAX_ELEMENTS: Final = 400_000
_UID_BYTES: Final = 64
_ITEM: Final = 0xFFFEE000


@dataclass(frozen=True, slots=True)
class Reference:
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Report:
    """A peer's report on a request of ours; failures with their reason."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]


def request_read(data: bytes, *, explicit: bool) -> tuple[str, list[Reference]]:
    """Transaction UID and references of an N-ACTION, each once and in order. Raises QueryError `identifier-garbled`."""
    elements = elements_read(data, explicit=explicit, max_elements=MAX_ELEMENTS)
    transaction_uid = _uid(elements, TRANSACTION_UID)
    references = dict.fromkeys(_references(elements, REFERENCED_SOP_SEQUENCE))
    if not references:
        raise garbled("no references")
    return transaction_uid, list(references)


def report_read(data: bytes, *, explicit: bool) -> Report:
    """An N-EVENT-REPORT's data set. Raises QueryError `identifier-garbled`."""
    elements = elements_read(data, explicit=explicit, max_elements=MAX_ELEMENTS)
    failed = []
    for item in _items(elements, FAILED_SOP_SEQUENCE):
        reason = item.get(FAILURE_REASON)
        number = int.from_bytes(reason.value[:2], "little") if reason is not None else 0
        failed.append((_reference(item), number))
    return Report(_uid(elements, TRANSACTION_UID), tuple(_references(elements, REFERENCED_SOP_SEQUENCE)), tuple(failed))


def _references(elements: Elements, tag: int) -> list[Reference]:
    return [_reference(item) for item in _items(elements, tag)]


def _items(elements: Elements, tag: int) -> Sequence[Elements]:
    found = elements.get(tag)
    return found.items if found is not None else ()


def _reference(item: Elements) -> Reference:
    return Reference(_uid(item, REFERENCED_SOP_CLASS_UID), _uid(item, REFERENCED_SOP_INSTANCE_UID))


def _uid(elements: Elements, tag: int) -> str:
    found = elements.get(tag)
    value = found.value.rstrip(b"\0 ") if found is not None else b""
    if not 0 < len(value) <= _UID_BYTES or not value.isascii() or not value.replace(b".", b"").isdigit():
        raise garbled("a UID is missing or is none")
    return value.decode("ascii")


# -- writing -----------------------------------------------------------------------------------------------------------


def request_data(transaction_uid: str, references: Iterable[Reference], *, explicit: bool) -> bytes:
    """The data set of an N-ACTION of ours."""
    items = [_reference_item(one, None, explicit) for one in references]
    return _ui(TRANSACTION_UID, transaction_uid, explicit) + _sequence(REFERENCED_SOP_SEQUENCE, items, explicit)


def event_data(
    transaction_uid: str, committed: Sequence[Reference], failed: Sequence[tuple[Reference, int]], *, explicit: bool
) -> Event:
    """The N-EVENT-REPORT on a request; the sequences come in the order of their tags."""
    data = _ui(TRANSACTION_UID, transaction_uid, explicit)
    if failed:
        items = [_reference_item(one, reason, explicit) for one, reason in failed]
        data += _sequence(FAILED_SOP_SEQUENCE, items, explicit)
    if committed:
        items = [_reference_item(one, None, explicit) for one in committed]
        data += _sequence(REFERENCED_SOP_SEQUENCE, items, explicit)
    kind = SOME_FAILED if failed else ALL_COMMITTED
    return Event(kind, data, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)


def _reference_item(one: Reference, reason: int | None, explicit: bool) -> bytes:
    found = _ui(REFERENCED_SOP_CLASS_UID, one.sop_class_uid, explicit)
    found += _ui(REFERENCED_SOP_INSTANCE_UID, one.sop_instance_uid, explicit)
    if reason is not None:
        found += _head(FAILURE_REASON, b"US", 2, explicit) + struct.pack("<H", reason)
    return struct.pack("<HHL", _ITEM >> 16, _ITEM & 0xFFFF, len(found)) + found


def _sequence(tag: int, items: Sequence[bytes], explicit: bool) -> bytes:
    body = b"".join(items)
    if explicit:
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(body)) + body
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(body)) + body


def _ui(tag: int, uid: str, explicit: bool) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return _head(tag, b"UI", len(value), explicit) + value


def _head(tag: int, vr: bytes, length: int, explicit: bool) -> bytes:
    if explicit:
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length)
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)
