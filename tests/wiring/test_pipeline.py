"""The order of a study's way, and the state that a person sees of it."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, OperationalError
from django.utils.timezone import now
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from gateway_project.core.errors import JobFault
from gateway_project.core.models import Alert, AuditEvent, JobState, Lane
from gateway_project.core.services.jobs import (
    job_claim,
    job_done,
    job_failed,
    job_give_back,
    job_retry,
    jobs_expire,
)
from gateway_project.core.services.lanes import lane_resume
from gateway_project.wiring import pipeline
from studies.models import Study, StudyRevision
from tests.core.job_rows import vault_row
from tests.uploads.upload_house import House
from uploads.models import UploadJob, Vault
from uploads.queue import NAME, QUEUE
from uploads.selectors import UploadOutlook, uploads_outlook

pytestmark = pytest.mark.django_db


# The projection


OUTLOOKS = [
    (UploadOutlook(), "settled", "No vault is set up: nothing to upload."),
    (UploadOutlook(waiting=1, required_missing=1), "settled", "Waiting for its upload."),
    (UploadOutlook(running=1, waiting=1, required_missing=2), "uploading", ""),
    (UploadOutlook(trying_again=1, running=1, words="Lost.", required_missing=2), "failed_transient", "Lost."),
    (UploadOutlook(parked=1, trying_again=1, words="Damaged.", required_missing=2), "failed_permanent", "Damaged."),
    (UploadOutlook(done=1), "uploaded", ""),
    (UploadOutlook(done=2, optional_words="Lost."), "uploaded", "An optional vault: Lost."),
    (UploadOutlook(done=1, waiting=1, required_missing=1), "settled", "Waiting for its upload."),
    (UploadOutlook(done=1, running=1, required_missing=1), "uploading", ""),
]


@pytest.mark.parametrize(("outlook", "state", "reason"), OUTLOOKS)
def test_state_follows_from_the_uploads(outlook: UploadOutlook, state: str, reason: str) -> None:
    assert pipeline.state_of(Study(state="settled"), outlook) == (state, reason)


@pytest.mark.parametrize(("outlook", "_state", "_reason"), OUTLOOKS)
def test_what_is_open_is_received_whatever_its_uploads_do(outlook: UploadOutlook, _state: str, _reason: str) -> None:
    assert pipeline.state_of(Study(state="uploaded", open_since=now()), outlook) == ("receiving", "")


@pytest.mark.parametrize("state", ["pending_deletion", "deleted"])
def test_the_cleanups_states_stay(state: str) -> None:
    study = Study(state=state, reason="By the policy.")
    assert pipeline.state_of(study, UploadOutlook(done=1)) == (state, "By the policy.")


def outlook_of(*jobs: tuple[bool, str, str]) -> UploadOutlook:
    """Of uploads given as (required, state, error words), oldest first."""
    study = Study.objects.create(study_instance_uid="1.2.3", key="k")
    times = {"opened_at": now(), "received_at": now()}
    for number, (required, state, words) in enumerate(jobs, start=1):
        lane = Lane.objects.create(name=f"vault:{number}", title="v")
        vault = Vault.objects.create(
            name=str(number), vault_id="v", recipient_jwk={}, receipt_jwk={}, required=required, lane=lane
        )
        revision = StudyRevision.objects.create(
            study=study, number=number, reason="quiet", instance_count=1, size_bytes=1, **times
        )
        code = "no" if words else ""
        UploadJob.objects.create(
            vault=vault, revision=revision, queue=NAME, state=state, error_code=code, error_words=words
        )
    return uploads_outlook(study.pk)


def test_the_earliest_and_worst_words_are_told() -> None:
    outlook = outlook_of((True, "ready", "First."), (True, "parked", "Second."), (True, "parked", "Third."))
    assert (outlook.words, outlook.parked, outlook.trying_again) == ("Second.", 2, 1)


def test_an_optional_vault_never_keeps_a_study_from_being_uploaded() -> None:
    for state in ("ready", "running", "parked"):
        outlook = outlook_of((True, "done", ""), (False, state, "Optional fault."))
        assert (outlook.done, outlook.required_missing) == (1, 0)
        assert (outlook.waiting, outlook.running, outlook.parked, outlook.words) == (0, 0, 0, "")
        assert pipeline.state_of(Study(), outlook)[0] == "uploaded"
        for model in (UploadJob, StudyRevision, Study, Vault, Lane):
            model.objects.all().delete()


def test_a_required_vault_is_waited_for_whatever_an_optional_one_has_done() -> None:
    outlook = outlook_of((False, "done", ""), (True, "ready", ""))
    assert (outlook.waiting, outlook.done, outlook.required_missing) == (1, 0, 1)
    assert pipeline.state_of(Study(), outlook)[0] == "settled"


def test_where_no_vault_is_required_all_count() -> None:
    outlook = outlook_of((False, "done", ""), (False, "parked", "Damaged."))
    assert (outlook.done, outlook.parked, outlook.words) == (1, 1, "Damaged.")


def test_a_cancelled_upload_does_not_count() -> None:
    outlook = outlook_of((True, "done", ""), (True, "cancelled", "Old words."))
    assert (outlook.done, outlook.required_missing, outlook.words) == (1, 0, "")


STEPS = ("claim", "claim", "done", "fail", "lane", "park", "back", "expire", "retry")


class ProjectionTest(TestCase):
    """Whatever sequence of transitions two uploads of a study go through."""

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        required=st.booleans(),
        steps=st.lists(st.sampled_from(STEPS), max_size=14),
    )
    def test_what_is_stored_is_always_what_would_be_computed_anew(self, required: bool, steps: list[str]) -> None:
        study = Study.objects.create(study_instance_uid="1.2.3", key="k")
        revision = StudyRevision.objects.create(
            study=study, number=1, reason="quiet", instance_count=1, size_bytes=1, opened_at=now(), received_at=now()
        )
        first = vault_row()
        lane = Lane.objects.create(name="vault:b", title="b")
        second = Vault.objects.create(
            name="b", vault_id="b", recipient_jwk={}, receipt_jwk={}, required=required, lane=lane
        )
        for vault in (first, second):
            UploadJob.objects.create(vault=vault, revision=revision, queue=NAME, lane=vault.lane)
        pipeline.study_project(study.pk, now=now())
        clock, held = now(), []
        for step in steps:
            clock += timedelta(days=2)
            transition(step, held, clock)
            study.refresh_from_db()
            assert (study.state, study.reason) == pipeline.state_of(study, uploads_outlook(study.pk)), steps


def transition(step: str, held: list[UploadJob], clock) -> None:
    """One transition of some job, when there is one that it fits."""
    if step == "claim":
        job = job_claim(QUEUE, now=clock)
        if job is not None:
            held.append(job)
    elif step == "retry":
        for job in UploadJob.objects.exclude(state__in=("running", "done")):
            job_retry(QUEUE, job, now=clock)
        for lane in Lane.objects.all():
            lane_resume(lane, actor="user:test", now=clock)
    elif step == "expire":
        UploadJob.objects.filter(state="running").update(lease_until=clock - timedelta(days=1))
        jobs_expire(QUEUE, now=clock)
        held.clear()
    elif held:
        job = held.pop()
        if step == "done":
            job_done(QUEUE, job, now=clock)
        elif step == "back":
            job_give_back(QUEUE, job, now=clock)
        else:
            fault = JobFault(f"Words of {step}.", code=step, lane_fault=step == "lane", permanent=step == "park")
            job_failed(QUEUE, job, fault, now=clock)


# Settling and dispatch


def test_settled_is_dispatched_once(house: House) -> None:
    house.vault_row()
    study = house.settled()
    for _again in range(2):
        assert pipeline.dispatch_due(now()) == 0
    revision = study.revisions.get()
    assert (revision.state, revision.dispatched_at is not None) == ("dispatched", True)
    assert UploadJob.objects.count() == 1
    assert AuditEvent.objects.filter(detail__action="dispatched").count() == 1
    assert pipeline.settle_now(study.pk, actor="user:anna") is None


def test_killed_between_settling_and_dispatch_the_sweep_finds_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row()
    study = house.receive(1, [1])
    monkeypatch.setenv("GATEWAY_SETTLING__INACTIVITY_SECONDS", "0")
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "dispatch_due", lambda _now: 0)
        pipeline.settle_due(now())
    assert not UploadJob.objects.exists()
    assert pipeline.settle_due(now()) == 1
    assert UploadJob.objects.count() == 1
    house.drain()
    house.uploaded(study)


def test_one_studys_failing_dispatch_does_not_stop_the_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row()
    planned = pipeline.uploads_plan

    def failing(revision: StudyRevision, **values: object) -> int:
        if revision.study.study_instance_uid.endswith(".1"):
            raise ValueError("Marked^Patient")
        return planned(revision, **values)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "uploads_plan", failing)
        first, second = house.settled(1), house.settled(2)
        assert pipeline.dispatch_due(now()) == 0
    assert list(UploadJob.objects.values_list("revision__study_id", flat=True)) == [second.pk]
    assert first.revisions.get().dispatched_at is None, "nothing half-written"
    alert = Alert.objects.get(healed_at=None)
    assert (alert.code, alert.count, alert.link) == ("dispatch-failed", 2, f"/studies/{first.pk}/")
    assert "Marked" not in alert.words
    assert pipeline.dispatch_due(now()) == 1
    assert not Alert.objects.filter(healed_at=None).exists()
    house.drain()
    house.uploaded(first)


def test_a_later_revision_is_not_dispatched_before_the_earlier_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.vault_row()
    study = house.settled(1, [1])
    StudyRevision.objects.update(dispatched_at=None, state="settled")
    UploadJob.objects.all().delete()
    house.settled(1, [2])
    assert not UploadJob.objects.exists()
    assert pipeline.dispatch_due(now()) == 2
    house.drain()
    house.uploaded(study, revision=2)


def test_an_unreachable_database_ends_the_sweep(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.receive(1, [1])

    def unreachable(_revision: StudyRevision, **_values: object) -> int:
        raise OperationalError("database is locked")

    monkeypatch.setattr(pipeline, "uploads_plan", unreachable)
    with pytest.raises(DatabaseError):
        pipeline.settle_now(Study.objects.get().pk, actor="user:anna")
    assert not Alert.objects.exists()


def test_a_late_object_opens_the_study_again_while_its_upload_goes_on(house: House) -> None:
    house.vault_row()
    study = house.settled(instances=[1])
    job = house.claim()
    house.receive(1, [2])
    study.refresh_from_db()
    assert study.state == "receiving"
    job_failed(QUEUE, job, JobFault("No.", code="no", permanent=True), now=now())
    study.refresh_from_db()
    assert study.state == "receiving"
    pipeline.settle_now(study.pk, actor="user:anna")
    study.refresh_from_db()
    assert (study.state, study.reason) == ("failed_permanent", "No.")
    assert job.state == JobState.PARKED


def test_without_a_vault_nothing_is_uploaded_and_the_study_says_so(house: House) -> None:
    study = house.settled()
    assert (study.state, study.reason) == ("settled", "No vault is set up: nothing to upload.")
    assert study.revisions.get().dispatched_at is not None
    assert not UploadJob.objects.exists()
