"""The parent of the clusters: what ends comes back, and with the parent all goes."""

import os
import signal

from gateway_project.core.management.commands.runworkers import Part, cluster_names
from tests.core.cluster_harness import Project, eventually


def test_tasks_flow_again_after_an_idle_worker_was_killed(project: Project) -> None:
    project.start("control")
    project.complete()
    main = project.one("gw-control")
    project.one("gw-worker").kill()
    main.wait(10)
    for _ in range(3):
        project.ring("after")
    eventually(lambda: project.marks("after") == 3)


def test_tasks_flow_again_after_a_task_killed_its_worker(project: Project) -> None:
    project.start("control")
    project.complete()
    main = project.one("gw-control")
    project.ring("killer")
    main.wait(10)
    project.ring("after")
    eventually(lambda: project.marks("after"))
    assert project.marks("killer") == 1
    eventually(
        lambda: project.rings_taken() == 1
    )  # the killer's stays so until `retry`, or until the ticker deletes it


def test_killed_cluster_main_comes_back_alone(project: Project) -> None:
    project.start("control")
    project.ring("with_subprocess")
    eventually(lambda: project.marks("begun"))
    before = {p.pid for p in project.living() if p.name() != "gw-workers"}
    project.one("gw-control").kill()
    eventually(lambda: not before & {p.pid for p in project.living()})
    project.complete()
    project.ring("after")
    eventually(lambda: project.marks("after"))


def test_killed_parent_takes_everything_with_it(project: Project) -> None:
    parent = project.start()
    eventually(lambda: len(project.living("gw-pusher")) == 2)
    eventually(lambda: project.marks("ticker"))
    parent.kill()
    eventually(lambda: not project.living())


def test_stop_ends_all_parts_and_a_second_signal_does_nothing_worse(project: Project) -> None:
    parent = project.start()
    project.ring("cooperative", cluster="transfer")
    eventually(lambda: project.marks("begun") and project.marks("ticker"))
    os.killpg(parent.pid, signal.SIGINT)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(20) == 0
    assert project.living() == []
    assert project.marks("gave back, stopping True") == 1
    assert project.marks("ticker-stopped") == 1


def test_unknown_part_is_refused(project: Project) -> None:
    assert project.start("--only", "uploads").wait(20) == 1
    assert "choose from control, transfer, ticker" in project.log()


def test_restart_waits_longer_each_time_and_forgets_after_a_minute_of_life() -> None:
    part = Part("control")
    waits = []
    for _ in range(7):
        part.started_at = 100.0
        part.restart_plan(101.0)
        waits.append(part.start_at - 101.0)
    part.restart_plan(160.0)
    assert [*waits, part.start_at - 160.0] == [1, 2, 4, 8, 16, 30, 30, 1]


def test_name_alone_is_a_cluster_only_when_there_is_no_other() -> None:
    assert cluster_names({"name": "salt"}) == ["salt"]
    assert cluster_names({"name": "salt", "ALT_CLUSTERS": {"control": {}, "transfer": {}}}) == ["control", "transfer"]
    assert cluster_names({"name": "salt", "cluster_name": "control", "ALT_CLUSTERS": {"transfer": {}}}) == [
        "control",
        "transfer",
    ]
