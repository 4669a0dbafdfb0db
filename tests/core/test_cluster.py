"""Clusters under fire: whatever is killed, the cluster works whole again or is gone whole."""

import os
import signal

import pytest

from gateway_project.core.processes import StopFlag, stop_wait, stopping
from tests.core.cluster_harness import Project, eventually

WITH_SHORT_GRACE = """
import sys, django
django.setup()
from gateway_project.core.cluster import cluster_run
sys.exit(cluster_run(grace_seconds=0.5, overrun_seconds=0.5))
"""


@pytest.mark.parametrize("role", ["worker", "pusher", "monitor"])
def test_killed_idle_process_ends_the_whole_cluster_with_70(project: Project, role: str) -> None:
    main = project.start("--only", "transfer")
    project.complete(workers=2)
    project.one(f"gw-{role}").kill()
    assert main.wait(10) == 70
    assert project.living() == []
    assert "cluster process died" in project.log()


def test_killed_main_leaves_no_survivors(project: Project) -> None:
    main = project.start("--only", "transfer")
    project.complete(workers=2)
    main.kill()
    eventually(lambda: not project.living())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_whole_group_stops_cleanly(project: Project, number: int) -> None:
    main = project.start("--only", "transfer")
    project.complete(workers=2)
    os.killpg(main.pid, number)
    os.killpg(main.pid, number)
    assert main.wait(10) == 0
    assert project.living() == []
    assert "cluster process died" not in project.log()


def test_stop_lets_a_cooperative_task_give_back_its_work_and_its_ring(project: Project) -> None:
    main = project.start("--only", "control")
    project.ring("cooperative")
    eventually(lambda: project.marks("begun"))
    main.terminate()
    assert main.wait(10) == 0
    assert project.marks("gave back, stopping True") == 1
    assert project.rows("SELECT key FROM django_q_ormq") == []


def test_stop_does_not_wait_for_room_that_no_worker_will_make(project: Project) -> None:
    main = project.start("--only", "control", CLUSTER_PROJECT_RECYCLE="1")
    for ring in ("cooperative", "after", "after"):
        project.ring(ring)
    eventually(lambda: project.rings_taken() == 3)  # under way; in the queue; in the hand of the pusher, which waits
    main.terminate()
    assert main.wait(10) == 0
    assert project.living() == []


def test_stop_cuts_off_a_stubborn_task_after_the_grace(project: Project) -> None:
    main = project.start("-c", WITH_SHORT_GRACE, Q_CLUSTER_NAME="control")
    project.ring("stubborn")
    eventually(lambda: project.marks("begun"))
    main.terminate()
    assert main.wait(10) == 0
    assert project.living() == []


def test_task_deaf_to_its_timeout_ends_the_cluster(project: Project) -> None:
    main = project.start("-c", WITH_SHORT_GRACE, Q_CLUSTER_NAME="control", CLUSTER_PROJECT_TIMEOUT="1")
    project.ring("deaf")
    assert main.wait(20) == 70
    assert project.living() == []
    assert "cluster task overran" in project.log()


def test_task_beside_a_killed_worker_gives_back_its_work(project: Project) -> None:
    main = project.start("--only", "transfer")
    project.ring("cooperative", cluster="transfer")
    eventually(lambda: project.marks("begun"))
    project.ring("killer", cluster="transfer")
    assert main.wait(20) == 70
    assert project.living() == []
    assert project.marks("gave back, stopping True") == 1


def test_programs_started_by_a_killed_worker_do_not_survive(project: Project) -> None:
    main = project.start("--only", "control")
    project.ring("with_subprocess")
    eventually(lambda: project.marks("begun"))
    assert len(project.living("sleep")) == 1
    project.one("gw-worker").kill()
    assert main.wait(10) == 70
    assert project.living() == []


def test_recycled_worker_is_replaced_without_ending_the_cluster(project: Project) -> None:
    main = project.start("--only", "control")
    for _ in range(12):  # the settings recycle a worker after five tasks
        project.ring("after")
    eventually(lambda: project.marks("after") == 12)
    assert project.log().count("cluster process replaced") == 2
    assert main.poll() is None


def test_error_of_a_task_is_kept_without_its_text(project: Project) -> None:
    project.start("--only", "control")
    project.ring("failing")
    eventually(lambda: project.rows("SELECT id FROM django_q_task"))
    [(result,)] = project.rows("SELECT result FROM django_q_task")
    eventually(lambda: "Failed" in project.log())
    assert "Doe" not in str(result)
    assert "Doe" not in project.log()
    assert "cluster_project/tasks.py" in project.log()


def test_stop_flag_is_seen_by_a_forked_process() -> None:
    flag = StopFlag()
    assert not flag.is_set()
    pid = os.fork()
    if pid == 0:
        flag.set()
        os._exit(0)
    os.waitpid(pid, 0)
    assert flag.is_set()
    assert flag.wait(60)


def test_process_that_nobody_can_stop_is_not_stopping() -> None:
    assert not stopping()
    assert not stop_wait(0.0)
