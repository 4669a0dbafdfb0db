"""Planning: which uploads a settled revision gets, in which order they go, and what a person's retry does."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from gateway_project.core.models import Alert, AuditEvent, JobState, Lane
from gateway_project.core.services.jobs import jobs_ready
from gateway_project.core.services.lanes import lane_pause
from gateway_project.core.tasks import run_one
from gateway_project.wiring import pipeline
from studies.models import StudyRevision
from tests.uploads.faults import at_name, raising
from tests.uploads.memory_vault import lane_error
from tests.uploads.upload_house import House
from uploads.models import UploadJob, Vault
from uploads.ports import VaultError
from uploads.queue import QUEUE
from uploads.services.plan import uploads_plan, uploads_retry

pytestmark = pytest.mark.django_db


def faulty() -> VaultError:
    """A failure of the one request: the job waits its turn, the lane goes on."""
    return VaultError("body-incomplete", "The bytes did not all reach the vault; they are sent again.")


def test_each_enabled_vault_gets_one_upload_in_its_own_lane(house: House) -> None:
    first, second = house.vault_row("one"), house.vault_row("two")
    house.vault_row("off", enabled=False)
    study = house.settled(instances=[1, 2])
    jobs = UploadJob.objects.order_by("pk")
    assert [(job.vault_id, job.lane_id) for job in jobs] == [(v.pk, v.lane_id) for v in (first, second)]
    assert {(job.state, job.attempts, job.files_total, job.queue) for job in jobs} == {("ready", 0, 2, "upload")}
    assert len({job.upload_id for job in jobs}) == 2
    house.drain()
    study.refresh_from_db()
    assert study.state == "uploaded"
    assert len(house.vault.commits) == 2


def test_planning_again_plans_nothing_twice(house: House) -> None:
    house.vault_row()
    house.settled()
    assert uploads_plan(StudyRevision.objects.get(), now=now()) == 0
    assert UploadJob.objects.count() == 1


def test_switched_off_studies_settle_and_wait(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_UPLOAD__ENABLED", "false")
    house.vault_row()
    study = house.settled()
    assert house.drain() == 0
    study.refresh_from_db()
    assert (study.state, study.reason) == ("settled", "Waiting for its upload.")
    monkeypatch.delenv("GATEWAY_UPLOAD__ENABLED")
    house.drain()
    house.uploaded(study)


# Order of revisions


def test_a_later_revision_follows_the_earlier_one(house: House) -> None:
    """Its map refers to the earlier one's files: sent first, it would be a map with holes for ever."""
    house.vault_row()
    study = house.settled(instances=[1])
    house.vault.before = at_name("put file", raising(faulty()))
    house.drain()
    house.settled(instances=[2])
    house.drain()
    second = house.job(study, 2)
    assert (second.state, second.error_code) == (JobState.READY, "earlier-revision")
    assert house.vault.commits == {}
    study.refresh_from_db()
    assert (study.state, study.reason) == ("failed_transient", str(faulty())), "the cause, not what follows from it"
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    house.uploaded(study, revision=2)
    assert list(house.vault.commits) == [house.job(study, 1).upload_id, second.upload_id]


def test_waiting_for_an_earlier_revision_costs_no_attempt(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or, with few attempts allowed, it would be given up and raise an alarm while the earlier one is still sent."""
    monkeypatch.setenv("GATEWAY_UPLOAD__MAX_ATTEMPTS", "1")
    house.vault_row()
    study = house.settled(instances=[1])
    first = house.claim()
    assert first is not None
    Lane.objects.update(max_parallel=2)
    Vault.objects.update(parallel_studies=2)
    house.settled(instances=[2])
    waits = []
    for look in range(3):
        run_one(QUEUE, house.claim(at=now() + timedelta(hours=look)))
        second = house.job(study, 2)
        assert (second.state, second.attempts, second.error_code) == (JobState.READY, 0, "earlier-revision")
        waits.append(round((second.run_after - now()).total_seconds() / 60))
    assert waits == [1, 5, 15], "as seldom as after failures"
    assert not Alert.objects.exists()
    run_one(QUEUE, first)
    house.drain()
    house.uploaded(study, revision=2)


def test_the_next_revision_goes_at_once_when_the_earlier_one_is_done(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1])
    house.vault.before = at_name("put file", raising(faulty()))
    house.drain()
    for number in (2, 3):
        house.settled(instances=[number])
        house.drain()
    UploadJob.objects.filter(pk=house.job(study, 1).pk).update(run_after=now())
    assert house.drain() == 3, "each wakes the next, without waiting for its own schedule"
    house.uploaded(study, revision=3)


def test_an_earlier_upload_that_was_cancelled_is_carried_by_the_next(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1])
    UploadJob.objects.update(state=JobState.CANCELLED)
    house.settled(instances=[2])
    house.drain()
    job = house.job(study, 2)
    assert house.vault.opened(job.upload_id) == house.sent
    study.refresh_from_db()
    assert study.state == "uploaded"


def test_other_studies_and_vaults_do_not_wait(house: House) -> None:
    house.vault_row()
    first = house.settled(1)
    house.vault.before = at_name("put file", raising(faulty()))
    house.drain()
    second = house.settled(2)
    house.drain()
    second.refresh_from_db()
    first.refresh_from_db()
    assert (first.state, second.state) == ("failed_transient", "uploaded")


# A person's retry


def test_retry_tries_what_failed_and_leaves_the_rest_alone(house: House) -> None:
    house.vault_row()
    first, second = house.settled(1), house.settled(2)
    house.vault.before = at_name("put file", raising(faulty()))
    house.drain()
    assert uploads_retry(second.pk, actor="user:anna", now=now()) == 0, "uploaded already"
    job = house.job(first)
    assert job.run_after > now()
    assert uploads_retry(first.pk, actor="user:anna", now=now()) == 1
    assert list(jobs_ready(QUEUE, now=now())) == [job]
    assert AuditEvent.objects.filter(detail__action="retry").count() == 1


def test_retry_of_an_upload_under_way_does_nothing(house: House) -> None:
    house.vault_row()
    study = house.settled()
    house.claim()
    assert uploads_retry(study.pk, actor="user:anna", now=now()) == 0


def test_retry_does_not_lift_a_pause(house: House) -> None:
    house.vault_row()
    study = house.settled()
    house.vault.before = at_name("put file", raising(faulty()))
    house.drain()
    lane_pause(Lane.objects.get(), actor="user:bert", now=now())
    assert uploads_retry(study.pk, actor="user:anna", now=now()) == 1
    assert house.drain() == 0


def test_attempts_given_up_begin_afresh(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_UPLOAD__MAX_ATTEMPTS", "2")
    house.vault_row()
    study = house.settled()
    house.vault.before = lambda _number, call: raising(faulty())() if call == "put map.jwe" else None
    house.one_later()
    house.one_later()
    assert (house.job(study).state, house.job(study).attempts) == (JobState.PARKED, 2)
    house.vault.before = lambda _number, _call: None
    assert pipeline.retry(study.pk, actor="user:anna") == 1
    assert house.job(study).attempts == 0
    house.drain()
    house.uploaded(study)
    assert [number for number, _result, _code in house.tries(house.job(study))] == [1, 2, 3]


# Locks, as PostgreSQL would take them: lane, then job, then study


def test_retry_locks_lanes_before_jobs_and_the_study_last(house: House) -> None:
    """Two jobs of a study in two lanes: were each locked with its study in turn, two workers could wait in a ring."""
    house.vault_row("one")
    house.vault_row("two")
    study = house.settled()
    house.vault.before = lambda _number, _call: raising(lane_error(1))()
    house.drain()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert uploads_retry(study.pk, actor="user:anna", now=now()) == 2
    touched = [
        table
        for sql in (query["sql"] for query in queries)
        for table in ("core_lane", "uploads_uploadjob", "studies_study")
        if sql.startswith(f'UPDATE "{table}"') or (sql.startswith("SELECT") and f'FROM "{table}" WHERE' in sql)
    ]
    assert touched.index("studies_study") > max(n for n, table in enumerate(touched) if table == "core_lane")
    assert "uploads_uploadjob" in touched[: touched.index("studies_study")]
