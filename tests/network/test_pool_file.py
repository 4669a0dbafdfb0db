"""What a process tells of its pool: read by others while it lives, and by nobody afterwards."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from network.dimse import scu
from network.dimse.scu.pool import AssociationPool, PeerAddress, PoolState
from network.dimse.scu.pool_file import PoolFile, pools_read
from network.selectors.pools import pool_lines
from network.services.pools import PoolKeeper, worker_pool
from tests.core.notice_servers import options_set
from tests.network.scu_peers import archive_running

ECHO = [scu.VERIFICATION_PROPOSAL]
PEER = PeerAddress("10.1.2.3", 104, "PACS", "GATEWAY")


def test_others_read_what_is_told_until_it_is_removed(tmp_path: Path) -> None:
    told = PoolFile(tmp_path / "run", "receiver 0")
    told.write([PoolState(PEER, 1, 2, 3, 4, 5)])
    (line,) = pools_read(tmp_path / "run")
    assert (line.process, line.called_ae_title, line.idle, line.in_use, line.failed) == ("receiver 0", "PACS", 1, 2, 5)
    (path,) = (tmp_path / "run").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    told.remove()
    told.remove()
    assert pools_read(tmp_path / "run") == []


def test_file_of_a_process_that_is_gone_is_removed_by_the_reader(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from network.dimse.scu.pool import *;"
        "from network.dimse.scu.pool_file import PoolFile;"
        "PoolFile(Path(sys.argv[1]), 'x').write([PoolState(PeerAddress('h', 1, 'A', 'B'), 1, 0, 1, 0, 0)]);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert pools_read(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_number_that_is_another_process_by_now_does_not_count(tmp_path: Path) -> None:
    told = PoolFile(tmp_path, "x")
    told.write([PoolState(PEER, 1, 0, 1, 0, 0)])
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": 1.0}))
    assert pools_read(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"started": 1, "lines": 3}', "\0" * 100])
def test_file_that_says_nothing_readable_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "pool-1.json").write_text(text)
    (tmp_path / "pool-x.json").write_text('{"lines": []}')
    (tmp_path / "pool-99999999999999999999.json").write_text('{"lines": []}')
    assert pools_read(tmp_path) == []


@pytest.mark.django_db
def test_keeper_follows_the_options_tells_and_lets_go() -> None:
    options_set(POOL_IDLE_SECONDS=300, POOL_PER_PEER=2, POOL_TOTAL=3)
    with archive_running() as archive:
        keeper = PoolKeeper("receiver 7")
        pool = keeper.pool()
        assert (pool.idle_seconds, pool.per_peer, pool.total) == (300, 2, 3)
        pool.run(PeerAddress(**archive.peer), ECHO, scu.echo_on)
        keeper.look()
        assert [(line.process, line.idle) for line in pool_lines()] == [("receiver 7", 1)]
        options_set(POOL_IDLE_SECONDS=0)
        keeper.pool()
        keeper.look()
        assert [line.idle for line in pool_lines()] == [0]
        keeper.stop()
        keeper.stop()
        assert pool_lines() == []


@pytest.mark.django_db
def test_worker_has_one_pool() -> None:
    assert worker_pool() is worker_pool()


def test_peer_that_takes_one_association_gets_the_kept_one_back() -> None:
    """Other contexts need another association; the peer allows a single one."""
    entity = AE("ONE")
    entity.add_supported_context(Verification)
    entity.maximum_associations = 1
    server = entity.start_server(("127.0.0.1", 0), block=False)
    peer = PeerAddress("127.0.0.1", server.server_address[1], "ONE", "GATEWAY")
    pool = AssociationPool(idle_seconds=60, wait_seconds=1)
    try:
        pool.run(peer, ECHO, scu.echo_on)
        other = [scu.Proposal("1.2.840.10008.1.1", ("1.2.840.10008.1.2",))]
        pool.run(peer, other, scu.echo_on)
        (state,) = pool.state()
        assert (state.opened, state.idle) == (2, 1)
    finally:
        pool.close()
        server.shutdown()


def test_no_more_are_open_to_a_peer_than_allowed_idle_ones_counted() -> None:
    with archive_running() as archive:
        pool = AssociationPool(per_peer=2)
        peer = PeerAddress(**archive.peer)
        for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
            pool.run(peer, [scu.Proposal("1.2.840.10008.1.1", (syntax,))], scu.echo_on)
        with pool.use(peer, ECHO):
            (state,) = pool.state()
            assert (state.idle, state.in_use) == (1, 1)
        pool.close()
