"""What every upload does at its beginning and at its end, whatever its transport."""

from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from uploads.models import UploadJob
from uploads.selectors import earlier_unfinished
from uploads.services.plan import EARLIER_REVISION

ACTOR = "process:upload"


def order_check(job: UploadJob) -> None:
    """A revision goes to a vault after the earlier ones, or JobFault: its map refers to their files by upload id and
    name, and a changed object must not be overtaken by the one it replaces.
    """
    if earlier_unfinished(job).exists():
        raise JobFault(
            "An earlier revision of this study is not in this vault yet. This one follows it.", code=EARLIER_REVISION
        )


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
