"""What the receiver tells the rest of the house, and asks of it: nothing here knows sockets or pynetdicom."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from network.dimse.rights import UNKNOWN, Rights

Outcome = Literal["released", "aborted", "lost", "rejected"]


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of one association, and what it may do. AE titles without padding, as the peer sent them:
    no credential.
    """

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    port: int
    tls: bool
    rights: Rights = UNKNOWN


@dataclass(slots=True)
class StoreRequest:
    """One C-STORE request; its data set follows. Every string is the peer's and unchecked: never a path, never trusted.

    `sop_class_uid` and `sop_instance_uid` are the command's; `abstract_syntax_uid` is what the presentation context was
    accepted for. The data set is encoded in `transfer_syntax_uid`.
    """

    peer: Peer
    message_id: int
    context_id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    abstract_syntax_uid: str = ""


@dataclass(frozen=True)
class StoreResult:
    """What the peer is told: a status of `statuses` and a comment of at most 64 ASCII characters, free of PHI."""

    status: int
    comment: str = ""


@dataclass(frozen=True)
class AssociationSummary:
    """How one association ended. `bytes_received` counts data sets only; the times are aware and in UTC.

    `objects_stored` were answered with success or a warning, `objects_refused` with a failure. `reason` is a stable
    word for why it was aborted, lost or rejected, and empty after a release.
    """

    outcome: Outcome
    objects_stored: int
    objects_refused: int
    bytes_received: int
    opened_at: datetime
    closed_at: datetime
    reason: str


class StoreSink(Protocol):
    """Takes one data set while it arrives, exactly as it was on the wire, in the association's own thread.

    An exception is logged without its text and answered with `statuses.HANDLER_FAILED`; what still comes of the data
    set is then read and forgotten.
    """

    def write(self, data: memoryview) -> None:
        """The next bytes, any number of them; `data` is overwritten after the call. Never called for an empty data set.

        What is wrong with the object, or with the disk, is not told here but by `commit`.
        """

    def commit(self) -> StoreResult:
        """All of it has come: keep the object. Success may be returned only when it is durable."""

    def abort(self) -> None:
        """Forget it and give back what it holds; called after `commit` too, and then does nothing. Never raises."""


class StorePort(Protocol):
    """What the receiver needs of the house. Every call comes in the association's own thread, many at once.

    An association that is accepted gives: opened, any number of stores, releasing (if it ends so), closed. One that is
    rejected gives only closed, with the outcome `rejected`. `association_closed` comes exactly once whatever happens on
    the wire, but not when the process is killed.
    """

    def association_opened(self, peer: Peer) -> None:
        """The association was accepted. An exception is logged and the association goes on."""

    def begin(self, request: StoreRequest) -> StoreSink:
        """An object is about to come. A refusal is the sink's answer; an exception is treated as one of the sink's."""

    def association_releasing(self, peer: Peer) -> None:
        """The peer has asked for the release of an association that stored something. It is answered when this returns:
        what is done here is done when the sender goes on, and should not take longer than two seconds.
        """

    def association_closed(self, peer: Peer, summary: AssociationSummary) -> None:
        """The association is over, and its peer perhaps gone already."""
