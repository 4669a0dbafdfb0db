"""C-STORE as the requestor: data sets go out with exactly the bytes they hold, in few writes (PS3.4 annex B)."""

import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Generic, Protocol, TypeVar

from network.dimse import statuses
from network.dimse.errors import AssociationError
from network.dimse.part10_head import SendableFile, sendable_file
from network.dimse.scu.association import DEFAULT_TIMEOUTS, ClientAssociation, Timeouts, association
from network.dimse.scu.fragments import data_pdus, fragment_bytes
from network.dimse.scu.link import Buffer
from network.dimse.scu.messages import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    C_STORE_RQ,
    C_STORE_RSP,
    COMMAND_FIELD,
    MEDIUM,
    MESSAGE_ID,
    MOVE_ORIGINATOR_AE_TITLE,
    MOVE_ORIGINATOR_MESSAGE_ID,
    PRIORITY,
    RESPONDED_TO,
    command_encode,
)
from network.dimse.scu.negotiation import CONTEXTS_MAX, Context, Proposal

SLOWEST_BYTES_PER_SECOND: Final = 500_000
"""A response is waited for as long as a line of this speed would take for the object, and `dimse_seconds` more."""
PIECE_BYTES: Final = 1 << 20
"""How much of an object is in memory at once; the next object's first piece is read while the peer works."""


@dataclass(frozen=True)
class SendResult:
    """What became of one file. `status` is the peer's answer; without one it is None and `code` says why.

    Codes: `file-unreadable` (no whole Part 10 file), `context-rejected` (the peer does not take this SOP class in this
    transfer syntax), `refused` (a failure status). Empty when the peer has stored it.
    """

    path: Path
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    status: int | None = None
    code: str = ""
    comment: str = ""
    bytes_sent: int = 0

    @property
    def is_stored(self) -> bool:
        """The peer has taken the object over."""
        return self.status is not None and statuses.is_stored(self.status)


@dataclass
class SendReport:
    """What became of all files, in the order of sending."""

    results: list[SendResult] = field(default_factory=list)
    associations: int = 0

    @property
    def stored(self) -> int:
        """How many the peer has taken over."""
        return sum(result.is_stored for result in self.results)


@dataclass(frozen=True)
class MoveOriginator:
    """Whose C-MOVE a store is part of (PS3.7 9.1.1.1), and how urgent that is: its stores are as urgent."""

    ae_title: str
    message_id: int
    priority: int = MEDIUM


class Sendable(Protocol):
    """One object to send: its identity, its encoding, and its data set, `dataset_bytes` long."""

    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def dataset_bytes(self) -> int: ...
    def open_dataset(self) -> BinaryIO:
        """A stream at the beginning of the data set. Raises OSError."""


Item = TypeVar("Item", bound=Sendable)


@dataclass(frozen=True)
class StoreAnswer:
    """What became of one object. `code` as in SendResult; `status` None when the peer was not asked or said nothing."""

    status: int | None = None
    code: str = ""
    comment: str = ""

    @property
    def is_stored(self) -> bool:
        return self.status is not None and statuses.is_stored(self.status)


def send_instances(
    files: Iterable[Path],
    *,
    address: str,
    port: int,
    calling_ae_title: str,
    called_ae_title: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    tls: ssl.SSLContext | None = None,
    on_result: Callable[[SendResult], None] | None = None,
) -> SendReport:
    """Send every file by C-STORE, its data set byte for byte as stored; nothing is transcoded.

    One association, and another for each 128 further pairs of SOP class and transfer syntax. `on_result` hears of each
    file as soon as its fate is known. May be repeated: a receiver knows an object by its SOP instance UID. Raises
    AssociationError when an association cannot be opened or breaks: files not reported until then are not known to be
    stored.
    """
    report = SendReport()

    def told(result: SendResult) -> None:
        report.results.append(result)
        if on_result is not None:
            on_result(result)

    sendable = list(_sendable(files, told))
    for batch in _batches(sendable):
        pairs = dict.fromkeys((file.sop_class_uid, file.transfer_syntax_uid) for file in batch)
        report.associations += 1
        with association(
            [Proposal(sop_class, (syntax,)) for sop_class, syntax in pairs],
            address=address,
            port=port,
            calling_ae_title=calling_ae_title,
            called_ae_title=called_ae_title,
            timeouts=timeouts,
            tls=tls,
        ) as opened:
            for file, answer in store_each(opened, batch):
                told(_result(file, answer))
    return report


def store_each(
    opened: ClientAssociation, items: Iterable[Item], *, originator: MoveOriginator | None = None
) -> Iterator[tuple[Item, StoreAnswer]]:
    """Each object's fate, in order, on an association that stands. The next one is read while the peer works.

    An object without a context, or whose data set cannot be opened, is told as such and the others go on. Raises
    AssociationError when the association breaks (`file-vanished`: a data set ended before its announced size).
    """
    waiting: _Opened[Item] | None = None
    following: _Opened[Item] | None = None
    try:
        for item in items:
            following, refusal = _open(opened, item)
            if waiting is not None:
                current, waiting = waiting, None
                yield current.item, _answer(opened, current)
            if following is None:
                yield item, refusal
                continue
            waiting, following = following, None
            _start(opened, waiting, originator)
        if waiting is not None:
            current, waiting = waiting, None
            yield current.item, _answer(opened, current)
    finally:
        for one in (waiting, following):
            if one is not None:
                one.stream.close()


@dataclass
class _Opened(Generic[Item]):
    """An object whose first piece is in memory."""

    item: Item
    context: Context
    stream: BinaryIO
    piece: bytes


def _open(opened: ClientAssociation, item: Item) -> tuple[_Opened[Item] | None, StoreAnswer]:
    context = opened.context(item.sop_class_uid, item.transfer_syntax_uid)
    if context is None:
        return None, StoreAnswer(code="context-rejected")
    try:
        stream = item.open_dataset()
    except OSError:
        return None, StoreAnswer(code="file-unreadable")
    try:
        piece = read_exactly(stream, min(_piece_bytes(opened), item.dataset_bytes))
    except OSError:
        stream.close()
        return None, StoreAnswer(code="file-unreadable")
    return _Opened(item, context, stream, piece), StoreAnswer()


def _start(opened: ClientAssociation, one: _Opened[Item], originator: MoveOriginator | None) -> None:
    """Send all of it."""
    item, limit = one.item, opened.accepted.max_pdu_bytes
    buffers = store_request(opened, one.context, item.sop_class_uid, item.sop_instance_uid, originator)
    sent = len(one.piece)
    while True:
        buffers += data_pdus(one.piece, one.context.context_id, limit, last=sent == item.dataset_bytes)
        opened.send_pdus(buffers)
        if sent == item.dataset_bytes:
            break
        try:
            one.piece = read_exactly(one.stream, min(_piece_bytes(opened), item.dataset_bytes - sent))
        except OSError as exc:
            opened.abort()
            raise AssociationError(
                "A file could not be read while it was sent, the association was aborted: check the disk.",
                code="file-vanished",
            ) from exc
        sent += len(one.piece)
        buffers = []
    one.piece = b""
    one.stream.close()


def _answer(opened: ClientAssociation, one: _Opened[Item]) -> StoreAnswer:
    """The C-STORE-RSP to what was sent last. Raises AssociationError; an answer to something else is none."""
    slow = one.item.dataset_bytes / SLOWEST_BYTES_PER_SECOND
    answer = opened.receive(seconds=opened.timeouts.dimse_seconds + slow)
    if answer.command != C_STORE_RSP or answer.number(RESPONDED_TO) != opened.last_message_id or answer.status is None:
        raise opened.broken()
    code = "" if statuses.is_stored(answer.status) else "refused"
    return StoreAnswer(answer.status, code, answer.comment)


def store_request(
    opened: ClientAssociation,
    context: Context,
    sop_class_uid: str,
    sop_instance_uid: str,
    originator: MoveOriginator | None = None,
) -> list[Buffer]:
    """The C-STORE-RQ as PDUs, whose data set follows."""
    priority = MEDIUM if originator is None else originator.priority
    command = store_command(opened.message_id(), sop_class_uid, sop_instance_uid, originator, priority=priority)
    return data_pdus(command, context.context_id, opened.accepted.max_pdu_bytes, command=True)


def store_command(
    message_id: int,
    sop_class_uid: str,
    sop_instance_uid: str,
    originator: MoveOriginator | None = None,
    *,
    priority: int = MEDIUM,
) -> bytes:
    """A C-STORE-RQ that announces a data set (PS3.7 9.3.1.1)."""
    values: dict[int, int | str] = {
        AFFECTED_SOP_CLASS_UID: sop_class_uid,
        COMMAND_FIELD: C_STORE_RQ,
        MESSAGE_ID: message_id,
        PRIORITY: priority,
        AFFECTED_SOP_INSTANCE_UID: sop_instance_uid,
    }
    if originator is not None:
        values |= {MOVE_ORIGINATOR_AE_TITLE: originator.ae_title, MOVE_ORIGINATOR_MESSAGE_ID: originator.message_id}
    return command_encode(values, data_set=True)


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes. Raises OSError when the file has become shorter."""
    found = stream.read(size)
    while len(found) < size:
        more = stream.read(size - len(found))
        if not more:
            raise OSError("the file has become shorter")
        found += more
    return found


def _piece_bytes(opened: ClientAssociation) -> int:
    """A whole number of fragments, about PIECE_BYTES."""
    step = fragment_bytes(opened.accepted.max_pdu_bytes)
    return max(1, PIECE_BYTES // step) * step


def _sendable(files: Iterable[Path], told: Callable[[SendResult], None]) -> Iterator[SendableFile]:
    for path in files:
        try:
            file = sendable_file(path)
        except OSError:
            file = None
        if file is None:
            told(SendResult(path, code="file-unreadable"))
        else:
            yield file


def _batches(files: Sequence[SendableFile]) -> Iterator[list[SendableFile]]:
    """The files in batches of at most 128 pairs each, in order within a batch."""
    pairs = list(dict.fromkeys((file.sop_class_uid, file.transfer_syntax_uid) for file in files))
    for start in range(0, len(pairs), CONTEXTS_MAX):
        chosen = set(pairs[start : start + CONTEXTS_MAX])
        yield [file for file in files if (file.sop_class_uid, file.transfer_syntax_uid) in chosen]


def _result(file: SendableFile, answer: StoreAnswer) -> SendResult:
    return SendResult(
        path=file.path,
        sop_class_uid=file.sop_class_uid,
        sop_instance_uid=file.sop_instance_uid,
        transfer_syntax_uid=file.transfer_syntax_uid,
        status=answer.status,
        code=answer.code,
        comment=answer.comment,
        bytes_sent=file.dataset_bytes if answer.status is not None else 0,
    )
