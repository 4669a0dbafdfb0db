"""C-MOVE and C-GET as the requestor, with their sub-operations counted (PS3.4 C.4.2, C.4.3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from network.dimse import statuses
from network.dimse.errors import AssociationError
from network.dimse.scu.association import ClientAssociation
from network.dimse.scu.messages import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    C_GET_RQ,
    C_GET_RSP,
    C_MOVE_RQ,
    C_MOVE_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    COMMAND_FIELD,
    COMPLETED,
    FAILED,
    MESSAGE_ID,
    MOVE_DESTINATION,
    REMAINING,
    RESPONDED_TO,
    STATUS,
    WARNING,
    Message,
    command_encode,
)
from network.dimse.scu.negotiation import Context
from network.dimse.scu.query import PENDING, cancel_send, request_send

STORES_MAX: Final = 1_000_000
"""Sub-operations of one C-GET; a peer that goes on is cut off."""


@dataclass(frozen=True)
class Progress:
    """The counters of one response; None where the peer gave none."""

    status: int
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    comment: str = ""
    failed_identifier: bytes = b""
    """Of a final response: the Failed SOP Instance UID List, encoded as the context says."""

    @property
    def is_final(self) -> bool:
        return self.status not in PENDING


class ReceivingSink(Protocol):
    """Takes one object of a C-GET."""

    def write(self, data: memoryview) -> object: ...

    def commit(self) -> int:
        """All of it has come: the status to answer (PS3.4 B.2.3)."""

    def abort(self) -> None:
        """It will not become whole."""


BeginStore = Callable[[Context, str, str], ReceivingSink]
"""Context, SOP class UID and SOP instance UID of the command, unchecked: where the object goes."""
Told = Callable[[Progress], bool]
"""Hears of each response; False asks for a C-CANCEL."""


def move(
    opened: ClientAssociation,
    sop_class_uid: str,
    identifier: bytes,
    *,
    destination: str,
    told: Told | None = None,
    response_seconds: float | None = None,
) -> Progress:
    """Have the peer send what the identifier names to the AE `destination`; the final response.

    `response_seconds`: the longest silence between two responses; a peer need not send pending ones at all. Raises
    AssociationError.
    """
    context = _context(opened, sop_class_uid)
    message_id = request_send(opened, context, C_MOVE_RQ, identifier, {MOVE_DESTINATION: destination})
    return _follow(opened, context, C_MOVE_RSP, message_id, told, response_seconds, begin=None)


def get(
    opened: ClientAssociation,
    sop_class_uid: str,
    identifier: bytes,
    *,
    begin: BeginStore,
    told: Told | None = None,
    response_seconds: float | None = None,
) -> Progress:
    """Have the peer send what the identifier names on this association; the final response.

    `begin` is asked for a sink for each object, on a context whose abstract syntax was proposed `as_scp`. Raises
    AssociationError; a sink that was begun is then aborted.
    """
    context = _context(opened, sop_class_uid)
    message_id = request_send(opened, context, C_GET_RQ, identifier)
    return _follow(opened, context, C_GET_RSP, message_id, told, response_seconds, begin=begin)


def _context(opened: ClientAssociation, sop_class_uid: str) -> Context:
    context = opened.context(sop_class_uid)
    if context is None:
        raise AssociationError("The peer does not offer this retrieval.", code="context-rejected", permanent=True)
    return context


def _follow(
    opened: ClientAssociation,
    context: Context,
    command: int,
    message_id: int,
    told: Told | None,
    seconds: float | None,
    *,
    begin: BeginStore | None,
) -> Progress:
    """Responses until the final one, and the stores in between."""
    cancelled = False
    stores = _Stores(opened, begin)
    while True:
        message = stores.receive(seconds)
        if message.command == C_STORE_RQ:
            continue
        if message.command != command or message.number(RESPONDED_TO) != message_id or message.status is None:
            raise opened.broken()
        progress = _progress(message)
        go_on = told(progress) if told is not None else True
        if progress.is_final:
            return progress
        if not go_on and not cancelled:
            cancelled = True
            cancel_send(opened, context, message_id)


class _Stores:
    """The C-STORE sub-operations of a C-GET."""

    def __init__(self, opened: ClientAssociation, begin: BeginStore | None) -> None:
        self._opened = opened
        self._begin = begin
        self._sink: ReceivingSink | None = None
        self._count = 0

    def receive(self, seconds: float | None) -> Message:
        """The next message; a C-STORE-RQ has been kept and answered."""
        self._sink = None
        try:
            message = self._opened.receive(seconds=seconds, sink_for=self._sink_for)
            if message.command == C_STORE_RQ:
                self._answer(message)
        except BaseException:
            if self._sink is not None:
                self._sink.abort()
            raise
        return message

    def _sink_for(self, message: Message) -> ReceivingSink | None:
        if message.command != C_STORE_RQ:
            return None
        context = self._opened.accepted.contexts[message.context_id]
        self._count += 1
        allowed = self._begin is not None and context.abstract_syntax in self._opened.accepted.as_scp
        if not allowed or self._begin is None or self._count > STORES_MAX:
            raise self._opened.broken()
        self._sink = self._begin(context, message.text(AFFECTED_SOP_CLASS_UID), message.text(AFFECTED_SOP_INSTANCE_UID))
        return self._sink

    def _answer(self, message: Message) -> None:
        """After the sink has made the object durable."""
        if self._sink is None:
            raise self._opened.broken()  # a C-STORE-RQ without a data set
        sink, self._sink = self._sink, None
        status = sink.commit()
        values: dict[int, int | str] = {
            AFFECTED_SOP_CLASS_UID: message.text(AFFECTED_SOP_CLASS_UID),
            COMMAND_FIELD: C_STORE_RSP,
            RESPONDED_TO: message.number(MESSAGE_ID) or 0,
            STATUS: status,
            AFFECTED_SOP_INSTANCE_UID: message.text(AFFECTED_SOP_INSTANCE_UID),
        }
        self._opened.send(self._opened.accepted.contexts[message.context_id], command_encode(values, data_set=False))


def _progress(message: Message) -> Progress:
    return Progress(
        status=message.status if message.status is not None else statuses.PROCESSING_FAILURE,
        remaining=message.number(REMAINING),
        completed=message.number(COMPLETED),
        failed=message.number(FAILED),
        warning=message.number(WARNING),
        comment=message.comment,
        failed_identifier=message.data,
    )
