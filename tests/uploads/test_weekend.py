"""A vault that is away for a weekend, 5,000 studies waiting in `make soak`: all go out in order, without a stampede.

Time is passed in. One job's work is as short as it can be, the claim, the lane and every row are the real ones.
"""

import uuid
from datetime import datetime, timedelta
from itertools import count

import pytest
from django.utils.timezone import now

from gateway_project.core.errors import JobFault
from gateway_project.core.models import Alert, JobState, Lane
from gateway_project.core.services.jobs import job_claim, job_done, job_failed, jobs_ready
from studies.models import Study, StudyRevision
from tests.uploads.upload_house import House
from uploads.models import UploadAttempt, UploadJob, Vault
from uploads.ports import DELIVERY
from uploads.queue import NAME, QUEUE

pytestmark = pytest.mark.django_db(transaction=True)  # in one transaction PostgreSQL keeps every version of a row
FRIDAY = datetime.fromisoformat("2026-05-01T18:00:00+00:00")
MONDAY = FRIDAY + timedelta(hours=60)
LOOK = timedelta(seconds=5)  # the ticker's


def waiting_studies(vault: Vault, number: int) -> list[int]:
    """Settled one after the other until 41 h 40 min have passed; answers their jobs in that order."""
    apart = timedelta(seconds=150_000 / number)
    moments = [FRIDAY + place * apart for place in range(number)]
    studies = Study.objects.bulk_create(
        Study(study_instance_uid=f"2.25.{uuid.uuid4().int}", key=uuid.uuid4().hex) for _ in moments
    )
    revisions = StudyRevision.objects.bulk_create(
        StudyRevision(
            study=study,
            number=1,
            instance_count=1,
            size_bytes=1,
            opened_at=at,
            received_at=at,
            settled_at=at,
            dispatched_at=at,
        )
        for study, at in zip(studies, moments, strict=True)
    )
    jobs = UploadJob.objects.bulk_create(
        UploadJob(queue=NAME, lane=vault.lane, vault=vault, revision=revision, run_after=at, created_at=at)
        for revision, at in zip(revisions, moments, strict=True)
    )
    return [job.pk for job in jobs]


@pytest.mark.parametrize("number", [300, pytest.param(5000, marks=pytest.mark.soak)])
def test_a_weekends_outage_ends_in_order_and_without_a_stampede(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(DELIVERY, "_bound", Undisturbed())
    vault = house.vault_row()
    jobs = waiting_studies(vault, number)
    tried, moment = outage(vault)
    assert len(tried) < 900, "one trial every five minutes, whatever waits"
    assert not UploadJob.objects.exclude(state=JobState.READY).exists()
    assert not UploadJob.objects.exclude(attempts=0).exists(), "the outage cost nobody an attempt"
    assert Alert.objects.count() == 1
    done, trials = back(moment)
    assert done[1:] == [pk for pk in jobs if pk != done[0]], "the trial first, then in the order of settling"
    assert trials == 1, "one alone, until it has come home"
    assert not Alert.objects.filter(healed_at=None).exists()
    assert UploadAttempt.objects.filter(result="done").count() == number


class Undisturbed:
    """The study's state is no matter here."""

    def delivery_changed(self, study_id: int) -> None:
        """Nothing."""


def outage(vault: Vault) -> tuple[list[datetime], datetime]:
    """From Friday to Monday: whatever may be claimed is, and meets a vault that is not there."""
    tried: list[datetime] = []
    moment = FRIDAY
    while moment < MONDAY:
        job = job_claim(QUEUE, now=moment)
        if job is None:
            lane = Lane.objects.get(pk=vault.lane_id)
            moment = max(lane.open_until or moment, moment + LOOK)
            continue
        assert job_claim(QUEUE, now=moment) is None, "one at a time while it is away"
        tried.append(moment)
        fault = JobFault("Nothing listens at the vault's address.", code="connection-refused", lane_fault=True)
        job_failed(QUEUE, job, fault, now=moment + timedelta(seconds=1))
    return tried, moment


def back(moment: datetime) -> tuple[list[int], int]:
    """The vault is there again: the order in which studies arrive, and how many were tried before the first had."""
    done: list[int] = []
    trials = 0
    for second in count():
        at = moment + timedelta(minutes=5, seconds=second)
        job = job_claim(QUEUE, now=at)
        if job is None:
            break
        trials += not done
        if second % 500 == 0:
            assert job_claim(QUEUE, now=at) is None, "never more than the lane takes"
        job_done(QUEUE, job, now=at)
        done.append(job.pk)
    assert not jobs_ready(QUEUE, now=now() + timedelta(days=900)).exists()
    return done, trials
