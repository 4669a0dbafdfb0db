"""D10, D12 and what a hostile peer may send as a procedure step, tried on a running gateway's own port."""

import struct
from collections.abc import Sequence
from typing import Any

import pytest

from network.dimse import scu
from network.dimse.commitment import Reference, request_data
from network.dimse.errors import AssociationError
from network.dimse.normalized.ports import PERFORMED_PROCEDURE_STEP
from network.dimse.scu.commitment import ASKING, EXPLICIT_LITTLE, CommitmentError, commitment_ask
from network.dimse.scu.messages import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    COMMAND_FIELD,
    MESSAGE_ID,
    command_encode,
)
from network.dimse.scu.retrieve import move
from tests.flow.test_retrieve import peer_add
from tests.gateway_harness import Gateway
from tests.network.query_house import encoded, question
from tests.network.scu_peers import CT, MOVE
from tests.network.step_sets import series_of, step_begun

pytestmark = [pytest.mark.timeout(120)]
STEP = scu.Proposal(PERFORMED_PROCEDURE_STEP, (EXPLICIT_LITTLE,))
N_CREATE_RQ = 0x0140


@pytest.fixture(scope="module")
def house(shared_gateway: Gateway) -> Gateway:
    """One gateway for all of these."""
    peer_add(shared_gateway, "MODALITY", may_commit=True)
    peer_add(shared_gateway, "GATEWAY", host="127.0.0.1", port=shared_gateway.dimse_port)
    shared_gateway.start_listeners()
    return shared_gateway


def peer(gateway: Gateway) -> dict[str, Any]:
    return {
        "address": "127.0.0.1",
        "port": gateway.dimse_port,
        "calling_ae_title": "MODALITY",
        "called_ae_title": "GATEWAY",
    }


def references(count: int) -> list[Reference]:
    return [Reference(CT, f"1.2.826.0.1.3680043.10.99.{number}") for number in range(count)]


def commit(gateway: Gateway, transaction_uid: str, named: Sequence[Reference]) -> int:
    """The N-ACTION's status."""
    with scu.association([ASKING], **peer(gateway)) as opened:
        try:
            commitment_ask(opened, request_data(transaction_uid, named, explicit=True))
        except CommitmentError as error:
            return error.status or -1
    return 0


def rows(gateway: Gateway) -> int:
    return int(gateway.value("SELECT count(*) FROM network_commitmentrequest"))


def answers(gateway: Gateway) -> None:
    """Another peer's echo is served."""
    scu.echo(**{**peer(gateway), "calling_ae_title": "ANYBODY"})


@pytest.mark.parametrize(("count", "status"), [(100_000, 0x0213), (40_000, 0x0213), (0, 0x0115)])
def test_d10_too_many_and_no_references_are_refused(house: Gateway, count: int, status: int) -> None:
    before = rows(house)
    assert commit(house, "1.2.50", references(count)) == status
    assert rows(house) == before
    answers(house)


def test_d10_most_references_allowed_are_taken_and_repeated_transactions_are_told_apart(house: Gateway) -> None:
    most = references(20_000)
    assert commit(house, "1.2.51", most) == 0x0000
    assert commit(house, "1.2.51", most) == 0x0000
    assert rows(house) == 1
    assert commit(house, "1.2.51", most[:-1]) == 0x0131
    assert rows(house) == 1
    answers(house)


def test_d10_a_reference_named_a_thousand_times_is_one(house: Gateway) -> None:
    assert commit(house, "1.2.52", references(1) * 1000) == 0x0000
    counts = house.rows("SELECT instance_count FROM network_commitmentrequest WHERE transaction_uid = '1.2.52'")
    assert counts == [(1,)]


@pytest.mark.parametrize("destination", ["NOBODY", "GATEWAY", "../../etc", "A" * 16])
def test_d12_move_to_an_unknown_ae_or_to_ourselves_is_refused(house: Gateway, destination: str) -> None:
    with scu.association([scu.Proposal(MOVE, (EXPLICIT_LITTLE,))], **peer(house)) as opened:
        wanted = encoded(question("STUDY", StudyInstanceUID="1.2.3"))
        result = move(opened, MOVE, wanted, destination=destination)
        assert result.status == 0xA801
    answers(house)


SEQUENCE = struct.pack("<HH2sHL", 0x40, 0x340, b"SQ", 0, 0xFFFFFFFF)
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
STEPS = {
    "noise": (b"\xff" * 1000, 0x0106),
    "nothing": (b"", 0x0120),
    "sequences 50 deep": ((SEQUENCE + ITEM) * 50, 0x0106),
    "a length beyond the end": (encoded(step_begun())[:-5], 0x0106),
    "9 MB": (struct.pack("<HH2sHL", 8, 0x60, b"OB", 0, 9_000_000) + b"x" * 9_000_000, 0x0213),
    "30,000 objects": (
        encoded(step_begun(PerformedSeriesSequence=[series_of(*(f"1.2.{number}" for number in range(30_000)))])),
        0x0213,
    ),
    "SQL": (encoded(step_begun(PatientName="' OR 1=1 --")), 0x0000),
    "NUL": (encoded(step_begun(PatientID="a\0b")), 0x0000),
    "a name of 60,000 characters": (encoded(step_begun(PatientName="x" * 60_000)), 0x0000),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("content", "status"), STEPS.values(), ids=STEPS.keys())
def test_hostile_procedure_step_is_answered_and_the_association_goes_on(
    house: Gateway, content: bytes, status: int
) -> None:
    with scu.association([STEP], **peer(house)) as opened:
        for data, expected in ((content, status), (encoded(step_begun()), 0x0000)):
            assert create(opened, data) == expected
    answers(house)


def create(opened: scu.ClientAssociation, data: bytes, *, uid: str = "") -> int | None:
    context = opened.context(PERFORMED_PROCEDURE_STEP)
    assert context is not None
    values: dict[int, int | str] = {
        AFFECTED_SOP_CLASS_UID: PERFORMED_PROCEDURE_STEP,
        COMMAND_FIELD: N_CREATE_RQ,
        MESSAGE_ID: opened.message_id(),
    }
    if uid:
        values[AFFECTED_SOP_INSTANCE_UID] = uid
    opened.send(context, command_encode(values, data_set=True), data)
    return opened.receive().status


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "1.2.abc", "..", "."])
def test_uid_that_is_none_makes_no_step(house: Gateway, uid: str) -> None:
    with scu.association([STEP], **peer(house)) as opened:
        assert create(opened, encoded(step_begun()), uid=uid) == 0x0117


def test_create_without_its_data_set_is_answered(house: Gateway) -> None:
    with scu.association([STEP], **peer(house)) as opened:
        context = opened.context(PERFORMED_PROCEDURE_STEP)
        assert context is not None
        values: dict[int, int | str] = {
            AFFECTED_SOP_CLASS_UID: PERFORMED_PROCEDURE_STEP, COMMAND_FIELD: N_CREATE_RQ, MESSAGE_ID: 7
        }  # fmt: skip
        opened.send(context, command_encode(values, data_set=False))
        assert opened.receive().status == 0x0120


def _begun_twice(opened: scu.ClientAssociation) -> None:
    """A command that announces a data set, and in its place the command again."""
    context = opened.context(PERFORMED_PROCEDURE_STEP)
    assert context is not None
    values: dict[int, int | str] = {
        AFFECTED_SOP_CLASS_UID: PERFORMED_PROCEDURE_STEP, COMMAND_FIELD: N_CREATE_RQ, MESSAGE_ID: 7
    }  # fmt: skip
    opened.send(context, command_encode(values, data_set=True))
    opened.send(context, command_encode(values, data_set=True))
    with pytest.raises(AssociationError):
        opened.receive()


def test_command_in_place_of_a_data_set_ends_the_association_and_leaves_no_step(house: Gateway) -> None:
    before = house.value("SELECT count(*) FROM network_procedurestep")
    opened = scu.associate([STEP], **peer(house))
    try:
        _begun_twice(opened)
    finally:
        opened.abort()
    assert house.value("SELECT count(*) FROM network_procedurestep") == before
    answers(house)
