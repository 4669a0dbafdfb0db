"""What the query service asks of the house."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from network.dimse.ports import Peer

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class FindRequest:
    """One C-FIND request without its identifier. The flags are what extended negotiation gave (PS3.4 C.5.1)."""

    peer: Peer
    sop_class_uid: str
    transfer_syntax_uid: str
    relational: bool = False
    combined: bool = False
    fuzzy: bool = False

    @property
    def explicit(self) -> bool:
        """Whether identifiers carry VRs, both ways."""
        return self.transfer_syntax_uid == EXPLICIT_LITTLE


@dataclass(frozen=True)
class FindBatch:
    """Some answers, encoded as the peer gets them; `all_supported`: every optional key of the question counts."""

    identifiers: list[bytes]
    all_supported: bool


Answers: TypeAlias = Generator[FindBatch, None, None]


class FindPort(Protocol):
    """Called in the association's own thread, many at once."""

    def find(self, request: FindRequest, identifier: bytes) -> Answers:
        """The answers, a batch at a time; closed early when the peer cancels or is gone.

        Raises QueryError, before the first batch or after any: the peer is told its status. Another exception is
        logged without its text and answered with C001.
        """
