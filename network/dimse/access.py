"""Who may open an association: one pure decision over what is known of the caller, the rules, and what is open now."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from network.dimse.errors import ConfigurationError
from network.dimse.rights import UNKNOWN, Rights

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Verdict:
    """Accepted when `reason` is empty, and then with `rights`; else what an A-ASSOCIATE-RJ says (PS3.8 9.3.4), and our
    stable word for it.
    """

    reason: str = ""
    result: int = 0
    source: int = 0
    diagnostic: int = 0
    rights: Rights = UNKNOWN

    @property
    def accepted(self) -> bool:
        return not self.reason


ACCEPTED = Verdict()


def _refusal(reason: str, result: int, source: int, diagnostic: int) -> Verdict:
    return Verdict(reason, result, source, diagnostic)


# What is wrong with somebody's identity looks the same on the wire: the exact reason is for our trail alone.
NETWORK_NOT_ALLOWED = _refusal("network-not-allowed", 1, 1, 1)
CALLING_BLOCKED = _refusal("calling-ae-blocked", 1, 1, 3)
CALLING_UNKNOWN = _refusal("calling-ae-unknown", 1, 1, 3)
CALLED_UNKNOWN = _refusal("called-ae-unknown", 1, 1, 7)
ADDRESS_OF_ANOTHER = _refusal("address-of-another", 1, 1, 3)
CERTIFICATE_MISSING = _refusal("certificate-missing", 1, 1, 3)
CERTIFICATE_OF_ANOTHER = _refusal("certificate-of-another", 1, 1, 3)
TOO_MANY = _refusal("too-many-associations", 2, 3, 2)
TOO_MANY_OF_PEER = _refusal("too-many-associations-of-peer", 2, 3, 2)
STOPPING = _refusal("stopping", 2, 3, 1)
NO_VERDICT = _refusal("no-verdict", 2, 3, 1)

IDENTITY_REASONS = frozenset(one.reason for one in (ADDRESS_OF_ANOTHER, CERTIFICATE_MISSING, CERTIFICATE_OF_ANOTHER))
"""A known AE title that somebody else uses, or that came another way than it should: worth an alert."""


@dataclass(frozen=True)
class Caller:
    """What is known of somebody who asks for an association. AE titles are without padding.

    `certificate_sha256`: the fingerprint (lower-case hex) of the client certificate that TLS verified; empty without.
    """

    calling_ae_title: str
    called_ae_title: str
    address: str
    certificate_sha256: str = ""


@dataclass(frozen=True)
class KnownPeer:
    """What an AE title must come with, and may do. No network: from anywhere; no certificate: none is asked for."""

    ae_title: str
    networks: tuple[Network, ...] = ()
    certificates: frozenset[str] = frozenset()
    enabled: bool = True
    rights: Rights = UNKNOWN


@dataclass(frozen=True)
class Policy:
    """The rules, as one value that is replaced as a whole. Limits: 0 = none.

    `allowed_calling` counts only where unknown callers are not accepted; `peers` are always known.
    """

    accept_unknown: bool = True
    allowed_calling: frozenset[str] = frozenset()
    blocked_calling: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    check_called: bool = False
    max_associations: int = 0
    max_associations_per_peer: int = 0
    peers: Mapping[str, KnownPeer] = field(default_factory=dict)

    def owners_of(self, certificate_sha256: str) -> frozenset[str]:
        """The AE titles that this certificate belongs to; empty when it is nobody's."""
        return frozenset(peer.ae_title for peer in self.peers.values() if certificate_sha256 in peer.certificates)


def judge(
    caller: Caller, policy: Policy, *, our_ae_title: str, associations: int = 0, associations_of_peer: int = 0
) -> Verdict:
    """The verdict on one association request; pure, and quick enough for a flood.

    `our_ae_title` is the endpoint's; the counts are those of open associations before this one, in all and from the
    caller's address. What is permanent is said first: a peer that may never come in is not told to try again.
    """
    return (
        _by_rules(caller, policy, our_ae_title)
        or _by_identity(caller, policy)
        or _by_limits(policy, associations, associations_of_peer)
        or _accepted(policy.peers.get(caller.calling_ae_title))
    )


def _accepted(peer: KnownPeer | None) -> Verdict:
    return ACCEPTED if peer is None else Verdict(rights=peer.rights)


def _by_rules(caller: Caller, policy: Policy, our_ae_title: str) -> Verdict | None:
    calling = caller.calling_ae_title
    peer = policy.peers.get(calling)
    if not address_is_within(caller.address, policy.networks):
        return NETWORK_NOT_ALLOWED
    if calling in policy.blocked_calling or (peer is not None and not peer.enabled):
        return CALLING_BLOCKED
    if policy.check_called and caller.called_ae_title != our_ae_title:
        return CALLED_UNKNOWN
    if not policy.accept_unknown and peer is None and calling not in policy.allowed_calling:
        return CALLING_UNKNOWN
    return None


def _by_identity(caller: Caller, policy: Policy) -> Verdict | None:
    peer = policy.peers.get(caller.calling_ae_title)
    if peer is not None and not address_is_within(caller.address, peer.networks):
        return ADDRESS_OF_ANOTHER
    certificate = caller.certificate_sha256
    if peer is not None and peer.certificates and not certificate:
        return CERTIFICATE_MISSING
    if peer is not None and peer.certificates and certificate not in peer.certificates:
        return CERTIFICATE_OF_ANOTHER
    if certificate:
        owners = policy.owners_of(certificate)
        if owners and caller.calling_ae_title not in owners:
            return CERTIFICATE_OF_ANOTHER
    return None


def _by_limits(policy: Policy, associations: int, associations_of_peer: int) -> Verdict | None:
    if policy.max_associations and associations >= policy.max_associations:
        return TOO_MANY
    if policy.max_associations_per_peer and associations_of_peer >= policy.max_associations_per_peer:
        return TOO_MANY_OF_PEER
    return None


def address_is_within(address: str, networks: Iterable[Network]) -> bool:
    """True when the address lies in one of the networks, or there are none. An IPv4 address mapped into IPv6 counts as
    the IPv4 one; what is no address lies nowhere.
    """
    wanted = tuple(networks)
    if not wanted:
        return True
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in wanted if network.version == parsed.version)


def networks_parse(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from texts such as `10.0.0.0/8`, `192.168.1.7` or `fd00::/8`; raises ConfigurationError."""
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError:
            raise ConfigurationError(
                "A network is not of the form 10.0.0.0/8 or fd00::/8: correct the setting.", code="network-invalid"
            ) from None
    return tuple(found)
