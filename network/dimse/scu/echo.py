"""C-ECHO as the requestor (PS3.4 annex A)."""

import ssl
import time

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from network.dimse import statuses
from network.dimse.contexts import VERIFICATION
from network.dimse.errors import AssociationError
from network.dimse.scu.association import DEFAULT_TIMEOUTS, ClientAssociation, Timeouts, association
from network.dimse.scu.messages import AFFECTED_SOP_CLASS_UID, C_ECHO_RQ, COMMAND_FIELD, MESSAGE_ID, command_encode
from network.dimse.scu.negotiation import Proposal
from network.dimse.scu.reach import ANYWHERE, Reach

VERIFICATION_PROPOSAL = Proposal(VERIFICATION, (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)))


def echo(
    *,
    address: str,
    port: int,
    calling_ae_title: str,
    called_ae_title: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    tls: ssl.SSLContext | None = None,
    reach: Reach = ANYWHERE,
) -> float:
    """The seconds that a C-ECHO took in an established association. Raises AssociationError."""
    with association(
        [VERIFICATION_PROPOSAL],
        address=address,
        port=port,
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        timeouts=timeouts,
        tls=tls,
        reach=reach,
    ) as opened:
        started = time.monotonic()
        echo_on(opened)
        return time.monotonic() - started


def echo_on(opened: ClientAssociation) -> None:
    """One C-ECHO on an association that stands. Raises AssociationError (`echo-refused`)."""
    context = opened.context(VERIFICATION)
    if context is None:
        raise AssociationError("The peer does not offer verification.", code="echo-refused", permanent=True)
    values: dict[int, int | str] = {
        AFFECTED_SOP_CLASS_UID: VERIFICATION,
        COMMAND_FIELD: C_ECHO_RQ,
        MESSAGE_ID: opened.message_id(),
    }
    opened.send(context, command_encode(values, data_set=False))
    status = opened.receive().status
    if status != statuses.SUCCESS:
        words = "no status" if status is None else f"status {status:04X}"
        raise AssociationError(f"The peer answered the echo with {words}.", code="echo-refused")
