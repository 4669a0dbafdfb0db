"""The gateway as the requestor: one client for C-ECHO, C-STORE, C-FIND, C-MOVE and C-GET, on sockets of its own."""

from network.dimse.errors import AssociationError
from network.dimse.scu.association import (
    DEFAULT_TIMEOUTS,
    ClientAssociation,
    Timeouts,
    associate,
    association,
)
from network.dimse.scu.echo import VERIFICATION_PROPOSAL, echo, echo_on
from network.dimse.scu.negotiation import Proposal
from network.dimse.scu.store import SendReport, SendResult, send_instances

__all__ = [
    "DEFAULT_TIMEOUTS",
    "VERIFICATION_PROPOSAL",
    "AssociationError",
    "ClientAssociation",
    "Proposal",
    "SendReport",
    "SendResult",
    "Timeouts",
    "associate",
    "association",
    "echo",
    "echo_on",
    "send_instances",
]
