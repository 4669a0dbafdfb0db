"""What the retrieve service asks of the house."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from network.dimse.errors import AssociationError
from network.dimse.ports import Peer
from network.dimse.retrieve.counters import SubOperations
from network.dimse.scu.association import DEFAULT_TIMEOUTS, Timeouts
from network.dimse.scu.pool import AssociationPool, PeerAddress, pool_of_none


@dataclass(frozen=True)
class RetrieveRequest:
    """One C-MOVE or C-GET request without its identifier; `destination` is empty for C-GET."""

    peer: Peer
    sop_class_uid: str
    transfer_syntax_uid: str
    message_id: int
    destination: str = ""
    relational: bool = False
    priority: int = 0

    @property
    def is_move(self) -> bool:
        return bool(self.destination)


class StoredInstance(Protocol):
    """One stored object that can be sent as it is, or in another encoding without coding its pixels anew."""

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

    def recoded(self, transfer_syntax_uid: str) -> "StoredInstance":
        """The same in another transfer syntax of `alternatives`. Raises OSError when it cannot be made."""

    @property
    def alternatives(self) -> Sequence[str]:
        """Transfer syntaxes that `recoded` offers, the best first."""


@dataclass(frozen=True)
class RetrievePlan:
    """What is sent, in order; for a C-MOVE where to, over whose associations, and how patiently.

    `missing` are instances that match and are no longer here: they count as failed.
    """

    items: Sequence[StoredInstance]
    missing: Sequence[str] = ()
    address: PeerAddress | None = None
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    pool: AssociationPool = field(default_factory=pool_of_none)


class RetrievePort(Protocol):
    """Called in the association's own thread, many at once."""

    def plan(self, request: RetrieveRequest, identifier: bytes) -> RetrievePlan:
        """What this peer may have of what the identifier names. Raises QueryError: the peer is told its status.

        Another exception is logged without its text and answered with C001.
        """

    def ended(
        self,
        request: RetrieveRequest,
        plan: RetrievePlan,
        done: SubOperations,
        *,
        code: str,
        failure: AssociationError | None = None,
    ) -> None:
        """How it ended; `code` is empty, `cancelled`, `peer-gone`, or why the destination could not be served:
        `failure` says it in words then.
        """
