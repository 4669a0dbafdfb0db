"""Kept associations: reused, looked at first, never too many, and never a reason for lost work."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from network.dimse import scu
from network.dimse.scu.pool import ECHO_AFTER_SECONDS, AssociationPool, PeerAddress, PoolFullError
from tests.network.dimse_fixtures import FakePort, LocalReceiver, wait_until
from tests.network.scu_peers import Archive, ScriptedPeer, accept, archive_running, pdu

ECHO = [scu.VERIFICATION_PROPOSAL]
FAST = scu.Timeouts(connect_seconds=5, acse_seconds=5, dimse_seconds=2, network_seconds=2)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def archive() -> Iterator[Archive]:
    with archive_running() as running:
        yield running


def address_of(peer: dict) -> PeerAddress:
    return PeerAddress(**peer)


def pool_make(**values: float) -> tuple[AssociationPool, Clock]:
    clock = Clock()
    return AssociationPool(**{"wait_seconds": 0.2} | values, monotonic=clock), clock  # type: ignore[arg-type]


def test_second_piece_of_work_uses_the_kept_association(archive: Archive):
    pool, _clock = pool_make()
    for _time in range(5):
        pool.run(address_of(archive.peer), ECHO, scu.echo_on)
    (state,) = pool.state()
    assert (state.idle, state.in_use, state.opened, state.reused) == (1, 0, 1, 4)
    pool.close()
    assert archive.associations == 1


def test_other_contexts_or_another_title_have_an_association_of_their_own(archive: Archive):
    pool, _clock = pool_make()
    peer = address_of(archive.peer)
    other = [scu.Proposal("1.2.840.10008.1.1", ("1.2.840.10008.1.2.1",))]
    pool.run(peer, ECHO, scu.echo_on)
    pool.run(peer, other, scu.echo_on)
    pool.run(PeerAddress(**archive.peer | {"calling_ae_title": "ELSE"}), ECHO, scu.echo_on)
    pool.close()
    assert archive.associations == 3


def test_idle_for_too_long_is_released(archive: Archive):
    pool, clock = pool_make(idle_seconds=60)
    peer = address_of(archive.peer)
    pool.run(peer, ECHO, scu.echo_on)
    clock.now += 59
    pool.sweep()
    assert pool.state()[0].idle == 1
    clock.now += 2
    pool.sweep()
    assert pool.state()[0].idle == 0
    pool.run(peer, ECHO, scu.echo_on)
    clock.now += 61
    pool.run(peer, ECHO, scu.echo_on)  # without a sweep: too old all the same
    pool.close()
    assert archive.associations == 3


def test_peer_that_ended_the_kept_association_costs_no_work():
    with LocalReceiver(FakePort()) as local:
        pool, clock = pool_make()
        peer = address_of(local.peer)
        pool.run(peer, ECHO, scu.echo_on)
        for association in list(local.receiver._server._associations):
            association.disconnect()
        wait_until(lambda: not local.receiver._server._associations)
        pool.run(peer, ECHO, scu.echo_on)
        clock.now += ECHO_AFTER_SECONDS + 1
        pool.run(peer, ECHO, scu.echo_on)
        assert pool.state()[0].opened == 2
        pool.close()


def test_kept_association_that_dies_unanswered_is_replaced_once():
    """It stood when it was taken; the peer closes on the first message."""
    answer = accept([(1, "1.2.840.10008.1.2")])
    echoed = b""
    with ScriptedPeer(answer, echoed, connections=2) as peer:
        pool, _clock = pool_make()
        done = []

        def work(opened: scu.ClientAssociation) -> None:
            done.append(opened.reused)
            if len(done) > 1:
                scu.echo_on(opened)

        pool.run(PeerAddress(**peer.peer), ECHO, work, timeouts=FAST)
        with pytest.raises(scu.AssociationError) as caught:
            pool.run(PeerAddress(**peer.peer), ECHO, work, timeouts=FAST)
        pool.close()
    assert done == [False, True, False]
    assert caught.value.code == "connection-lost"


def test_peer_that_does_not_answer_a_release_holds_up_nobody() -> None:
    """Its associations are closed after two seconds, not after the thirty that a negotiation may take."""
    pool, clock = pool_make(idle_seconds=1)
    with contextlib.ExitStack() as stack:
        for _number in range(3):
            hung = stack.enter_context(ScriptedPeer(accept([(1, "1.2.840.10008.1.2")]), None))
            with pool.use(address_of(hung.peer), ECHO):
                pass
        clock.now += 2
        sweep = threading.Thread(target=pool.sweep)
        sweep.start()
        sweep.join(20)
        assert not sweep.is_alive()
    assert [state.idle for state in pool.state()] == [0, 0, 0]


def test_failure_after_an_answer_is_not_tried_again(archive: Archive):
    pool, _clock = pool_make()
    peer = address_of(archive.peer)
    pool.run(peer, ECHO, scu.echo_on)
    tries = []

    def work(opened: scu.ClientAssociation) -> None:
        tries.append(1)
        scu.echo_on(opened)
        raise scu.AssociationError("lost", code="connection-lost")

    with pytest.raises(scu.AssociationError):
        pool.run(peer, ECHO, work)
    assert tries == [1]
    assert pool.state()[0].idle == 0
    pool.close()


def test_no_more_at_once_than_allowed_and_whoever_waits_gets_the_next(archive: Archive):
    pool, _clock = pool_make(per_peer=1, wait_seconds=20)
    peer = address_of(archive.peer)
    waiting = threading.Thread(target=lambda: pool.run(peer, ECHO, scu.echo_on))
    with pool.use(peer, ECHO):
        waiting.start()
        pool.wait_seconds = 0
        with pytest.raises(PoolFullError):
            pool.run(peer, ECHO, scu.echo_on)
    waiting.join(20)
    assert not waiting.is_alive()
    assert archive.associations == 1
    pool.close()


def test_idle_ones_are_bounded_over_all_peers(archive: Archive):
    pool, clock = pool_make(total=2)
    for number in range(4):
        clock.now += 1
        pool.run(PeerAddress(**archive.peer | {"calling_ae_title": f"A{number}"}), ECHO, scu.echo_on)
    kept = sorted(state.peer.calling_ae_title for state in pool.state() if state.idle)
    assert kept == ["A2", "A3"]
    pool.close()


def test_association_without_any_context_is_not_kept():
    with ScriptedPeer(accept([]), pdu(0x06, bytes(4))) as peer:
        pool, _clock = pool_make()
        with pool.use(PeerAddress(**peer.peer), ECHO, timeouts=FAST) as opened:
            assert opened.context("1.2.840.10008.1.1") is None
        assert pool.state()[0].idle == 0
        pool.close()


def test_peer_that_cannot_be_reached_is_counted_and_takes_no_place():
    pool, _clock = pool_make(per_peer=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = PeerAddress("127.0.0.1", server.getsockname()[1], "A", "B")
    for _time in range(3):
        with pytest.raises(scu.AssociationError) as caught:
            pool.run(peer, ECHO, scu.echo_on)
        assert caught.value.code == "connection-refused"
    (state,) = pool.state()
    assert (state.in_use, state.failed) == (0, 3)
