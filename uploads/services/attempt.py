"""What every upload does at its beginning and at its end, whatever its transport."""

from datetime import timedelta

from gateway_project.core.clock import database_now
from gateway_project.core.errors import JobWaitsError
from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.jobs import job_note
from uploads.models import UploadAttempt, UploadJob
from uploads.queue import QUEUE
from uploads.selectors import earlier_unfinished
from uploads.services.plan import EARLIER_REVISION

ACTOR = "process:upload"


def order_check(job: UploadJob) -> None:
    """A revision goes to a vault after the earlier ones, or JobWaitsError: its map refers to their files by upload id
    and name, and a changed object must not be overtaken by the one it replaces. Waiting costs it no attempt, so it is
    never given up for that; it looks again as seldom as after failures, unless it is called (services.plan).
    """
    if not earlier_unfinished(job).exists():
        return
    words = "An earlier revision of this study is not in this vault yet. This one follows it."
    job_note(job, error_code=EARLIER_REVISION, error_words=words)
    looked = UploadAttempt.objects.filter(job=job, error_code=EARLIER_REVISION).count() + 1
    raise JobWaitsError(database_now() + timedelta(seconds=QUEUE.delay(looked)))


def upload_recorded(job: UploadJob, *, files: int, **detail: object) -> None:
    """That the upload has ended well is in the audit trail; in the transaction that marks the job done."""
    audit_record(
        AuditEventType.DATA_EXPORT,
        actor=ACTOR,
        subject=f"study:{job.revision.study_id}",
        detail={
            "action": "uploaded",
            "vault": job.vault_id,
            "revision": job.revision.number,
            "upload_id": job.upload_id,
            "files": files,
            **detail,
        },
    )
