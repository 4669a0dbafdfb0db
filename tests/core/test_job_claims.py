"""Claiming: each ready job once, in its lane's limits, and nobody hidden behind another's line."""

import contextlib
import threading
from dataclasses import replace
from datetime import datetime

import pytest

from gateway_project.core.errors import JobFault, LaneWaitsError
from gateway_project.core.models import Alert, JobState, Lane
from gateway_project.core.queues import TRANSFER_CLUSTER, LaneLimits
from gateway_project.core.services import jobs
from gateway_project.core.services.lanes import lane_wait
from gateway_project.core.tasks import run_one
from tests.core.job_rows import NOW, QUEUE, after, claim, claimed, fresh, hooked, job_row, job_rows, lane_row, together
from uploads.models import UploadJob

pytestmark = pytest.mark.django_db


def test_claim_counts_the_attempt_and_begins_the_lease() -> None:
    row = job_row(error_code="old", error_words="old", progress_done=5)
    job = claimed()
    assert job.pk == row.pk
    assert (job.state, job.attempts, job.lease_until, job.started_at) == (JobState.RUNNING, 1, after(60), NOW)
    assert (job.error_code, job.error_words, job.progress_done) == ("", "", 0)
    assert job.claim_id is not None
    assert claim() is None


def test_best_job_comes_first() -> None:
    late, soon = job_row(run_after=after(-1)), job_row(run_after=after(-2))
    urgent = job_row(priority=-1)
    assert [claimed().pk for _ in range(3)] == [urgent.pk, soon.pk, late.pk]


@pytest.mark.parametrize(
    "fields",
    [
        {"run_after": after(1)},
        {"queue": "another"},
        {"state": JobState.DONE},
        {"state": JobState.PARKED},
        {"state": JobState.CANCELLED},
        {"state": JobState.RUNNING, "lease_until": after(5)},
    ],
)
def test_what_is_not_ready_is_not_claimed(fields: dict[str, object]) -> None:
    job_row(**fields)
    assert claim() is None


def test_queue_that_is_not_enabled_claims_nothing() -> None:
    job_row()
    held = type(QUEUE)(**{**vars(QUEUE), "enabled": lambda: False})
    assert jobs.job_claim(held, now=NOW) is None
    assert not jobs.jobs_ready(held, now=NOW).exists()
    assert claim() is not None


@pytest.mark.parametrize(
    "shut",
    [{"paused": True}, {"held": True}, {"open_until": after(1)}, {"max_parallel": 0}],
    ids=lambda v: next(iter(v)),
)
def test_shut_lane_gives_nothing_and_hides_nothing(shut: dict[str, object]) -> None:
    job_rows(jobs.CLAIM_CANDIDATES * 2, lane=lane_row("shut", **shut), run_after=after(-10))
    behind, without_lane = job_row(lane=lane_row("open")), job_row(run_after=after(-1))
    assert [claimed().pk, claimed().pk] == [without_lane.pk, behind.pk]
    assert claim() is None


def test_lane_condition_is_judged_again_inside_the_claim() -> None:
    """Between the look and the claim the lane may be shut, and the job may be taken or put off."""
    lane = lane_row()
    row = job_row(lane=lane)
    for change in ({"paused": True}, {"held": True}, {"open_until": after(1)}, {"max_parallel": 0}):
        Lane.objects.filter(pk=lane.pk).update(**{"paused": False, "held": False, "open_until": None, **change})
        with pytest.raises(jobs._LaneFullError):
            jobs._claim_one(QUEUE, row.pk, lane.pk, now=NOW)
    Lane.objects.filter(pk=lane.pk).update(max_parallel=10)
    for change in ({"run_after": after(1)}, {"state": JobState.DONE}, {"queue": "another"}, {"lane": None}):
        UploadJob.objects.filter(pk=row.pk).update(
            **{"run_after": NOW, "state": JobState.READY, "queue": "test", "lane": lane, **change}
        )
        assert jobs._claim_one(QUEUE, row.pk, lane.pk, now=NOW) is None
    UploadJob.objects.filter(pk=row.pk).update(lane=lane)
    assert jobs._claim_one(QUEUE, row.pk, lane.pk, now=NOW) is not None


def test_lane_takes_no_more_than_its_cap() -> None:
    job_rows(5, lane=lane_row(max_parallel=2))
    first = claimed()
    assert claim() is not None
    assert claim() is None
    jobs.job_done(QUEUE, first, now=NOW)
    assert claim() is not None


def test_long_lines_of_full_lanes_hide_no_other_lane() -> None:
    for name in ("full-1", "full-2", "full-3"):
        lane = lane_row(name, max_parallel=1)
        job_row(lane=lane, state=JobState.RUNNING, lease_until=after(60))
        job_rows(jobs.CLAIM_CANDIDATES + 5, lane=lane, run_after=after(-10))
    row = job_row(lane=lane_row("free"))
    assert claimed().pk == row.pk
    assert claim() is None


def test_lanes_that_do_not_answer_never_keep_all_workers() -> None:
    queue = replace(QUEUE, cluster=TRANSFER_CLUSTER)
    dead, silent, well = (lane_row(name, faults=faults) for name, faults in (("a", 3), ("b", 1), ("c", 0)))
    waiting = [job_row(lane=lane) for lane in (dead, silent, well)]

    def claim_next(seconds: float = 0) -> UploadJob | None:
        return jobs.job_claim(queue, now=after(seconds))  # type: ignore[return-value]

    trial = claim_next()
    assert trial == waiting[0]
    assert claim_next() == waiting[2], "of two workers one is left to lanes that answer"
    assert claim_next() is None
    jobs.job_progress(queue, trial, done=1, total=2, now=after(1))
    second = claim_next(2)
    assert second == waiting[1], "a trial that gets on is no reason to wait"
    jobs.job_failed(queue, second, JobFault("No.", code="no", lane_fault=True), now=after(3))
    assert Lane.objects.get(pk=silent.pk).faults == 2
    assert claim_next(31.5) is None, "it has stood still for half a minute since"
    jobs.job_failed(queue, trial, JobFault("No.", code="no", lane_fault=True), now=after(40))
    assert claim_next(40) == waiting[1]


def test_half_open_circuit_lets_one_through() -> None:
    lane = lane_row(faults=2, open_until=after(-1))
    job_rows(3, lane=lane)
    trial = claimed()
    assert claim() is None
    jobs.job_done(QUEUE, trial, now=NOW)
    lane.refresh_from_db()
    assert (lane.faults, lane.open_until) == (0, None)
    assert [claim() is not None, claim() is not None] == [True, True]


def test_job_that_cannot_be_begun_stops_nobody_and_is_told_of() -> None:
    broken, fine = job_rows(2)

    def fail(job: UploadJob) -> None:
        if job.pk == broken.pk:
            raise ValueError("Doe^Jane")

    with hooked(changed=fail):
        assert claimed().pk == fine.pk
        assert claim() is None
    assert fresh(broken).state == JobState.READY
    alert = Alert.objects.get()
    assert (alert.key, alert.code) == (f"job:test:{broken.pk}", "job-unclaimable")
    assert "Doe" not in alert.words
    jobs.job_done(QUEUE, claimed(), now=NOW)
    alert.refresh_from_db()
    assert alert.healed_at is not None


@pytest.mark.django_db(transaction=True)
def test_many_claimers_never_get_the_same_job() -> None:
    job_rows(60, lane=lane_row(max_parallel=100))
    got: list[int] = []

    def work() -> None:
        while (job := claim()) is not None:
            got.append(job.pk)

    together(*[work] * 4)
    assert sorted(got) == sorted(UploadJob.objects.values_list("pk", flat=True))
    assert set(UploadJob.objects.values_list("attempts", flat=True)) == {1}


@pytest.mark.django_db(transaction=True)
def test_racing_claimers_respect_the_lane_s_cap_and_all_get_their_share() -> None:
    """Whoever loses the race for the first job takes the next: no lane with room idles until the next ring."""
    job_rows(8, lane=lane_row(max_parallel=3))
    got: list[UploadJob | None] = []
    together(*[lambda: got.append(claim())] * 6)
    assert sum(job is not None for job in got) == 3
    assert UploadJob.objects.filter(state=JobState.RUNNING).count() == 3


@pytest.mark.django_db(transaction=True)
def test_claim_that_is_not_committed_yet_counts_for_the_lane_s_cap() -> None:
    """The first claimer is kept inside its transaction until the second has had its chance at another job."""
    lane = lane_row(max_parallel=1)
    _first, other = job_rows(2, lane=lane)
    inside, second_done = threading.Event(), threading.Event()
    got: list[object] = []

    def wait(_job: UploadJob) -> None:
        inside.set()
        second_done.wait(0.3)

    def second() -> None:
        inside.wait(10)
        with contextlib.suppress(jobs._LaneFullError):
            got.append(jobs._claim_one(QUEUE, other.pk, lane.pk, now=NOW))
        second_done.set()

    with hooked(changed=wait):
        together(lambda: got.append(claim()), second)
    assert len(got) == 1


def test_a_lane_that_waits_for_its_window_is_left_alone_until_then() -> None:
    lane = lane_row()
    job_row(lane=lane)
    lane_wait(lane.pk, until=after(100), now=NOW)
    assert claim() is None
    assert not jobs.jobs_ready(QUEUE, now=after(99)).exists()
    assert jobs.job_claim(QUEUE, now=after(100)) is not None


def limits(lane: Lane, now: datetime) -> LaneLimits:
    return LaneLimits(2, after(100) if lane.name == "shut" else None)


def test_limits_of_the_queues_own_are_asked_inside_the_claim() -> None:
    limited = replace(QUEUE, limits="tests.core.test_job_claims.limits")
    shut, lane = lane_row("shut"), lane_row("open")
    job_rows(1, lane=shut)
    job_rows(3, lane=lane)
    claims = [jobs.job_claim(limited, now=NOW) for _ in range(4)]
    assert [job.lane_id if job else None for job in claims] == [lane.pk, lane.pk, None, None]
    shut.refresh_from_db()
    assert shut.waits_until == after(100)


def test_work_whose_window_closes_is_given_back_and_its_lane_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_project.core.tasks.close_old_connections", lambda: None)  # the test's own transaction
    row = job_row(lane=lane_row())

    def close(_job: UploadJob) -> None:
        raise LaneWaitsError(after(9000))

    with hooked(run=close):
        assert run_one(QUEUE, claimed()), "other lanes go on"
    row = fresh(row)
    assert (row.state, row.attempts, row.error_code) == (JobState.READY, 0, "")
    assert Lane.objects.get(pk=row.lane_id).waits_until == after(9000)
