"""What the services of normalised operations ask of the house."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from network.dimse.ports import Peer

STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
PERFORMED_PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"
SERVED: Final = frozenset({STORAGE_COMMITMENT, PERFORMED_PROCEDURE_STEP})

Operation = Literal["create", "get", "set", "action", "delete"]


@dataclass(frozen=True)
class NormalizedRequest:
    """One request without its data set. `sop_instance_uid` may be empty for a create, then the SCP makes one."""

    peer: Peer
    operation: Operation
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    type_id: int = 0

    @property
    def explicit(self) -> bool:
        return self.transfer_syntax_uid != "1.2.840.10008.1.2"


@dataclass(frozen=True)
class Event:
    """An N-EVENT-REPORT to send: its type and its data set in the encoding of the request's context."""

    type_id: int
    data: bytes
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class NormalizedReply:
    """What the peer is answered. `event` is asked for after that, on the same association if it still stands, and
    `event_ended` hears whether the peer has taken it.
    """

    status: int
    sop_instance_uid: str = ""
    comment: str = ""
    error_id: int = 0
    event: Callable[[], Event | None] | None = None
    event_ended: Callable[[bool], None] | None = None


class NormalizedPort(Protocol):
    """Called in the association's own thread, many at once."""

    def serve(self, request: NormalizedRequest, data: bytes) -> NormalizedReply:
        """What is answered with success is durable. An exception is logged without its text and answered with 0110."""
