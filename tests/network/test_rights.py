"""What a peer may do and see: the row, the grammar of its conditions, and the way to the receiver."""

import datetime as dt

import pytest
from django.core.exceptions import ValidationError
from django.utils.timezone import now

from network.dimse.access import Caller, KnownPeer, Policy, Verdict, judge
from network.dimse.channel import Order, channel_pair, order_send, socket_receive
from network.dimse.errors import ConfigurationError
from network.dimse.ports import AssociationSummary, Peer
from network.dimse.rights import UNKNOWN, Condition, Rights, Visible, conditions_parse, items_of
from network.models import RemoteAE
from network.services.access import policy_current
from network.services.associations import association_record

SEES = Visible(("CT 1", "MR_2"), ("CT",), (Condition("StudyDescription", True, "*RESEARCH*"),))


@pytest.mark.parametrize(
    ("line", "condition"),
    [
        ("PatientID=A*", Condition("PatientID", False, "A*")),
        ("  InstitutionName  =  Clinic North  ", Condition("InstitutionName", False, "Clinic North")),
        ("StudyDescription != *x = y*", Condition("StudyDescription", True, "*x = y*")),
    ],
)
def test_condition_is_a_keyword_an_operator_and_a_glob(line: str, condition: Condition) -> None:
    assert conditions_parse(["", line]) == (condition,)
    assert conditions_parse([str(condition)]) == (condition,)


@pytest.mark.parametrize(
    "line", ["PatientID", "PatientID ~ x", "Rows = 5", "= x", "PatientID =", "PatientID = " + "x" * 65]
)
def test_anything_else_is_no_condition_and_is_named_by_its_line(line: str) -> None:
    with pytest.raises(ConfigurationError, match="Line 2 ") as caught:
        conditions_parse(["PatientID = 1", line])
    assert caught.value.code == "condition-invalid"


def test_conditions_are_bounded() -> None:
    with pytest.raises(ConfigurationError):
        conditions_parse(["PatientID = 1"] * 21)


def test_ae_titles_may_hold_spaces() -> None:
    assert items_of("CT 1, MR_2\n\n US 3 ") == ("CT 1", "MR_2", "US 3")


def test_unknown_callers_may_store_and_nothing_else() -> None:
    verdict = judge(Caller("WHO", "GATEWAY", "10.0.0.7"), Policy(), our_ae_title="GATEWAY")
    assert verdict.rights == UNKNOWN == Rights(store=True, query=False, retrieve=False, commit=False)


def test_known_peer_has_its_own_rights() -> None:
    rights = Rights(store=False, query=True, visible=SEES)
    policy = Policy(peers={"WS": KnownPeer("WS", rights=rights)})
    assert judge(Caller("WS", "GATEWAY", "10.0.0.7"), policy, our_ae_title="GATEWAY").rights == rights
    assert judge(Caller("ws", "GATEWAY", "10.0.0.7"), policy, our_ae_title="GATEWAY").rights == UNKNOWN


def test_rights_reach_the_receiver_with_the_verdict() -> None:
    order = Order("verdict", 7, Verdict(rights=Rights(query=True, visible=SEES)))
    ours, theirs = channel_pair()
    with ours, theirs:
        assert order_send(ours, order)
        assert socket_receive(theirs) == order


def test_largest_rights_that_a_row_may_hold_fit_into_a_datagram() -> None:
    row = RemoteAE(
        ae_title="WS",
        visible_sources=",".join(["\"'!#$%&()*+-./:;"] * 50),
        visible_modalities="\N{SNOWMAN}" * 200,
        visible_conditions="\n".join(["StudyInstanceUID != " + "\N{SNOWMAN}" * 64] * 20),
    )
    row.full_clean(validate_unique=False)
    ours, theirs = channel_pair()
    with ours, theirs:
        assert order_send(ours, Order("verdict", 7, Verdict(rights=row.rights())))
        assert socket_receive(theirs) is not None


@pytest.mark.django_db
def test_policy_has_the_rows_rights() -> None:
    RemoteAE.objects.create(ae_title="CT_1")
    RemoteAE.objects.create(
        ae_title="WS",
        may_store=False,
        may_query=True,
        may_retrieve=True,
        may_commit=True,
        visible_sources="CT 1, MR_2",
        visible_modalities="CT",
        visible_conditions="StudyDescription != *RESEARCH*\n",
    )
    peers = policy_current().peers
    assert peers["CT_1"].rights == UNKNOWN
    assert peers["WS"].rights == Rights(store=False, query=True, retrieve=True, commit=True, visible=SEES)


@pytest.mark.django_db
def test_row_with_conditions_that_nobody_could_have_saved_sees_nothing() -> None:
    RemoteAE.objects.create(ae_title="WS", may_query=True, visible_conditions="Rows = 5")
    assert policy_current().peers["WS"].rights == UNKNOWN


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("visible_conditions", {"visible_conditions": "Rows = 5"}),
        ("visible_sources", {"visible_sources": "CT\\1"}),
        ("visible_sources", {"visible_sources": ",".join(["CT"] * 51)}),
        ("host", {"query_target": True}),
        ("port", {"port": 0}),
        ("tls_ca", {"tls_ca": "../ca.pem"}),
        ("calling_ae_title", {"calling_ae_title": "x" * 17}),
    ],
)
@pytest.mark.django_db
def test_row_says_what_is_wrong_with_it(field: str, values: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        RemoteAE(ae_title="WS", **values).full_clean()
    assert list(caught.value.message_dict) == [field]


@pytest.mark.django_db
def test_end_of_an_association_says_when_the_peer_was_last_seen() -> None:
    RemoteAE.objects.create(ae_title="CT_1")
    RemoteAE.objects.create(ae_title="MR_2")
    at = now() - dt.timedelta(seconds=3)
    summary = AssociationSummary("released", 1, 0, 9, at, at, "")
    association_record(Peer("assoc-1", "CT_1", "GATEWAY", "10.0.0.7", 1, tls=False), summary)
    assert RemoteAE.objects.get(ae_title="CT_1").last_seen_at == at
    assert RemoteAE.objects.get(ae_title="MR_2").last_seen_at is None
