"""What workers do when rung for: every way in which a job's work can end."""

from datetime import datetime
from typing import Any

import pytest
from django.db import OperationalError
from django_q.models import OrmQ

from gateway_project.core import tasks
from gateway_project.core.clock import database_now
from gateway_project.core.errors import JobFault, LeaseLostError, StopAskedError
from gateway_project.core.models import Alert, JobState
from gateway_project.core.queues import REGISTRY, Periodic
from gateway_project.core.services import jobs
from tests.core.job_rows import HOOKS, QUEUE, fresh, hooked, job_row, job_rows, lane_row
from uploads.models import UploadJob

# a worker closes its connection after each job, which a test inside a transaction would not survive
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY.queues, "test", QUEUE)


def drained(run: Any) -> int:
    with hooked(run=run):
        return tasks.drain("test")


def raising(error: BaseException) -> Any:
    def run(_job: UploadJob) -> None:
        raise error

    return run


def test_drain_does_all_that_is_ready_and_ends() -> None:
    rows = job_rows(3)
    done: list[int] = []
    assert drained(lambda job: done.append(job.pk)) == 3
    assert done == [row.pk for row in rows]
    assert set(UploadJob.objects.values_list("state", "attempts")) == {(JobState.DONE, 1)}


def test_work_that_ends_its_job_itself_is_left_alone() -> None:
    row = job_row()
    drained(lambda job: jobs.job_done(QUEUE, job, now=job.started_at, finish=lambda: jobs.job_note(job, receipt="r")))
    assert (fresh(row).state, fresh(row).receipt) == ("done", "r")


@pytest.mark.parametrize(
    ("error", "state", "code", "attempts"),
    [
        (JobFault("No.", code="no"), "ready", "no", 1),
        (JobFault("No.", code="no", permanent=True), "parked", "no", 1),
        (JobFault("No.", code="no", lane_fault=True), "ready", "no", 0),
        (StopAskedError(), "ready", "", 0),
        (ValueError("Doe^Jane"), "ready", "internal", 1),
        (OperationalError("Doe^Jane"), "ready", "internal", 1),
        (LeaseLostError("Lost."), "running", "", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_end_is_written(error: Exception, state: str, code: str, attempts: int) -> None:
    row = job_row(lane=lane_row())
    assert drained(raising(error)) == 1
    row = fresh(row)
    assert (row.state, row.error_code, row.attempts) == (state, code, attempts)
    assert "Doe" not in row.error_words


def test_words_of_an_unexpected_error_reach_no_log(caplog: pytest.LogCaptureFixture) -> None:
    from gateway_project.core.log_errors import exception_describe

    job_row()
    drained(raising(ValueError("Doe^Jane")))
    (line,) = [record for record in caplog.records if record.message == "job raised"]
    assert line.exc_info is not None
    assert "Doe" not in str(exception_describe(line.exc_info[1])) + line.getMessage()


def test_end_that_cannot_be_written_does_not_stop_the_drain() -> None:
    first, second = job_rows(2)

    def fail(job: UploadJob) -> None:
        if job.pk == first.pk and job.state != JobState.RUNNING:
            raise OperationalError

    HOOKS.clear()
    HOOKS.update(run=lambda _job: None, changed=fail)
    assert tasks.drain("test") == 2
    HOOKS.clear()
    assert (fresh(first).state, fresh(second).state) == ("running", "done")


def test_lease_that_was_lost_meanwhile_leaves_the_other_s_work_alone() -> None:
    row = job_row()

    def run(job: UploadJob) -> None:
        UploadJob.objects.filter(pk=job.pk).update(claim_id=None, state=JobState.READY, run_after=database_now())

    with hooked(run=run):
        job = jobs.job_claim(QUEUE, now=database_now())
        tasks.run_one(QUEUE, job)  # type: ignore[arg-type]
    assert (fresh(row).state, fresh(row).ended_at) == ("ready", None)


def test_stop_ends_the_drain_after_the_job_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = job_rows(3)
    asked: list[bool] = []
    monkeypatch.setattr(tasks, "stopping", lambda: bool(asked))
    assert drained(lambda _job: asked.append(True)) == 1
    assert [fresh(row).state for row in rows] == ["done", "ready", "ready"]


def test_drain_s_minute_is_over_and_it_rings_again(settings: Any) -> None:
    settings.DRAIN_SECONDS = -1
    job_rows(3)
    assert drained(lambda _job: None) == 1
    assert OrmQ.objects.count() == 1
    assert UploadJob.objects.filter(state=JobState.READY).count() == 2


def test_one_failing_periodic_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def fail(_now: datetime) -> None:
        raise ValueError

    for name, function in (("bad", fail), ("good", lambda _now: done.append("good"))):
        monkeypatch.setattr(tasks, f"periodic_{name}", function, raising=False)
        periodic = Periodic(name, f"gateway_project.core.tasks.periodic_{name}", lambda: 1)
        monkeypatch.setitem(REGISTRY.periodics, name, periodic)
    tasks.tick(["bad", "no-such", "good"])
    assert done == ["good"]


def test_expired_leases_are_given_back_and_rung_for() -> None:
    row = job_row()
    jobs.job_claim(QUEUE, now=database_now())
    UploadJob.objects.update(lease_until=row.run_after)
    tasks.leases_expire(database_now())
    assert fresh(row).state == JobState.READY
    assert [ring.task["args"] for ring in OrmQ.objects.all()] == [("test",)]


def test_every_registered_name_can_be_found() -> None:
    from django.utils.module_loading import import_string

    for queue in REGISTRY.queues.values():
        assert callable(queue.run_function())
        assert callable(queue.changed_function())
        assert issubclass(queue.model_class(), jobs.LeasedJob)
    for periodic in REGISTRY.periodics.values():
        assert callable(import_string(periodic.function))


def test_registering_two_of_one_name_is_refused() -> None:
    other = type(QUEUE)(**{**vars(QUEUE), "run": "elsewhere"})
    REGISTRY.add_queue(QUEUE)
    with pytest.raises(ValueError, match="test"):
        REGISTRY.add_queue(other)
    with pytest.raises(ValueError, match="audit"):
        REGISTRY.add_periodic(Periodic("audit", "elsewhere", lambda: 1))


def test_no_alert_for_work_that_goes_well() -> None:
    job_row(lane=lane_row())
    drained(lambda _job: None)
    assert not Alert.objects.exists()
