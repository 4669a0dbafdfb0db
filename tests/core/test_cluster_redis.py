"""Clusters that are rung over Redis: a ring may be lost, and the cluster hears the next one."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.cluster_harness import Project, Template, eventually
from tests.servers.redis_server import RedisServer

pytestmark = pytest.mark.redis


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.remove()


@pytest.fixture
def rung(tmp_path: Path, cluster_template: Template, server: RedisServer) -> Iterator[Project]:
    project = Project(tmp_path, cluster_template, redis=server)
    yield project
    project.clean_up()


def test_rings_are_heard_by_the_cluster_they_are_for(rung: Project) -> None:
    main = rung.start("--only", "control")
    for _ in range(12):  # more than a worker serves before it is recycled
        rung.ring("after")
    eventually(lambda: rung.marks("after") == 12)
    assert rung.rings_waiting() == 0
    rung.ring("after", cluster="transfer")
    main.terminate()
    assert main.wait(15) == 0
    assert rung.marks("after") == 12
    assert rung.rings_waiting("transfer") == 1


def test_worker_that_dies_takes_its_ring_along_and_ends_the_cluster(rung: Project) -> None:
    main = rung.start("--only", "control")
    rung.ring("killer")
    assert main.wait(20) == 70
    assert rung.living() == []
    assert rung.rings_waiting() == 0
    rung.start("--only", "control")
    rung.ring("after")
    eventually(lambda: rung.marks("after"))
    assert rung.marks("killer") == 1, "it is not handed out again: the rows tell what there is to do"


def test_cluster_outlives_a_redis_that_is_killed(rung: Project, server: RedisServer) -> None:
    main = rung.start("--only", "control")
    rung.ring("after")
    eventually(lambda: rung.marks("after") == 1)
    server.kill()
    eventually(lambda: "rings cannot be heard" in rung.log())
    server.start()
    rung.ring("after")
    eventually(lambda: rung.marks("after") == 2)
    assert main.poll() is None
    assert "cluster process" not in rung.log()


def test_stop_needs_no_redis(rung: Project, server: RedisServer) -> None:
    main = rung.start("--only", "transfer")
    rung.complete(workers=2)
    server.kill()
    eventually(lambda: "rings cannot be heard" in rung.log())
    main.send_signal(signal.SIGTERM)
    assert main.wait(15) == 0
    assert rung.living() == []


def test_ring_that_nobody_of_ours_signed_is_dropped(rung: Project, server: RedisServer) -> None:
    rung.start("--only", "control")
    server.client.rpush("gateway:rings:control", b"\x80forged")
    rung.ring("after")
    eventually(lambda: rung.marks("after") == 1)
    assert rung.rings_waiting() == 0
