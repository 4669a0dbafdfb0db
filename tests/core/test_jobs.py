"""Leased jobs: claimed once, fenced, given back, parked - and never in another's way."""

import uuid

import pytest
from django.db import OperationalError, connection
from django.utils.timezone import now as time_now

from gateway_project.core.errors import JobFault, LeaseLostError
from gateway_project.core.models import Alert, JobState, Lane
from gateway_project.core.services import jobs
from tests.core.job_rows import NOW, QUEUE, after, claim, claimed, fresh, hooked, job_row, job_rows, lane_row, together
from uploads.models import UploadJob

pytestmark = pytest.mark.django_db


# Fencing


def late_worker() -> UploadJob:
    """A worker whose lease ran out, and whose job another holds now."""
    job_row(lane=lane_row(faults=1))
    late = claimed()
    assert jobs.jobs_expire(QUEUE, now=after(61)) == 1
    claimed(after(62))
    return late


def fault() -> JobFault:
    return JobFault("No.", code="no", lane_fault=True)


@pytest.mark.parametrize(
    "write",
    [
        lambda job: jobs.job_progress(QUEUE, job, done=1, total=2, now=after(63)),
        lambda job: jobs.job_note(job, commitment="late"),
        lambda job: jobs.job_done(QUEUE, job, now=after(63), finish=lambda: Lane.objects.update(title="late")),
        lambda job: jobs.job_failed(QUEUE, job, fault(), now=after(63)),
        lambda job: jobs.job_failed(QUEUE, job, JobFault("No.", code="no"), now=after(63)),
        lambda job: jobs.job_failed(QUEUE, job, JobFault("No.", code="no", permanent=True), now=after(63)),
        lambda job: jobs.job_give_back(QUEUE, job, now=after(63)),
    ],
    ids=["progress", "note", "done", "lane fault", "failed", "permanent", "give back"],
)
def test_late_worker_changes_nothing(write: object) -> None:
    late = late_worker()
    before = [list(m.objects.order_by("pk").values()) for m in (UploadJob, Lane, Alert)]
    with pytest.raises(LeaseLostError):
        write(late)  # type: ignore[operator]
    assert [list(m.objects.order_by("pk").values()) for m in (UploadJob, Lane, Alert)] == before


def test_progress_renews_the_lease_and_nothing_else_does() -> None:
    job_row()
    job = claimed()
    jobs.job_progress(QUEUE, job, done=3, total=9, now=after(50))
    jobs.job_note(job, commitment="x")
    row = fresh(job)
    assert (row.lease_until, row.progress_done, row.progress_total) == (after(110), 3, 9)
    assert (row.commitment, job.commitment) == ("x", "x")
    assert jobs.jobs_expire(QUEUE, now=after(105)) == 0
    assert jobs.jobs_expire(QUEUE, now=after(111)) == 1


def test_end_that_was_rolled_back_leaves_the_claim_in_hand() -> None:
    """Else no failure could be written either, and a sound job would be given up as its workers' murderer."""
    job_row(lane=lane_row())
    job = claimed()

    def fail(_job: UploadJob) -> None:
        raise OperationalError("deadlock detected")

    with hooked(changed=fail), pytest.raises(OperationalError):
        jobs.job_done(QUEUE, job, now=after(1))
    assert fresh(job).state == JobState.RUNNING
    jobs.job_failed(QUEUE, job, JobFault("Again.", code="again"), now=after(2))
    assert (fresh(job).state, fresh(job).error_code, fresh(job).crashes) == (JobState.READY, "again", 0)


# Ending


def test_done_and_what_success_writes_stand_or_fall_together() -> None:
    row = job_row(lane=lane_row())
    job = claimed()

    def finish() -> None:
        jobs.job_note(job, receipt="r")
        raise ValueError("no receipt")

    with pytest.raises(ValueError, match="no receipt"):
        jobs.job_done(QUEUE, job, now=NOW, finish=finish)
    assert (fresh(row).state, fresh(row).receipt) == (JobState.RUNNING, "")
    jobs.job_done(QUEUE, job, now=after(5), finish=lambda: jobs.job_note(job, receipt="r"))
    assert (job.state, job.receipt, job.claim_id, job.lease_until, job.ended_at) == ("done", "r", None, None, after(5))


def test_dependent_state_is_told_inside_every_transition() -> None:
    told: list[tuple[str, bool]] = []
    with hooked(changed=lambda job: told.append((job.state, connection.in_atomic_block))):
        job_row()
        jobs.job_failed(QUEUE, claimed(), JobFault("No.", code="no"), now=NOW)
        job = claimed(after(200))
        jobs.jobs_expire(QUEUE, now=after(300))
        job = claimed(after(300))
        jobs.job_give_back(QUEUE, job, now=after(301))
        job = claimed(after(301))
        jobs.job_failed(QUEUE, job, JobFault("No.", code="no", permanent=True), now=after(302))
        jobs.job_retry(QUEUE, job, now=after(303))
        jobs.job_done(QUEUE, claimed(after(303)), now=after(304))
    states = [
        "running",
        "ready",
        "running",
        "ready",
        "running",
        "ready",
        "running",
        "parked",
        "ready",
        "running",
        "done",
    ]
    assert told == [(state, True) for state in states]


def test_failed_attempts_wait_longer_and_the_last_one_parks() -> None:
    row = job_row()
    at = 0.0
    for attempt in (1, 2):
        jobs.job_failed(QUEUE, claimed(after(at)), JobFault("No.", code="no"), now=after(at))
        assert (fresh(row).state, fresh(row).attempts, fresh(row).error_words) == ("ready", attempt, "No.")
        assert claim(after(at + attempt * 100 - 1)) is None
        at += attempt * 100
    jobs.job_failed(QUEUE, claimed(after(at)), JobFault("No.", code="no"), now=after(at))
    assert (fresh(row).state, fresh(row).attempts) == ("parked", 3)
    assert fresh(row).error_words == "No more tries after 3; the last one: No."
    assert Alert.objects.get(key=f"job:test:{row.pk}", healed_at=None).severity == "critical"


def test_without_a_limit_of_attempts_no_job_is_given_up() -> None:
    patient = type(QUEUE)(**{**vars(QUEUE), "max_attempts": lambda: 0})
    row = job_row(attempts=5000)
    jobs.job_failed(patient, claimed(), JobFault("No.", code="no"), now=NOW)
    assert (fresh(row).state, fresh(row).attempts) == ("ready", 5001)


def test_retry_after_is_respected_and_never_shortens_the_wait() -> None:
    row = job_row()
    jobs.job_failed(QUEUE, claimed(), JobFault("No.", code="no", retry_after_seconds=500), now=NOW)
    assert fresh(row).run_after == after(500)
    jobs.job_failed(QUEUE, claimed(after(500)), JobFault("No.", code="no", retry_after_seconds=1), now=after(500))
    assert fresh(row).run_after == after(700)


def test_permanent_fault_parks_until_a_person_retries() -> None:
    row = job_row()
    jobs.job_failed(QUEUE, claimed(), JobFault("Broken.", code="broken", permanent=True), now=NOW)
    assert (fresh(row).state, fresh(row).attempts, fresh(row).error_code) == ("parked", 1, "broken")
    assert claim(after(10**6)) is None
    assert jobs.job_retry(QUEUE, row, now=after(5)) is True
    assert (fresh(row).state, fresh(row).attempts, fresh(row).crashes) == ("ready", 0, 0)
    assert not Alert.objects.filter(healed_at=None).exists()
    assert claim(after(5)) is not None


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.DONE, JobState.CANCELLED])
def test_retry_leaves_alone_what_runs_or_has_ended(state: str) -> None:
    row = job_row(state=state, attempts=2, lease_until=after(9), claim_id=uuid.uuid4())
    assert jobs.job_retry(QUEUE, row, now=NOW) is False
    assert (fresh(row).state, fresh(row).attempts) == (state, 2)


def test_lane_fault_costs_no_attempt_and_others_flow() -> None:
    lane, other = lane_row("bad"), lane_row("good")
    row, fine = job_row(lane=lane), job_row(lane=other)
    jobs.job_failed(QUEUE, claimed(), fault(), now=NOW)
    assert (fresh(row).state, fresh(row).attempts, fresh(row).run_after) == ("ready", 0, NOW)
    lane.refresh_from_db()
    assert (lane.faults, lane.fault_code, lane.open_until) == (1, "no", after(5))
    assert claimed().pk == fine.pk
    assert claim(after(4)) is None
    assert claimed(after(5)).pk == row.pk


def test_lane_fault_of_a_job_without_lane_is_an_ordinary_failure() -> None:
    row = job_row()
    jobs.job_failed(QUEUE, claimed(), fault(), now=NOW)
    assert (fresh(row).state, fresh(row).attempts, fresh(row).run_after) == ("ready", 1, after(100))


def test_graceful_stop_gives_the_attempt_back() -> None:
    row = job_row()
    jobs.job_give_back(QUEUE, claimed(), now=after(3))
    assert (fresh(row).state, fresh(row).attempts, fresh(row).error_code) == ("ready", 0, "")
    assert claim(after(3)) is not None


# Dead workers


def test_expired_lease_gives_the_job_back() -> None:
    row = job_row()
    claimed()
    assert jobs.jobs_expire(QUEUE, now=after(60)) == 0
    assert jobs.jobs_expire(QUEUE, now=after(60.1)) == 1
    assert (fresh(row).state, fresh(row).crashes, fresh(row).attempts) == ("ready", 1, 0)
    assert claim(after(61)) is not None


def test_job_that_kills_its_worker_is_parked_the_third_time_and_others_flow() -> None:
    killer, others = job_row(priority=-1), job_rows(3)
    for at in (0, 100, 200):
        assert claimed(after(at)).pk == killer.pk
        jobs.jobs_expire(QUEUE, now=after(at + 61))
    assert (fresh(killer).state, fresh(killer).crashes, fresh(killer).error_code) == ("parked", 3, "worker-died")
    assert Alert.objects.get(healed_at=None).key == f"job:test:{killer.pk}"
    assert [claimed(after(300)).pk for _ in others] == [other.pk for other in others]


def test_success_forgets_earlier_crashes() -> None:
    row = job_row()
    for at in (0, 100):
        claimed(after(at))
        jobs.jobs_expire(QUEUE, now=after(at + 61))
    jobs.job_done(QUEUE, claimed(after(200)), now=after(201))
    assert (fresh(row).state, fresh(row).crashes) == ("done", 0)


def test_one_job_s_fault_does_not_keep_the_others_from_expiring() -> None:
    rows = job_rows(3)
    for _ in rows:
        claimed()

    def fail(job: UploadJob) -> None:
        if job.pk == rows[0].pk:
            raise ValueError

    with hooked(changed=fail):
        assert jobs.jobs_expire(QUEUE, now=after(61)) == 2
    assert [fresh(row).state for row in rows] == ["running", "ready", "ready"]


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_expire_a_job_once() -> None:
    row = job_row()
    claimed()
    together(*[lambda: jobs.jobs_expire(QUEUE, now=after(61))] * 4)
    assert fresh(row).crashes == 1


@pytest.mark.django_db(transaction=True)
def test_claims_ends_and_retries_of_one_study_and_lane_wait_in_one_order() -> None:
    """On PostgreSQL two orders of locks would end one of them as a deadlock; on SQLite this only shows that all end."""
    lane = lane_row(max_parallel=50)
    study_id = job_rows(20, lane=lane)[0].revision.study_id
    from studies.models import Study

    def lock(_job: UploadJob) -> None:
        Study.objects.select_for_update().get(pk=study_id)

    def work() -> None:
        while (job := claim(time_now())) is not None:
            Lane.objects.filter(pk=lane.pk).update(faults=1)
            jobs.job_done(QUEUE, job, now=time_now())

    with hooked(changed=lock):
        together(*[work] * 4)
    assert set(UploadJob.objects.values_list("state", flat=True)) == {JobState.DONE}


def test_after_an_outage_what_was_tried_meanwhile_has_its_old_place() -> None:
    lane = lane_row()
    first, second, third = job_rows(3, lane=lane, created_at=NOW)
    for at in (1, 100):
        jobs.job_failed(QUEUE, jobs.job_claim(QUEUE, now=after(at)), lane_gone(), now=after(at))
    trial = jobs.job_claim(QUEUE, now=after(200))
    assert trial.pk == third.pk
    jobs.job_done(QUEUE, trial, now=after(201))
    assert [jobs.job_claim(QUEUE, now=after(202)).pk for _ in range(2)] == [first.pk, second.pk]


def test_a_job_that_alone_makes_the_lane_fail_stays_behind_the_others() -> None:
    lane = lane_row()
    poison, *others = job_rows(3, lane=lane, created_at=NOW)
    jobs.job_failed(QUEUE, jobs.job_claim(QUEUE, now=after(1)), lane_gone(), now=after(1))
    for number, other in enumerate(others):
        job = jobs.job_claim(QUEUE, now=after(100 + number))
        assert job.pk == other.pk
        jobs.job_done(QUEUE, job, now=after(100 + number))
    assert jobs.job_claim(QUEUE, now=after(200)).pk == poison.pk


def lane_gone() -> JobFault:
    return JobFault("Nobody answers.", code="gone", lane_fault=True)
