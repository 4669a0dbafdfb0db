"""The chain of custody of a study: what came when from whom, with which hashes, where it went, who did what.

Made from rows alone, a thousand at a time; the largest in memory is one upload's receipt. It names no patient: UIDs,
hashes, times, AE titles and the names of our own users; of an audit record only details that are known to hold nothing
else.
"""

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from gateway_project.core.clock import database_now
from gateway_project.core.models import AuditEvent, AuditEventType
from gateway_project.core.options import option
from gateway_project.core.selectors import audit_of
from gateway_project.core.services.audit import audit_record
from studies.models import Instance, Study
from uploads.custody import document_write
from uploads.models import Transport, UploadJob, UploadPart
from uploads.selectors import receipt_key
from uploads.services.identity import identity_ensure

CHUNK = 1000
# Details of audit records that are numbers, codes or ids of ours. Anything else may be a patient's.
DETAILS = frozenset(
    {"action", "bytes", "code", "files", "instances", "old_upload_id", "reason", "receipt_id", "revision",
     "transport", "upload_id", "uploads", "vault", "document_id"}
)  # fmt: skip


def custody_document(study: Study, *, actor: str) -> Iterator[bytes]:
    """The signed document, piece by piece; that it was made is in the audit trail before the first piece is."""
    document_id = uuid.uuid4().hex
    audit_record(
        AuditEventType.DATA_EXPORT,
        actor=actor,
        subject=f"study:{study.pk}",
        detail={"action": "chain of custody exported", "document_id": document_id},
    )
    return document_write(
        custody_records(study),
        identity=identity_ensure(),
        document_id=document_id,
        gateway_id=str(option("INSTANCE.ID")),
        study_instance_uid=study.study_instance_uid,
        made_at=_iso(database_now()) or "",
        made_by=actor,
    )


def custody_records(study: Study) -> Iterator[dict[str, Any]]:
    """Uploads, then instances, then events: in the order in which a reader can judge them one by one."""
    uploads = UploadJob.objects.filter(revision__study_id=study.pk).select_related("vault", "revision")
    for job in uploads.order_by("revision__number", "vault_id").iterator(chunk_size=1):
        yield _upload_record(job)
    last = 0
    while chunk := custody_instances(study.pk, after=last, limit=CHUNK):
        last = chunk[-1][0]
        yield from (record for _pk, record in chunk)
    for event in audit_of(f"study:{study.pk}").select_related("seal").iterator(chunk_size=CHUNK):
        yield _event_record(event)


def custody_instances(study_id: int, *, after: int = 0, limit: int) -> list[tuple[int, dict[str, Any]]]:
    """Records of up to `limit` instances by their keys, those after a key, each with where it was sent. Two queries."""
    instances = list(
        Instance.objects.filter(study_id=study_id, pk__gt=after)
        .select_related("series", "revision")
        .order_by("pk")[:limit]
    )
    sent: dict[int, list[dict[str, Any]]] = {}
    for part in _parts([instance.pk for instance in instances]):
        sent.setdefault(part["instance_id"], []).append(_sent_entry(part))
    return [(instance.pk, _instance_record(instance, sent.get(instance.pk, []))) for instance in instances]


def _parts(instance_ids: Iterable[int]) -> Iterable[Any]:
    """As values: a part's job would bring its commitment and receipt along each time."""
    parts = UploadPart.objects.filter(instance_id__in=instance_ids).order_by("pk")
    own = ("instance_id", "name", "sha256", "size_bytes", "content_sha256", "content_size_bytes")
    told = ("staged_at", "confirmed_at", "result_code", "result_words")
    return parts.values(*own, *told, "job__upload_id", "job__vault__name", "job__vault__transport")


def _upload_record(job: UploadJob) -> dict[str, Any]:
    vault = job.vault
    return {
        "kind": "upload",
        "upload_id": job.upload_id,
        "revision": job.revision.number,
        "vault": {
            "name": vault.name,
            "transport": vault.transport,
            "vault_id": vault.vault_id,
            "demonstration": vault.demonstration,
            "recipient_key_id": job.key_ids[0],
            "receipt_jwk": receipt_key(vault, job.receipt) or None,
        },
        "state": job.state,
        "files": job.files_done,
        "commitment": job.commitment,
        "receipt": job.receipt,
        "receipt_id": job.receipt_id,
        "receipt_at": _iso(job.receipt_at),
        "ended_at": _iso(job.ended_at),
        "attempts": [
            {
                "number": attempt.number,
                "started_at": _iso(attempt.started_at),
                "ended_at": _iso(attempt.ended_at),
                "result": attempt.result,
                "error_code": attempt.error_code,
                "files_sent": attempt.files_sent,
                "bytes_sent": attempt.bytes_sent,
            }
            for attempt in job.tries.order_by("number")
        ],
    }


def _instance_record(instance: Instance, sent: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": "instance",
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "series_instance_uid": instance.series.series_instance_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "version": instance.version,
        "current": instance.current,
        "revision": instance.revision.number if instance.revision else None,
        "received": {
            "at": _iso(instance.received_at),
            "calling_ae_title": instance.source_ae_title,
            "called_ae_title": instance.receiving_ae_title,
            "association_id": instance.association_id,
            "dataset_sha256": instance.sha256,
            "dataset_size_bytes": instance.size_bytes,
        },
        "sent": sent,
        "file_deleted_at": _iso(instance.file_deleted_at),
    }


def _sent_entry(part: dict[str, Any]) -> dict[str, Any]:
    """One way out. The data set in the file had the hash of what was received when the file was read for it."""
    sealed = part["job__vault__transport"] == Transport.GVE1
    return {
        "upload_id": part["job__upload_id"],
        "vault": part["job__vault__name"],
        "name": part["name"],
        "file_sha256": part["content_sha256"],
        "file_size_bytes": part["content_size_bytes"],
        "ciphertext_sha256": part["sha256"] if sealed else None,
        "ciphertext_size_bytes": part["size_bytes"] if sealed else None,
        "read_at": _iso(part["staged_at"]),
        "confirmed_at": _iso(part["confirmed_at"]),
        "result_code": part["result_code"],
        "result_words": part["result_words"],
    }


def _event_record(event: AuditEvent) -> dict[str, Any]:
    seal = getattr(event, "seal", None)
    return {
        "kind": "event",
        "uid": str(event.uid),
        "at": _iso(event.at),
        "event": event.event,
        "outcome": event.outcome,
        "actor": event.actor,
        "detail": {name: value for name, value in event.detail.items() if name in DETAILS},
        "seal": {"sequence": seal.sequence, "hash": seal.hash} if seal is not None else None,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None
