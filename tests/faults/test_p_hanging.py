"""Attackers that hold what they have begun, for as long as it takes: others are served all the same."""

import contextlib

import pytest

from tests.faults.wire_peers import BOTH_PATHS, associated, attacks_stored, neighbour, still_open, store_begun
from tests.network.dimse_fixtures import (
    FakePort,
    LocalReceiver,
    associate_request,
    data_pdu,
    raw_connection,
    store_command,
)

HANGING = {
    "p01-silence": (None, b""),
    "p02-half-header": (None, b"\x01\0\0"),
    "p02-half-request": (None, associate_request()[:-9]),
    "p02-half-pdu": ("RAW", data_pdu(3, store_command())[:40]),
    "p02-half-data-set": ("RAW", store_begun() + data_pdu(0, bytes(500))[:100]),
    "p21-idle": ("RAW", b""),
    "d02-command-without-end": ("RAW", data_pdu(1, bytes(100))),
    "d08-data-set-missing": ("RAW", data_pdu(3, store_command())),
}


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_p01_p02_p21_d02_d08_others_are_served_while_it_hangs(fast: bool):
    """Long deadlines and three of each: nobody is freed by a time-out while the neighbour's objects are stored."""
    port = FakePort()
    patient = {"acse_seconds": 60.0, "dimse_seconds": 60.0, "network_seconds": 60.0}
    with LocalReceiver(port, fast=fast, **patient) as local, contextlib.ExitStack() as stack:
        hanging = {}
        for number in range(3):
            for name, (title, sent) in HANGING.items():
                opened = stack.enter_context(associated(local) if title else raw_connection(local.address))
                opened.sendall(sent)
                hanging[name, number] = opened
        with neighbour(local) as other:
            other.served_now()
        assert [name for name, connection in hanging.items() if not still_open(connection)] == []
    assert attacks_stored(port) == []
