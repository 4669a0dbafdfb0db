"""Whoever waits computes nothing, so that slow peers cannot take the machine from the others."""

import threading
import time

import pytest

from network.dimse.ports import Peer
from network.dimse.receiving_layer import ReceivingUpperLayer
from tests.faults.wire_peers import P_DATA, associated, response_status
from tests.network.dimse_fixtures import FakePort, LocalReceiver, data_pdu, read_pdu, store_command

OBJECT = data_pdu(3, store_command()) + data_pdu(2, b"dataset")


class BusyPort(FakePort):
    """Takes its time over the beginning of an association."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def association_opened(self, peer: Peer) -> None:
        super().association_opened(peer)
        self.go_on.wait(20)


def spent_in_half_a_second() -> float:
    """Seconds of a processor that the thread at the one connection's end takes meanwhile."""
    (layer,) = (thread for thread in threading.enumerate() if isinstance(thread, ReceivingUpperLayer))
    clock = time.pthread_getcpuclockid(layer.ident or 0)
    before = time.clock_gettime(clock)
    time.sleep(0.5)
    return time.clock_gettime(clock) - before


@pytest.mark.parametrize("come", [0, 3, 12, 40, len(OBJECT) - 3])
def test_rest_of_an_object_that_does_not_come_costs_nothing(come: int):
    port = FakePort()
    with LocalReceiver(port) as local, associated(local) as connection:
        connection.sendall(OBJECT[:come])
        spent = spent_in_half_a_second()
        connection.sendall(OBJECT[come:])
        kind, body = read_pdu(connection)
    assert (kind, response_status(body)) == (P_DATA, (1, 0))
    assert spent < 0.06


def test_object_that_comes_while_its_association_is_busy_costs_next_to_nothing():
    port = BusyPort()
    with LocalReceiver(port) as local, associated(local) as connection:
        connection.sendall(OBJECT)
        spent = spent_in_half_a_second()
        port.go_on.set()
        kind, body = read_pdu(connection)
    assert (kind, response_status(body)) == (P_DATA, (1, 0))
    assert spent < 0.06
