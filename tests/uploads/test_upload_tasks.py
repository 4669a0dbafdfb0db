"""What the worker makes of a fault, and what every transition writes beside the job."""

import logging

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from gateway_project.core.errors import JobFault, LeaseLostError
from gateway_project.core.models import Alert, AuditEvent, JobState
from gateway_project.core.services.jobs import job_claim, job_done, job_failed, job_give_back, jobs_expire
from gateway_project.wiring import pipeline
from tests.uploads.faults import at_name, raising
from tests.uploads.memory_vault import lane_error
from tests.uploads.upload_house import PATIENT, House
from uploads.envelope.errors import EnvelopeError
from uploads.models import UploadAttempt, UploadJob
from uploads.ports import VaultError
from uploads.queue import QUEUE
from uploads.services.vaults import vault_switch

pytestmark = pytest.mark.django_db
# PostgreSQL's own time; and every two seconds whether an option has changed
NOT_COUNTED = ("SAVEPOINT", "RELEASE", "SELECT clock_timestamp", 'SELECT "core_configversion"')


@pytest.mark.parametrize(
    ("error", "state", "attempts", "held"),
    [
        (VaultError("busy", "Wait.", lane_fault=True, retry_after_seconds=9000), "ready", 0, False),
        (VaultError("unauthorized", "Token.", lane_fault=True), "ready", 0, True),
        (VaultError("forbidden", "Forbidden.", lane_fault=True), "ready", 0, True),
        (VaultError("tls-certificate", "Not trusted.", lane_fault=True), "ready", 0, False),
        (VaultError("too-large", "Too large.", permanent=True), "parked", 1, False),
        (VaultError("digest-mismatch", "Sent again."), "ready", 1, False),
        (EnvelopeError("key-invalid"), "parked", 1, False),
        (OSError(5, "of the kernel's"), "ready", 1, False),
    ],
)
def test_what_a_fault_does_to_job_and_lane(
    house: House, error: Exception, state: str, attempts: int, held: bool
) -> None:
    row = house.vault_row()
    study = house.settled()
    house.vault.before = at_name("put file", raising(error))
    house.drain()
    job = house.job(study)
    row.lane.refresh_from_db()
    assert (job.state, job.attempts, row.lane.held) == (state, attempts, held)
    assert job.error_code == getattr(error, "code", "internal")
    assert house.tries(job) == [(1, "failed", job.error_code)]
    assert UploadAttempt.objects.get().error_words == job.error_words


def test_the_vaults_own_wait_is_honoured(house: House) -> None:
    row = house.vault_row()
    house.settled()
    busy = VaultError("busy", "The vault asks to wait.", lane_fault=True, retry_after_seconds=9000)
    house.vault.before = at_name("put file", raising(busy))
    house.drain()
    row.lane.refresh_from_db()
    assert 8900 < (row.lane.open_until - now()).total_seconds() <= 9000


def test_failed_attempts_wait_as_the_schedule_says_and_end_at_the_most_allowed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_UPLOAD__RETRY_SCHEDULE", "2m,3h")
    monkeypatch.setenv("GATEWAY_UPLOAD__MAX_ATTEMPTS", "4")
    house.vault_row()
    study = house.settled()
    house.vault.before = lambda _number, call: (
        raising(VaultError("body-incomplete", "Again."))() if "map" in call else None
    )
    waits = []
    for _attempt in range(4):
        UploadJob.objects.update(run_after=now())
        house.drain(limit=2)
        job = house.job(study)
        waits.append((job.state, round((job.run_after - job.ended_at).total_seconds())))
    assert [wait for state, wait in waits[:3] if state == JobState.READY][:1] == [120]
    assert all(10_800 <= wait <= 10_800 * 1.1 for _state, wait in waits[1:3])
    study.refresh_from_db()
    assert (waits[3][0], study.state) == (JobState.PARKED, "failed_permanent")
    house.vault.before = lambda _number, _call: None
    assert pipeline.retry(study.pk, actor="user:anna") == 1
    house.drain()
    house.uploaded(study)
    assert pipeline.retry(study.pk, actor="user:anna") == 0, "only from the two failed states"


def test_an_attempt_keeps_the_upload_id_it_was_made_under(house: House) -> None:
    house.vault_row()
    study = house.settled()
    first = house.job(study).upload_id
    house.vault.uploads[first] = {"file-00001.gve": b"sealed before a restore"}
    house.drain()
    house.drain_later()
    house.uploaded(study)
    second = house.job(study).upload_id
    tries = UploadAttempt.objects.order_by("number")
    assert [(t.upload_id, t.result) for t in tries] == [(first, "failed"), (second, "done")]


def test_a_vault_that_was_switched_off_gets_nothing_more(house: House) -> None:
    """Also if only its row was changed: what is planned waits, at no cost, until it is switched on again."""
    row = house.vault_row()
    study = house.settled()
    type(row).objects.update(enabled=False)
    assert house.drain() == 1
    assert house.drain_later() == 0
    assert house.vault.calls == []
    job = house.job(study)
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, "")
    assert not Alert.objects.exists()
    row.refresh_from_db()
    vault_switch(row, enabled=True, actor="user:anna")
    house.drain()
    house.uploaded(study)


# Attempts


def test_every_try_has_a_row_and_a_number_of_its_own(house: House) -> None:
    house.vault_row()
    house.settled()

    def claim() -> UploadJob:
        UploadJob.objects.update(run_after=now())
        return job_claim(QUEUE, now=now())  # type: ignore[return-value]

    job = claim()
    assert house.tries(job) == [(1, "running", "")]
    job_failed(QUEUE, job, JobFault("No.", code="no"), now=now())
    job_give_back(QUEUE, claim(), now=now())
    claim()
    UploadJob.objects.update(lease_until=now())
    jobs_expire(QUEUE, now=now())
    UploadAttempt.objects.filter(number=1).delete()  # as a retention of old tries would
    job = claim()
    job_done(QUEUE, job, now=now())
    assert house.tries(job) == [(2, "interrupted", ""), (3, "failed", "worker-died"), (4, "done", "")]
    assert not UploadAttempt.objects.filter(ended_at=None).exists()


def test_a_transition_that_fails_writes_no_attempt(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row()
    house.settled()
    job = house.claim()
    UploadJob.objects.update(lease_until=now())
    jobs_expire(QUEUE, now=now())
    before = list(UploadAttempt.objects.values())
    with pytest.raises(LeaseLostError):
        job_failed(QUEUE, job, JobFault("No.", code="no"), now=now())
    assert list(UploadAttempt.objects.values()) == before


def test_a_transition_costs_a_fixed_number_of_queries(house: House) -> None:
    """Whatever the study's size: job, attempt, revision, study's lock, outlook, study's state."""
    house.vault_row()
    house.settled(instances=range(1, 6))

    def statements(queries: CaptureQueriesContext) -> list[str]:
        return [q["sql"] for q in queries if not q["sql"].startswith(NOT_COUNTED)]

    with CaptureQueriesContext(connection) as queries:
        job = house.claim()
    assert len(statements(queries)) <= 12, "\n".join(statements(queries))
    with CaptureQueriesContext(connection) as queries:
        job_give_back(QUEUE, job, now=now())
    assert len(statements(queries)) <= 8, "\n".join(statements(queries))


# Patients' data


def test_a_marked_patient_appears_in_no_word_row_or_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Through success, a fault of every kind, damage and a retry: only the study's own rows know the patient."""
    caplog.set_level(logging.DEBUG)
    house.vault_row()
    house.settled(1)
    damaged = house.settled(2)
    house.file_of(damaged.instances.first()).write_bytes(b"Marked^Patient")
    third = house.settled(3)
    house.vault.before = at_name("put map", raising(lane_error(1)))
    house.drain()
    pipeline.retry(third.pk, actor="user:anna")
    house.drain_later()
    words = [list(model.objects.values()) for model in (UploadJob, UploadAttempt, AuditEvent, Alert)]
    extras = [vars(record) for record in caplog.records]
    uids = list(type(third).objects.values_list("study_instance_uid", flat=True))
    for secret in (PATIENT, "Marked", *uids):
        assert secret not in str(words)
        assert secret not in str(extras)
        assert secret not in caplog.text
    assert third.patient_name == PATIENT
