"""The pool of a running gateway: C-MOVEs share an association, others see it, and a dead receiver leaves none."""

import os
import signal
from pathlib import Path

import pytest

from network.dimse.scu.pool_file import PoolLine, pools_read
from tests.flow.test_retrieve import Held, held, keys, peer_add, scu, storescp
from tests.gateway_harness import wait_until

__all__ = ["held"]
pytestmark = pytest.mark.dcmtk


def lines(run: Path) -> list[PoolLine]:
    return pools_read(run)


def moved(held: Held) -> None:
    gateway, _files, study = held
    done = scu("movescu", gateway, "-aem", "PACS", *keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study))
    assert "Received Final Move Response (Success)" in done.stderr + done.stdout


def test_moves_share_an_association_that_is_let_go_when_idle(held: Held, tmp_path: Path) -> None:
    gateway, _files, _study = held
    run = gateway.data / "run"
    with storescp(tmp_path / "pacs") as port:
        peer_add(gateway, "PACS", host="127.0.0.1", port=port)
        moved(held)
        moved(held)
        wait_until(lambda: sum(line.opened + line.reused for line in lines(run)) == 2, what="both moves told")
        (line,) = lines(run)
        assert (line.opened, line.reused, line.process) == (1, 1, "receiver 0")
        wait_until(lambda: [one.idle for one in lines(run)] == [0], what="idle association released")
        os.kill(line.pid, signal.SIGKILL)
        wait_until(lambda: lines(run) == [], what="nothing told by the dead")
        moved(held)  # the receiver is started again
