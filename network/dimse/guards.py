"""What a peer may say on the wire: caps on every length before anything is allocated, and sanity of what is declared.

Whatever breaks a rule here ends the association with an A-ABORT (PS3.8 9.3.8), never with an exception in a thread.
"""

import logging
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Final

from pynetdicom.timer import Timer

from network.dimse.command import CommandError, command_has_data_set
from network.dimse.errors import DimseError

logger = logging.getLogger(__name__)

A_ASSOCIATE_RQ: Final = 0x01
P_DATA: Final = 0x04
PDU_KINDS: Final = range(0x01, 0x08)
ASSOCIATE_BYTES: Final = 1 << 20
"""Of an A-ASSOCIATE-RQ, the only long PDU before there is an association."""
CONTROL_BYTES: Final = 1024
"""Of a PDU that is neither data nor a request; the standard's have 4."""
PDU_SLACK_BYTES: Final = 1024
"""Some senders count their own headers out of the maximum length that they were told."""
UNLIMITED_PDU_BYTES: Final = 16 << 20
"""The largest P-DATA PDU where we announced no maximum."""
COMMAND_BYTES: Final = 65_536
PDV_HEADER_BYTES: Final = 6
MESSAGE_BYTES: Final = 16 << 20
"""Of a data set that is gathered in memory: those of C-STORE are not."""

_REASON_NOT_SPECIFIED: Final = 0x00
_REASON_UNRECOGNIZED_PDU: Final = 0x01
REASON_UNEXPECTED_PDU: Final = 0x02
_REASON_INVALID_VALUE: Final = 0x06

_MAX_CONTEXTS: Final = 128
_MAX_ITEMS: Final = 8192
_UID_BYTES: Final = 64
_ITEM: Final = struct.Struct(">BxH")
_PDV: Final = struct.Struct(">LBB")
_FIXED_BYTES: Final = 68
_CONTEXT_ITEM: Final = 0x20
_USER_ITEM: Final = 0x50
_UID_ITEMS: Final = frozenset({0x10, 0x30, 0x40})
_ITEM_KINDS: Final = frozenset({0x10, _CONTEXT_ITEM, _USER_ITEM})
_LOG_SECONDS: Final = 10.0


class ProtocolViolationError(DimseError):
    """A peer broke a rule of the wire. `code` is a stable word, `abort_reason` what the A-ABORT says (PS3.8 9.3.8)."""

    def __init__(self, code: str, abort_reason: int = _REASON_INVALID_VALUE) -> None:
        super().__init__(
            "The peer does not keep to the DICOM protocol: ask its vendor, or keep it off this port.", code=code
        )
        self.abort_reason = abort_reason


class PduTimeoutError(ProtocolViolationError):
    """A PDU, or a message in several, that was begun and did not end in time; or silence in the middle of an object."""

    def __init__(self, code: str = "pdu-timeout") -> None:
        super().__init__(code, _REASON_NOT_SPECIFIED)


class MonotonicTimer(Timer):  # type: ignore[misc]
    """pynetdicom's timer, by a clock that nobody sets."""

    def start(self) -> None:
        self._start_time: float | None = time.monotonic()
        self._end_time: float | None = None

    def stop(self) -> None:
        self._end_time = time.monotonic()

    @property
    def remaining(self) -> float:
        """Seconds left; negative when expired; 1 when there is no limit, as pynetdicom has it."""
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        return float(self.timeout - ((self._end_time or time.monotonic()) - self._start_time))


def pdu_check(kind: int, length: int, *, established: bool, max_pdu_bytes: int) -> None:
    """By the header alone: a kind that exists, a length that such a PDU may have. Raises ProtocolViolationError."""
    if kind not in PDU_KINDS:
        raise ProtocolViolationError("pdu-unknown", _REASON_UNRECOGNIZED_PDU)
    if kind == P_DATA and established:
        if length > (max_pdu_bytes or UNLIMITED_PDU_BYTES) + PDU_SLACK_BYTES:
            raise ProtocolViolationError("pdu-too-long")
    elif kind == A_ASSOCIATE_RQ and not established:
        if length > ASSOCIATE_BYTES:
            raise ProtocolViolationError("pdu-too-long")
    elif length > CONTROL_BYTES:
        raise ProtocolViolationError("pdu-too-long" if kind != P_DATA else "pdu-unexpected", REASON_UNEXPECTED_PDU)


def pdv_check(item_bytes: int, context_id: int, *, left_bytes: int, contexts: Collection[int]) -> None:
    """A PDV's length fits into what is left of its PDU, and its context was accepted. Raises ProtocolViolationError."""
    if not PDV_HEADER_BYTES - 4 <= item_bytes <= left_bytes - 4:
        raise ProtocolViolationError("pdv-length")
    if context_id not in contexts:
        raise ProtocolViolationError("context-unknown")


def pdvs(body: bytes | bytearray | memoryview, contexts: Collection[int]) -> Iterator[tuple[int, memoryview]]:
    """Control header and fragment of each PDV of a whole P-DATA PDU (PS3.8 9.3.5.1). Raises ProtocolViolationError."""
    view = memoryview(body)
    at, end = 0, len(view)
    if not end:
        raise ProtocolViolationError("pdv-missing")
    while at < end:
        if end - at < PDV_HEADER_BYTES:
            raise ProtocolViolationError("pdv-length")
        item_bytes, context_id, control = _PDV.unpack_from(view, at)
        pdv_check(item_bytes, context_id, left_bytes=end - at, contexts=contexts)
        yield control, view[at + PDV_HEADER_BYTES : at + 4 + item_bytes]
        at += 4 + item_bytes


class MessageGuard:
    """Follows the messages that pynetdicom gathers: each a command set that can be read, then what it announced."""

    def __init__(self, *, message_bytes: int) -> None:
        """`message_bytes`: the longest data set, 0 for no limit."""
        self._message_bytes = message_bytes
        self._command = bytearray()
        self._awaiting_data = False
        self._data_bytes = 0

    def feed(self, body: bytes | bytearray | memoryview, contexts: Collection[int]) -> None:
        """The next P-DATA PDU may be passed on. Raises ProtocolViolationError."""
        for control, fragment in pdvs(body, contexts):
            if control & 1:
                self._take_command(fragment, last=bool(control & 2))
            else:
                self._take_data(fragment, last=bool(control & 2))

    def _take_command(self, fragment: memoryview, *, last: bool) -> None:
        if self._awaiting_data:
            raise ProtocolViolationError("data-set-missing")
        if len(self._command) + len(fragment) > COMMAND_BYTES:
            raise ProtocolViolationError("command-too-long")
        self._command += fragment
        if last:
            try:
                self._awaiting_data = command_has_data_set(bytes(self._command))
            except CommandError as error:
                raise ProtocolViolationError(error.code) from error
            self._command.clear()
            self._data_bytes = 0

    def _take_data(self, fragment: memoryview, *, last: bool) -> None:
        if not self._awaiting_data:
            raise ProtocolViolationError("data-set-unannounced")
        self._data_bytes += len(fragment)
        if self._message_bytes and self._data_bytes > self._message_bytes:
            raise ProtocolViolationError("data-set-too-long")
        if last:
            self._awaiting_data = False


def associate_request_check(body: bytes | bytearray | memoryview) -> None:
    """The items of an A-ASSOCIATE-RQ lie within each other, few enough, with UIDs of a UID's length and context ids
    that are odd and each there once (PS3.8 9.3.2). What they mean is for the negotiation.

    Raises ProtocolViolationError.
    """
    view = memoryview(body)
    if len(view) < _FIXED_BYTES:
        raise ProtocolViolationError("request-malformed")
    budget = [_MAX_ITEMS]
    context_ids: set[int] = set()
    for kind, value in _items(view[_FIXED_BYTES:], budget):
        if kind not in _ITEM_KINDS:
            raise ProtocolViolationError("request-malformed")
        if kind == _CONTEXT_ITEM:
            _context_check(value, context_ids, budget)
        elif kind == _USER_ITEM:
            for _sub_item in _items(value, budget):
                pass


def _context_check(value: memoryview, known: set[int], budget: list[int]) -> None:
    if len(value) < 4:
        raise ProtocolViolationError("request-malformed")
    context_id = value[0]
    if not context_id % 2 or context_id in known or len(known) >= _MAX_CONTEXTS:
        raise ProtocolViolationError("context-id-invalid")
    known.add(context_id)
    kinds = [kind for kind, _value in _items(value[4:], budget)]
    if kinds.count(0x30) != 1 or set(kinds) - {0x30, 0x40}:
        raise ProtocolViolationError("request-malformed")


def _items(view: memoryview, budget: list[int]) -> Iterator[tuple[int, memoryview]]:
    at, end = 0, len(view)
    while at < end:
        budget[0] -= 1
        if end - at < _ITEM.size or budget[0] < 0:
            raise ProtocolViolationError("request-malformed")
        kind, length = _ITEM.unpack_from(view, at)
        at += _ITEM.size + length
        if at > end or (kind in _UID_ITEMS and length > _UID_BYTES):
            raise ProtocolViolationError("request-malformed")
        yield kind, view[at - length : at]


class ViolationLog:
    """Counts what peers did wrong, and says so in one line at most every ten seconds, however many there are."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last_address = ""
        self._next_line = 0.0

    def add(self, code: str, *, address: str) -> None:
        """One more; the line names the latest address."""
        with self._lock:
            self._counts[code] += 1
            self._last_address = address
        self.flush()

    def flush(self) -> None:
        """Say what was counted, if there is anything and the last line is old enough."""
        with self._lock:
            now = self._monotonic()
            if not self._counts or now < self._next_line:
                return
            self._next_line = now + _LOG_SECONDS
            counts, address = dict(self._counts), self._last_address
            self._counts.clear()
        logger.warning("peers broke the protocol", extra={"counts": counts, "latest_address": address})


VIOLATIONS: Final = ViolationLog()
