"""Which addresses may be called at all, whatever name they come under."""

import ipaddress
from dataclasses import dataclass

from gateway_project.core.reach import address_refused
from network.dimse.access import Network
from network.dimse.errors import AssociationError


@dataclass(frozen=True)
class Reach:
    """Link-local, multicast and unspecified addresses and the metadata services of clouds are never called; those of
    this machine only while `loopback`; with `networks` only what lies in one of them, or on this machine.
    """

    networks: tuple[Network, ...] = ()
    loopback: bool = True

    def allows(self, text: str) -> bool:
        """Whether this address, as the resolver gives it, may be called."""
        address = ipaddress.ip_address(text.partition("%")[0])
        if address_refused(address, allow_loopback=self.loopback):
            return False
        plain = getattr(address, "ipv4_mapped", None) or address
        if not self.networks or plain.is_loopback:
            return True
        return any(plain.version == network.version and plain in network for network in self.networks)


ANYWHERE = Reach()


def refused_error() -> AssociationError:
    """The same words whichever rule it was, and before anything was tried there (code `address-refused`)."""
    return AssociationError(
        "This address may not be called from here: it is not one for peers, or PEER.NETWORKS and PEER.ALLOW_LOOPBACK "
        "do not allow it.",
        code="address-refused",
        permanent=True,
    )
