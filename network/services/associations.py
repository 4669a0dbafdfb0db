"""The memory of associations."""

from django.db.models import Q

from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.audit import audit_record
from network.dimse.ports import AssociationSummary, Peer
from network.models import AssociationRecord


def ae_title_shown(title: str) -> str:
    """A peer's AE title as rows and logs may hold it: at most 16 characters, "?" for what cannot be printed."""
    return "".join(c if c.isprintable() else "?" for c in title[:16])


def association_record(peer: Peer, summary: AssociationSummary) -> AssociationRecord:
    """Keeps how an association ended, and forgets the oldest beyond DICOM.CONNECTION_HISTORY. May be repeated."""
    record, _created = AssociationRecord.objects.update_or_create(
        association_id=peer.association_id[:40],
        defaults={
            "calling_ae_title": ae_title_shown(peer.calling_ae_title),
            "called_ae_title": ae_title_shown(peer.called_ae_title),
            "peer_address": peer.address[:64],
            "peer_port": peer.port,
            "tls": peer.tls,
            "outcome": summary.outcome,
            "reason": summary.reason[:200],
            "objects_stored": summary.objects_stored,
            "objects_refused": summary.objects_refused,
            "bytes_received": summary.bytes_received,
            "opened_at": summary.opened_at,
            "closed_at": summary.closed_at,
        },
    )
    if summary.outcome == "rejected":
        audit_record(
            AuditEventType.SECURITY_ALERT,
            actor=f"ae:{ae_title_shown(peer.calling_ae_title)}",
            subject=f"association:{record.pk}",
            detail={
                "address": peer.address,
                "called": ae_title_shown(peer.called_ae_title),
                "reason": summary.reason[:200],
            },
            outcome="refused",
        )
    _history_trim()
    return record


def _history_trim() -> None:
    oldest_kept = AssociationRecord.objects.order_by("-closed_at", "-id").values_list("closed_at", "id")
    edge = oldest_kept[option("DICOM.CONNECTION_HISTORY") :].first()
    if edge is not None:
        moment, pk = edge
        AssociationRecord.objects.filter(Q(closed_at__lt=moment) | Q(closed_at=moment, pk__lte=pk)).delete()
