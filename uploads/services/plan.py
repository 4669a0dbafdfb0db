"""Planning: a settled revision becomes one upload per vault."""

from datetime import datetime

from django.db import transaction

from gateway_project.core.models import AuditEventType, JobState
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.bell import ring
from gateway_project.core.services.jobs import job_retry
from gateway_project.core.services.lanes import lane_resume
from studies.models import StudyRevision
from uploads.models import UploadJob
from uploads.queue import NAME, QUEUE
from uploads.selectors import vaults_enabled


def uploads_plan(revision: StudyRevision, *, now: datetime) -> int:
    """Writes the revision's upload jobs, in the caller's transaction; answers how many are new. May be repeated."""
    created = 0
    for vault in vaults_enabled():
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


def uploads_retry(study_id: int, *, actor: str, now: datetime) -> int:
    """A person asks again: what waits after a failure or was given up is tried at once; answers how many uploads.

    A lane that waits because of a fault is let try again too.
    """
    retried = 0
    with transaction.atomic():
        jobs = UploadJob.objects.filter(revision__study_id=study_id, state__in=(JobState.READY, JobState.PARKED))
        for job in jobs.exclude(error_code="").select_related("lane"):
            if job.lane is not None and not job.lane.circuit_closed:
                lane_resume(job.lane, actor=actor, now=now)
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
