"""C-MOVE over kept associations: used again, replaced when dead, and no object is counted twice."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from network.dimse import scu
from network.dimse.fast_store import ServicePorts
from network.dimse.retrieve.ports import RetrievePlan, RetrieveRequest
from network.dimse.scu import pool as pool_module
from network.dimse.scu.messages import COMMAND_FIELD, RESPONDED_TO, STATUS
from network.dimse.scu.pool import AssociationPool, PeerAddress
from network.dimse.scu.retrieve import Progress, move
from tests.network.dimse_fixtures import FakePort, LocalReceiver, wait_until
from tests.network.scu_peers import EXPLICIT, MOVE, ScriptedPeer, accept, pdu, response
from tests.network.test_retrieve_service import PROPOSALS, House, Item, destination, may_retrieve

__all__ = ["may_retrieve"]
MR = "1.2.840.10008.5.1.4.1.1.4"


class PooledHouse(House):
    """Its C-MOVEs go over one pool, as those of a receiver do."""

    pool: AssociationPool

    def plan(self, request: RetrieveRequest, identifier: bytes) -> RetrievePlan:
        plan = super().plan(request, identifier)
        return RetrievePlan(plan.items, plan.missing, plan.address, plan.timeouts, self.pool)


@pytest.fixture
def house() -> Iterator[PooledHouse]:
    found = PooledHouse([Item(number) for number in range(5)])
    found.pool = AssociationPool(idle_seconds=60, wait_seconds=5)
    yield found
    found.pool.close()


def moved(house: PooledHouse) -> Progress:
    with (
        LocalReceiver(FakePort(), ports=ServicePorts(retrieve=house)) as local,
        scu.association(PROPOSALS, **local.peer) as opened,
    ):
        return move(opened, MOVE, b"", destination="PACS")


def test_second_move_uses_the_association_of_the_first(house: PooledHouse) -> None:
    with LocalReceiver(FakePort()) as pacs:
        house.address = destination(pacs.peer)
        for _time in range(3):
            assert (moved(house).completed, house.ends[-1][0]) == (5, "")
        (state,) = house.pool.state()
        assert (state.opened, state.reused, state.idle, state.in_use) == (1, 2, 1, 0)
        house.pool.close()


@contextlib.contextmanager
def one_at_a_time() -> Iterator[tuple[PeerAddress, Callable[[], int]]]:
    """A device that takes one association at a time, and how often it has rejected one. Those that it rejects do not
    count as open, as they do for pynetdicom's: on a busy machine that one rejects all who come at once.
    """
    port = FakePort()
    with LocalReceiver(port, max_associations=1) as device:
        yield (
            PeerAddress(**device.peer),
            lambda: sum(summary.outcome == "rejected" for _peer, summary in list(port.closed)),
        )


def test_peer_of_one_association_at_a_time_is_waited_for_while_it_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever contexts the others need: what is kept with other ones is released for them.

    A device on a busy machine notices that late: here we are as patient as it needs.
    """
    monkeypatch.setattr(pool_module, "_NOTICE_SECONDS", (0.05, 0.25, 1.0, 2.0, 4.0, 8.0))
    monkeypatch.setattr(pool_module, "_TAKEN_SECONDS", 30.0)
    pool, ended = AssociationPool(idle_seconds=60, wait_seconds=30), []
    kinds = [[scu.VERIFICATION_PROPOSAL], [scu.Proposal(scu.VERIFICATION_PROPOSAL.abstract_syntax, (EXPLICIT,))]]

    def work(number: int) -> None:
        pool.run(address, kinds[number % 2], scu.echo_on)
        ended.append(number)

    with one_at_a_time() as (address, rejected):
        others = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        with pool.use(address, kinds[0]) as opened:
            for other in others:
                other.start()
            wait_until(lambda: rejected() >= 3)  # the fourth has no place yet
            scu.echo_on(opened)
        for other in others:
            other.join(30)
        assert sorted(ended) == [0, 1, 2, 3]
        pool.close()


def test_peer_that_is_full_of_others_says_so_at_once() -> None:
    pool = AssociationPool(wait_seconds=30)
    with one_at_a_time() as (address, _rejected):
        proposals = [scu.VERIFICATION_PROPOSAL]
        with scu.association(
            proposals, address=address.address, port=address.port, calling_ae_title="OTHER", called_ae_title="PACS"
        ) as opened:
            with pytest.raises(scu.AssociationError) as caught:
                pool.run(address, proposals, scu.echo_on)
            scu.echo_on(opened)
    assert (caught.value.code, caught.value.reason) == ("association-rejected", "local-limit-exceeded")


def test_destination_that_has_let_go_meanwhile_gets_a_new_one(house: PooledHouse) -> None:
    with LocalReceiver(FakePort()) as pacs:
        house.address = destination(pacs.peer)
        moved(house)
        for association in list(pacs.receiver._server._associations):
            association.disconnect()
        wait_until(lambda: not pacs.receiver._server._associations)
        assert moved(house).completed == 5
        assert house.pool.state()[0].opened == 2
        house.pool.close()


def test_kept_association_that_dies_on_the_first_object_repeats_no_count(house: PooledHouse) -> None:
    """The first object has no context and is counted at once; the association dies with the second."""
    stored = response(3, {COMMAND_FIELD: 0x8001, RESPONDED_TO: 1, STATUS: 0})
    says = (accept([(3, EXPLICIT)]), stored[:10], stored[10:], b"")
    house.items = [Item(1, sop_class_uid=MR), Item(2)]
    with ScriptedPeer(*says, connections=2) as pacs:
        house.address = destination(pacs.peer)
        for _time in range(2):
            final = moved(house)
            assert (final.completed, final.failed, final.remaining) == (1, 1, None)
        assert [(done.completed, done.failed) for _code, done in house.ends] == [(1, 1), (1, 1)]
        assert house.pool.state()[0].opened == 2
        house.pool.close()


def test_destination_that_dies_after_an_answer_is_not_tried_again(house: PooledHouse) -> None:
    stored = response(1, {COMMAND_FIELD: 0x8001, RESPONDED_TO: 1, STATUS: 0})
    says = (accept([(1, EXPLICIT)]), stored[:10], stored[10:], pdu(0x07, bytes(4)))
    with ScriptedPeer(*says, connections=2) as pacs:
        house.address = destination(pacs.peer)
        assert (moved(house).completed, house.ends[-1][0]) == (1, "association-aborted")
        assert house.pool.state()[0].idle == 0
