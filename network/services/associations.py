"""The memory of associations, and ending one that lives."""

from functools import lru_cache

from django.db.models import Q

from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.audit import audit_record
from network.dimse.control import control_call
from network.dimse.ports import AssociationSummary, Peer
from network.models import AssociationOutcome, AssociationRecord
from network.selectors import control_path
from network.selectors.peers import peers_titled


@lru_cache(maxsize=256)
def ae_title_shown(title: str) -> str:
    """A peer's AE title as rows and logs may hold it: at most 16 characters, "?" for what cannot be printed."""
    return "".join(c if c.isprintable() else "?" for c in title[:16])


def association_end(association_id: str, actor: str) -> bool:
    """Has a living association aborted, whichever process serves it; False when there is none of this id. Audited.

    It is over a moment later; the object under way is not acknowledged. Raises ControlError when no listener runs.
    """
    answer = control_call(control_path(), {"command": "end", "association_id": association_id})
    if not answer["found"]:
        return False
    audit_record(
        AuditEventType.APPLICATION_ACTIVITY,
        actor=actor,
        subject=f"association:{association_id[:40]}",
        detail={"action": "association ended"},
    )
    return True


def association_record(peer: Peer, summary: AssociationSummary) -> AssociationRecord | None:
    """Keeps how an association ended, and forgets the oldest beyond DICOM.CONNECTION_HISTORY. May be repeated.

    One that was rejected is not kept here: the acceptor counts those, so that a flood costs nothing (`RefusalLog`).
    """
    if summary.outcome == "rejected":
        return None
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
    history_trim(rejected=False)
    peers_titled(peer.calling_ae_title).update(last_seen_at=summary.closed_at)
    return record


def history_trim(*, rejected: bool) -> None:
    """Forgets the oldest beyond DICOM.CONNECTION_HISTORY: of those rejected, or of those served, so that neither drives
    the other out.
    """
    is_rejected = Q(outcome=AssociationOutcome.REJECTED)
    rows = AssociationRecord.objects.filter(is_rejected if rejected else ~is_rejected)
    oldest_kept = rows.order_by("-closed_at", "-id").values_list("closed_at", "id")
    edge = oldest_kept[option("DICOM.CONNECTION_HISTORY") :].first()
    if edge is not None:
        moment, pk = edge
        rows.filter(Q(closed_at__lt=moment) | Q(closed_at=moment, pk__lte=pk)).delete()
