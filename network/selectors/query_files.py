"""Attributes that the index does not keep, read from the beginning of an instance's file: at image level only."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, BinaryIO, Final

from network.dimse import statuses
from network.dimse.query.answer import value_of
from network.dimse.query.dataset import Element, Elements, elements_read
from network.dimse.query.errors import QueryError
from network.dimse.query.matching import SequenceMatch, Value
from network.dimse.query.question import Key
from network.dimse.query.text import SPECIFIC_CHARACTER_SET, codecs_of
from studies.dicom.errors import DicomError
from studies.dicom.inflate import BoundedInflater
from studies.dicom.part10 import file_meta_read
from studies.dicom.spool import Store
from studies.dicom.syntax import transfer_syntax
from studies.selectors import store_root

logger = logging.getLogger(__name__)
FILE_COLUMNS: Final = ("path", "file_deleted_at")
READ_BYTES: Final = 256 * 1024
MAX_ELEMENTS: Final = 20_000
_VALUE_BYTES: Final = 16 * 1024


class FileAttributes:
    """Reads at most `files` files for one query, 256 KiB of each; what lies behind that or behind Pixel Data is not
    found. What is deleted, unreadable or big endian has none of these attributes.
    """

    def __init__(self, keys: Sequence[Key], files: int) -> None:
        self._keys = keys
        self._files_left = files
        self._store = Store(store_root()) if keys else None

    def add(self, values: dict[int, Value], row: Mapping[str, Any]) -> bool:
        """Put the keys' values in; whether they are what the keys match. QueryError `query-too-many-answers`."""
        self._files_left -= 1
        if self._files_left < 0:
            raise QueryError(
                "too many instances to read: narrow the query",
                code="query-too-many-answers",
                status=statuses.OUT_OF_RESOURCES,
            )
        elements = self._elements(row["path"]) if row["file_deleted_at"] is None else {}
        codecs = codecs_of(_declared(elements))
        for key in self._keys:
            element = elements.get(key.tag)
            if element is not None and len(element.value) > _VALUE_BYTES:
                element = None
            if key.match is not None:
                compared = value_of(element, key.vr, codecs) if element is not None else None
                if not key.match.matches(compared):
                    return False
            values[key.tag] = _told(element, key, codecs) if element is not None else None
        return True

    def _elements(self, name: str) -> Elements:
        if self._store is None:
            return {}
        try:
            with closing(self._store.open(name)) as stream:
                return _beginning(stream)
        except (DicomError, QueryError, OSError) as error:
            logger.warning("instance not read for a query", extra={"error": type(error).__name__})
            return {}


def _told(element: Element, key: Key, codecs: tuple[str, ...]) -> Value:
    """The value as the answer says it: as it is written; of a sequence the items that match (PS3.4 C.2.2.2.6)."""
    told = value_of(element, key.vr, codecs, typed=False)
    if not isinstance(key.match, SequenceMatch) or not isinstance(told, tuple):
        return told
    compared = value_of(element, key.vr, codecs)
    pairs = zip(told, compared, strict=True) if isinstance(compared, tuple) else ()
    return tuple(one for one, other in pairs if key.match.item_matches(other))  # type: ignore[return-value]


def _beginning(stream: BinaryIO) -> Elements:
    meta = file_meta_read(stream)
    syntax = transfer_syntax(meta.transfer_syntax_uid)
    if syntax.big_endian:
        return {}
    data = stream.read(READ_BYTES)
    if syntax.deflated:
        data = _inflated(data)
    return elements_read(data, explicit=syntax.explicit, beginning=True, max_elements=MAX_ELEMENTS)


def _inflated(data: bytes) -> bytes:
    inflater = BoundedInflater(max_bytes=2 * READ_BYTES, max_ratio=10_000, free_bytes=2 * READ_BYTES)
    found = bytearray()
    for piece in inflater.pieces(data):
        found += piece
        if len(found) >= READ_BYTES:
            break
    return bytes(found)


def _declared(elements: Elements) -> tuple[str, ...]:
    element = elements.get(SPECIFIC_CHARACTER_SET)
    text = element.value.decode("ascii", "replace") if element is not None else ""
    return tuple(term.strip(" \0") for term in text.split("\\"))
