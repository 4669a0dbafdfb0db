"""What is asked about vaults and uploads."""

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Prefetch, QuerySet

from gateway_project.core.models import JobState
from studies.models import StudyRevision
from uploads.models import UploadAttempt, UploadJob, UploadPart, Vault


@dataclass(frozen=True)
class UploadOutlook:
    """What the uploads of one study say together: counts by state, and the words of the worst fault."""

    waiting: int = 0
    trying_again: int = 0
    running: int = 0
    done: int = 0
    parked: int = 0
    required_missing: int = 0
    words: str = ""


def vaults_enabled() -> QuerySet[Vault]:
    return Vault.objects.filter(enabled=True).select_related("lane")


def uploads_outlook(study_id: int) -> UploadOutlook:
    """One query over the jobs of all revisions of a study; cancelled ones do not count."""
    counts = {"waiting": 0, "trying_again": 0, "running": 0, "done": 0, "parked": 0, "required_missing": 0}
    words = ""
    jobs = (
        UploadJob.objects.filter(revision__study_id=study_id).exclude(state=JobState.CANCELLED).select_related("vault")
    )
    for job in jobs.order_by("pk"):
        kind = _kind(job)
        counts[kind] += 1
        if kind in ("parked", "trying_again"):
            words = job.error_words
        if job.vault.required and kind != "done":
            counts["required_missing"] += 1
    return UploadOutlook(words=words, **counts)


def _kind(job: UploadJob) -> str:
    if job.state == JobState.READY:
        return "trying_again" if job.error_code else "waiting"
    return {JobState.RUNNING: "running", JobState.DONE: "done", JobState.PARKED: "parked"}[JobState(job.state)]


def study_uploads(study_id: int) -> QuerySet[UploadJob]:
    """The uploads of a study with their attempts, oldest revision first: what the study page shows."""
    return (
        UploadJob.objects.filter(revision__study_id=study_id)
        .select_related("vault", "revision", "vault__lane")
        .prefetch_related(Prefetch("tries", queryset=UploadAttempt.objects.order_by("number")))
        .order_by("revision__number", "vault_id")
    )


def earlier_parts(job: UploadJob) -> dict[int, UploadPart]:
    """For each instance of earlier revisions: its confirmed file in the same vault."""
    parts = UploadPart.objects.filter(
        job__vault_id=job.vault_id,
        job__revision__study_id=job.revision.study_id,
        job__revision__number__lt=job.revision.number,
        instance__isnull=False,
        confirmed_at__isnull=False,
    ).select_related("job")
    return {part.instance_id: part for part in parts if part.instance_id is not None}


def earlier_upload_ids(job: UploadJob) -> list[str]:
    return list(
        UploadJob.objects.filter(
            vault_id=job.vault_id,
            revision__study_id=job.revision.study_id,
            revision__number__lt=job.revision.number,
        )
        .order_by("revision__number")
        .values_list("upload_id", flat=True)
    )


def revision_jobs(revision: StudyRevision) -> QuerySet[UploadJob]:
    return UploadJob.objects.filter(revision=revision)


def uploads_running(study_ids: Collection[int]) -> dict[int, UploadJob]:
    """The upload that is under way for each of these studies, by study."""
    jobs = UploadJob.objects.filter(state=JobState.RUNNING, revision__study_id__in=study_ids).select_related("revision")
    return {job.revision.study_id: job for job in jobs.order_by("pk")}


def upload_latest_done() -> UploadJob | None:
    """The upload that got its receipt last."""
    return UploadJob.objects.filter(state=JobState.DONE).select_related("revision", "vault").order_by("-pk").first()


def demonstration_exists() -> bool:
    return Vault.objects.filter(demonstration=True, enabled=True).exists()
