"""Beginning an upload anew: the one way out when gateway and vault no longer agree on what a name stands for."""

from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from uploads.models import LOST_CODES, UploadJob, UploadPart, new_upload_id
from uploads.services.staging import Staging

# The pins were changed while the upload was under way: an upload is never sealed for two recipients in turn.
KEY_ROTATED = "recipient-key-rotated"
# The worker begins anew by itself, once the vault has said that this upload is not closed.
ANEW_BY_ITSELF = frozenset(
    {
        "file-missing",
        "content-conflict",
        "conflict",
        "source-changed",
        "source-unreadable",
        "staging-lost",
        KEY_ROTATED,
    }
)
# What only a person decides, by asking for another try: the vault has closed an upload of this id that is not ours.
UPLOAD_CLOSED = "upload-closed"
# Or what it had signed for and has lost (services.verify), or what was signed with an identity that this gateway has
# no longer.
ANEW_BY_A_PERSON = (
    ANEW_BY_ITSELF
    | LOST_CODES
    | {UPLOAD_CLOSED, "upload-sealed", "upload-committed", "upload-removed"}
    | {"commitment-mismatch", "signer-unknown", "foreign-upload"}
)


def upload_renewed(job: UploadJob, *, code: str, actor: str) -> dict[str, object]:
    """Forgets what was sealed and sent of an upload; answers what to write to its job: a fresh upload id above all.

    In the transaction in which the caller, who holds the job by its claim or by its row's lock, writes these fields.
    What was sent under the old id was never committed by us, or its vault has lost some of it: it stays with the vault,
    and nothing of ours refers to it but the audit trail. The folder goes first: if the transaction fails, a lost staged
    copy leads here again.
    """
    Staging(job.upload_id).clear()
    UploadPart.objects.filter(job=job).delete()
    fields: dict[str, object] = {
        "upload_id": new_upload_id(),
        "commitment": "",
        "files_done": 0,
        "recipient_key_ids": "",
        "receipt": "",
        "receipt_id": "",
        "receipt_at": None,
        "checked_at": None,
        "verified_at": None,
    }
    audit_record(
        AuditEventType.DATA_EXPORT,
        actor=actor,
        subject=f"study:{job.revision.study_id}",
        detail={
            "action": "upload begun anew",
            "vault": job.vault_id,
            "revision": job.revision.number,
            "old_upload_id": job.upload_id,
            "upload_id": fields["upload_id"],
            "code": code,
            **({"receipt_id": job.receipt_id} if job.receipt_id else {}),
        },
        outcome="failure",
    )
    return fields
