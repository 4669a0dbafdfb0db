"""STOW-RS as its client writes and reads it (PS3.18 10.5): one multipart request, an answer for each instance."""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from network.dicomweb.errors import DicomwebError

ANSWER_TYPE: Final = "application/dicom+json"
ANSWER_TYPES: Final = frozenset({ANSWER_TYPE, "application/json"})
"""The second is what some servers call the first."""

_BOUNDARY_BYTES: Final = 32
_PART_HEAD: Final = b"Content-Type: application/dicom\r\nContent-Length: %d\r\n\r\n"
_REFERENCED_SOPS: Final = "00081199"
_FAILED_SOPS: Final = "00081198"
_OTHER_FAILURES: Final = "0008119A"
_INSTANCE_UID: Final = "00081155"
_FAILURE_REASON: Final = "00081197"
_WARNING_REASON: Final = "00081196"
DUPLICATE_INSTANCE: Final = 0x0111


@dataclass(frozen=True)
class Part:
    """One Part 10 file: how long it is, and its octets, from the beginning each time that they are asked for."""

    size_bytes: int
    blocks: Callable[[], Iterable[bytes]]


class StoreRequest:
    """The body of one request: its length is known beforehand, and it streams in constant memory (RFC 2387, RFC 2046).

    The boundary is 256 random bits, drawn when the files had long been written: that it stands in one of them is as
    likely as guessing a key. May be iterated again, from the beginning. `on_progress` is told the octets of files that
    were handed on so far. Raises DicomwebError `part-changed` before the end of a part that is longer or shorter than
    it said; what iterating a part raises is passed on.
    """

    def __init__(self, parts: Sequence[Part], *, on_progress: Callable[[int], None] | None = None) -> None:
        self._parts = parts
        self._boundary = secrets.token_hex(_BOUNDARY_BYTES).encode("ascii")
        self._on_progress = on_progress

    @property
    def content_type(self) -> str:
        return f'multipart/related; type="application/dicom"; boundary={self._boundary.decode("ascii")}'

    @property
    def content_bytes(self) -> int:
        """Octets of the files alone."""
        return sum(part.size_bytes for part in self._parts)

    def __len__(self) -> int:
        framing = sum(len(self._head(part)) + len(b"\r\n") for part in self._parts)
        return framing + self.content_bytes + len(self._tail())

    def __iter__(self) -> Iterator[bytes]:
        handed_on = 0
        for part in self._parts:
            yield self._head(part)
            end = handed_on + part.size_bytes
            for block in part.blocks():
                handed_on += len(block)
                if handed_on > end:
                    raise DicomwebError("part-changed")
                yield block
                if self._on_progress is not None:
                    self._on_progress(handed_on)
            if handed_on != end:
                raise DicomwebError("part-changed")
            yield b"\r\n"
        yield self._tail()

    def _head(self, part: Part) -> bytes:
        return b"--" + self._boundary + b"\r\n" + _PART_HEAD % part.size_bytes

    def _tail(self) -> bytes:
        return b"--" + self._boundary + b"--\r\n"


@dataclass(frozen=True)
class StoreAnswer:
    """What a server says of the instances that it names, by SOP Instance UID (PS3.18 10.5.3, I.2).

    `stored`: the WarningReason, None where there is none. `failed`: the FailureReason, None where the server gives
    none. An instance named as both is failed. `nameless`: failures that the server ascribes to no instance.
    """

    stored: dict[str, int | None] = field(default_factory=dict)
    failed: dict[str, int | None] = field(default_factory=dict)
    nameless: int = 0


def answer_parse(content: bytes) -> StoreAnswer:
    """The answer from its DICOM JSON (PS3.18 F.2); the caller has bounded it. DicomwebError `answer-unreadable`.

    A list of one or more objects is taken as one answer: some servers wrap it so.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise DicomwebError("answer-unreadable") from None
    stored: dict[str, int | None] = {}
    failed: dict[str, int | None] = {}
    nameless = 0
    for dataset in document if isinstance(document, list) else [document]:
        if not isinstance(dataset, dict):
            raise DicomwebError("answer-unreadable")
        stored |= _named(dataset, _REFERENCED_SOPS, _WARNING_REASON)
        failed |= _named(dataset, _FAILED_SOPS, _FAILURE_REASON)
        nameless += len(_items(dataset, _OTHER_FAILURES))
    return StoreAnswer({uid: why for uid, why in stored.items() if uid not in failed}, failed, nameless)


def _named(dataset: dict[str, object], sequence: str, reason: str) -> dict[str, int | None]:
    found = ((_value(item, _INSTANCE_UID), _value(item, reason)) for item in _items(dataset, sequence))
    return {uid.strip("\0 "): _number(why) for uid, why in found if isinstance(uid, str)}


def _items(dataset: dict[str, object], tag: str) -> list[dict[str, object]]:
    element = dataset.get(tag)
    if element is None:
        return []
    if not isinstance(element, dict) or not isinstance(items := element.get("Value", []), list):
        raise DicomwebError("answer-unreadable")
    if not all(isinstance(item, dict) for item in items):
        raise DicomwebError("answer-unreadable")
    return items


def _value(item: dict[str, object], tag: str) -> object:
    """The first value of an element; None when there is none."""
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _number(value: object) -> int | None:
    """A US; also as the text of a decimal number (PS3.18 F.2.3.1 allows it)."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 5:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF else None


@dataclass(frozen=True)
class Meaning:
    """A FailureReason in plain words. `permanent`: the same object again would fail again."""

    words: str
    permanent: bool


_EXACT: Final = {
    0x0110: Meaning("the server failed while processing it", permanent=False),
    DUPLICATE_INSTANCE: Meaning("the server has another object under this UID and keeps it", permanent=True),
    0x0117: Meaning("the server finds its UID invalid", permanent=True),
    0x0122: Meaning("the server does not take this kind of object (SOP class)", permanent=True),
    0x0124: Meaning("the server does not permit it", permanent=True),
    0xC122: Meaning("the server does not take this encoding (transfer syntax)", permanent=True),
    0xC123: Meaning("the server refuses it: it belongs to another study", permanent=True),
}
_BY_GROUP: Final = (
    (0xFF00, 0xA700, Meaning("the server is out of resources", permanent=False)),
    (0xFF00, 0xA900, Meaning("the server finds that it does not match its SOP class", permanent=True)),
    (0xF000, 0xC000, Meaning("the server cannot understand it", permanent=True)),
)
_UNKNOWN: Final = Meaning("the server refuses it", permanent=True)
_SILENT: Final = Meaning("the server refuses it and gives no reason", permanent=True)


def failure_meaning(reason: int | None) -> Meaning:
    """What a FailureReason (0008,1197) says (PS3.18 I.2.2, PS3.7 C, PS3.4 B.2.3)."""
    if reason is None:
        return _SILENT
    if reason in _EXACT:
        return _EXACT[reason]
    return next((meaning for mask, group, meaning in _BY_GROUP if reason & mask == group), _UNKNOWN)


_WARNINGS: Final = {
    0xB000: "the server changed elements of it (coercion)",
    0xB006: "the server left out elements of it",
    0xB007: "the server finds that it does not match its SOP class, and keeps it",
}


def warning_words(reason: int) -> str:
    """What a WarningReason (0008,1196) says: the instance is stored, but perhaps not as it was sent."""
    return _WARNINGS.get(reason, "the server stored it with a warning")
