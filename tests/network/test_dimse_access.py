"""The judge of association requests: every rule, its reason, and what the peer is told."""

import ipaddress

import pytest

from network.dimse import access
from network.dimse.access import Caller, KnownPeer, Policy, Verdict, address_is_within, judge, networks_parse
from network.dimse.errors import REJECT_REASONS, ConfigurationError

CT = "CT_1"
MINE, OTHER = "a" * 64, "b" * 64


def verdict(policy: Policy, *, calling: str = CT, called: str = "GATEWAY", certificate: str = "", **counts) -> Verdict:
    caller = Caller(calling, called, counts.pop("address", "10.1.2.3"), certificate)
    return judge(caller, policy, our_ae_title="GATEWAY", **counts)


def peers(**fields) -> dict[str, KnownPeer]:
    return {CT: KnownPeer(CT, **fields)}


def test_unknown_callers_come_in_unless_told_otherwise():
    assert verdict(Policy()).accepted
    assert verdict(Policy(accept_unknown=False)) == access.CALLING_UNKNOWN


@pytest.mark.parametrize(
    "policy",
    [Policy(accept_unknown=False, allowed_calling=frozenset({CT})), Policy(accept_unknown=False, peers=peers())],
)
def test_known_callers_come_in_where_unknown_ones_do_not(policy: Policy):
    assert verdict(policy).accepted
    assert verdict(policy, calling="ct_1") == access.CALLING_UNKNOWN


def test_blocked_beats_allowed():
    policy = Policy(allowed_calling=frozenset({CT}), blocked_calling=frozenset({CT}), peers=peers())
    assert verdict(policy) == access.CALLING_BLOCKED
    assert verdict(Policy(peers=peers(enabled=False))) == access.CALLING_BLOCKED


def test_called_ae_title_counts_only_when_checked():
    assert verdict(Policy(), called="OTHER").accepted
    assert verdict(Policy(check_called=True), called="OTHER") == access.CALLED_UNKNOWN
    assert verdict(Policy(check_called=True)).accepted


def test_networks_bound_everybody():
    policy = Policy(networks=networks_parse(["10.1.0.0/16"]))
    assert verdict(policy).accepted
    assert verdict(policy, address="10.2.0.1") == access.NETWORK_NOT_ALLOWED


def test_p19_known_ae_from_another_address_is_refused():
    policy = Policy(peers=peers(networks=networks_parse(["10.1.2.3"])))
    assert verdict(policy).accepted
    assert verdict(policy, address="10.1.2.4") == access.ADDRESS_OF_ANOTHER
    assert verdict(policy, calling="MR_1", address="10.1.2.4").accepted


def test_p19_known_ae_must_show_its_own_certificate():
    policy = Policy(peers=peers(certificates=frozenset({MINE})))
    assert verdict(policy, certificate=MINE).accepted
    assert verdict(policy) == access.CERTIFICATE_MISSING
    assert verdict(policy, certificate=OTHER) == access.CERTIFICATE_OF_ANOTHER


def test_p19_certificate_of_one_peer_serves_no_other_title():
    policy = Policy(peers=peers(certificates=frozenset({MINE})))
    assert verdict(policy, calling="MR_1", certificate=MINE) == access.CERTIFICATE_OF_ANOTHER
    assert verdict(policy, calling="MR_1", certificate=OTHER).accepted


def test_limits_refuse_what_is_one_too_many():
    policy = Policy(max_associations=3, max_associations_per_peer=2)
    assert verdict(policy, associations=2, associations_of_peer=1).accepted
    assert verdict(policy, associations=3, associations_of_peer=0) == access.TOO_MANY
    assert verdict(policy, associations=2, associations_of_peer=2) == access.TOO_MANY_OF_PEER
    assert verdict(Policy(), associations=10_000, associations_of_peer=10_000).accepted


def test_who_may_never_come_in_is_not_told_to_try_again():
    policy = Policy(accept_unknown=False, max_associations=1)
    assert verdict(policy, associations=1).result == 1


def test_every_refusal_says_something_the_standard_knows():
    refusals = [one for one in vars(access).values() if isinstance(one, Verdict) and not one.accepted]
    assert len(refusals) >= 10
    assert all((one.source, one.diagnostic) in REJECT_REASONS for one in refusals)
    transient = {one.reason for one in refusals if one.result == 2}
    assert transient == {"too-many-associations", "too-many-associations-of-peer", "stopping", "no-verdict"}
    assert len({one.reason for one in refusals}) == len(refusals)


@pytest.mark.parametrize(
    ("address", "within"),
    [
        ("10.0.0.7", True),
        ("::ffff:10.0.0.7", True),
        ("fd00::7", True),
        ("fd00::7%eth0", True),
        ("11.0.0.7", False),
        ("::1", False),
        ("not an address", False),
    ],
)
def test_addresses_of_both_families_are_compared(address: str, within: bool):
    assert address_is_within(address, networks_parse(["10.0.0.0/8", "fd00::/8"])) is within
    assert address_is_within(address, [])


def test_networks_are_parsed_or_refused():
    assert networks_parse([" 10.0.0.1/8 "]) == (ipaddress.ip_network("10.0.0.0/8"),)
    with pytest.raises(ConfigurationError) as caught:
        networks_parse(["10.0.0.0/8", "hospital"])
    assert caught.value.code == "network-invalid"
