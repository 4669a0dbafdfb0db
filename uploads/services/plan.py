"""Planning: a settled revision becomes one upload per vault."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from gateway_project.core.models import AuditEventType, JobState, Lane
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.bell import ring
from gateway_project.core.services.jobs import job_retry
from gateway_project.core.services.lanes import lane_resume
from studies.models import StudyRevision
from uploads.models import LOST_CODES, UploadJob
from uploads.queue import NAME, QUEUE
from uploads.selectors import vaults_enabled
from uploads.services.anew import ANEW_BY_A_PERSON, upload_renewed
from uploads.verification import upload_files_here

EARLIER_REVISION = "earlier-revision"


def uploads_plan(revision: StudyRevision, *, now: datetime) -> int:
    """Writes the revision's upload jobs, in the caller's transaction; answers how many are new. May be repeated.

    The lanes are locked before anything else: PostgreSQL checks a new job's foreign keys at the commit, and would then
    wait for a lane whose claimer waits for the study that the caller holds.
    """
    created = 0
    vaults = list(vaults_enabled().order_by("pk"))
    lanes_lock([vault.lane_id for vault in vaults])
    for vault in vaults:
        _job, new = UploadJob.objects.get_or_create(
            vault=vault,
            revision=revision,
            defaults={
                "queue": NAME,
                "lane": vault.lane,
                "run_after": now,
                "created_at": now,
                "files_total": revision.instance_count,
                "progress_total": revision.size_bytes,
            },
        )
        created += new
    if created:
        ring(NAME)
    return created


def lanes_lock(lane_ids: Collection[int] | QuerySet[Any]) -> list[Lane]:
    """These lanes, locked until the transaction ends, always in the same order."""
    return list(Lane.objects.select_for_update(no_key=True).filter(pk__in=lane_ids).order_by("pk"))


def uploads_retry(study_id: int, *, actor: str, now: datetime) -> int:
    """A person asks again: what waits after a failure or was given up is tried at once; answers how many uploads.

    A lane that waits because of a fault is let try again too. An upload that gateway and vault cannot agree on any more
    gets a fresh upload id, and so does one that its vault has lost, while its files are here. Rows are locked lanes
    first, then jobs, then the study: as every transition does.
    """
    retried = 0
    with transaction.atomic():
        failed = (
            UploadJob.objects.filter(revision__study_id=study_id, state__in=(JobState.READY, JobState.PARKED))
            .exclude(error_code="")
            .order_by("pk")
        )
        for lane in lanes_lock(failed.values("lane_id")):
            if not lane.circuit_closed:
                lane_resume(lane, actor=actor, now=now)
        for job in list(failed.select_for_update(of=("self",), no_key=True).select_related("revision")):
            if job.error_code in LOST_CODES:
                if not upload_files_here(job):
                    continue  # it would only lose what the vault still has
                retried += _followers_renewed(job, actor=actor, now=now)
            if job.error_code in ANEW_BY_A_PERSON:
                fields = upload_renewed(job, code=job.error_code, actor=actor)
                UploadJob.objects.filter(pk=job.pk).update(**fields)
            retried += job_retry(QUEUE, job, now=now)
        if retried:
            audit_record(
                AuditEventType.STUDY_STATE,
                actor=actor,
                subject=f"study:{study_id}",
                detail={"action": "retry", "uploads": retried},
            )
            ring(NAME)
    return retried


def _followers_renewed(job: UploadJob, *, actor: str, now: datetime) -> int:
    """What an upload's vault has of the study's later revisions goes anew after it: their maps refer to its files."""
    later = UploadJob.objects.filter(
        vault_id=job.vault_id,
        revision__study_id=job.revision.study_id,
        revision__number__gt=job.revision.number,
        state=JobState.DONE,
    )
    renewed = 0
    for follower in list(later.select_for_update(of=("self",), no_key=True).select_related("revision")):
        if not upload_files_here(follower):
            continue
        fields = upload_renewed(follower, code=job.error_code, actor=actor)
        words = "An earlier revision of this study is uploaded anew. This one follows it."
        values = {"state": JobState.READY, "run_after": now, "attempts": 0, "crashes": 0, "ended_at": None}
        UploadJob.objects.filter(pk=follower.pk).update(
            **fields, **values, error_code=EARLIER_REVISION, error_words=words
        )
        renewed += 1
    return renewed


def uploads_follow(job: UploadJob, *, now: datetime) -> bool:
    """The study's next revision, if it failed because it has to follow this one, is ready at once; answers if so.

    Only saves a wait: killed before this, the next revision's own next try finds that it may go.
    """
    following = UploadJob.objects.filter(
        vault_id=job.vault_id,
        revision__study_id=job.revision.study_id,
        revision__number__gt=job.revision.number,
        error_code=EARLIER_REVISION,
        state__in=(JobState.READY, JobState.PARKED),
    )
    followed = following.order_by("revision__number").first()
    if followed is None or not job_retry(QUEUE, followed, now=now):
        return False
    ring(NAME)
    return True
