"""The audit trail: records in the business transaction, chained afterwards."""

import hashlib
import json
from typing import Any

from django.db import transaction
from django.db.models import Max

from gateway_project.core.logs import correlation_get
from gateway_project.core.models import AuditEvent, AuditEventType, AuditSeal

GENESIS = "0" * 64


def audit_record(
    event: AuditEventType | str, *, actor: str, subject: str, detail: dict[str, Any] | None = None, outcome: str = "success"
) -> AuditEvent:
    """Writes one record in the caller's transaction: it stands if, and only if, what it tells of stands."""
    return AuditEvent.objects.create(
        event=AuditEventType(event),
        actor=actor,
        subject=subject,
        detail=detail or {},
        outcome=outcome,
        correlation_id=correlation_get() or "",
    )


def audit_hash(previous: str, event: AuditEvent) -> str:
    content = {
        "uid": str(event.uid),
        "at": event.at.isoformat(),
        "event": event.event,
        "outcome": event.outcome,
        "actor": event.actor,
        "subject": event.subject,
        "detail": event.detail,
        "correlation_id": event.correlation_id,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(f"{previous}{canonical}".encode()).hexdigest()


def audit_seal_due(*, limit: int = 500) -> int:
    """Chains up to `limit` records that are not chained yet, in the order of their ids; answers how many.

    May be repeated and may race: the sequence is the primary key, so a second sealer's batch fails whole.
    """
    with transaction.atomic():
        last = AuditSeal.objects.order_by("-sequence").first()
        sequence, previous = (last.sequence, last.hash) if last else (0, GENESIS)
        seals = []
        for event in AuditEvent.objects.filter(seal__isnull=True).order_by("id")[:limit]:
            sequence += 1
            previous = audit_hash(previous, event)
            seals.append(AuditSeal(sequence=sequence, event=event, hash=previous))
        AuditSeal.objects.bulk_create(seals)
    return len(seals)


def audit_verify() -> int | None:
    """Recomputes the whole chain; answers the sequence of the first link that does not hold, None when all do.

    A removed or changed record, a removed link and a reordering all break it. Records not chained yet are not judged.
    """
    previous, expected = GENESIS, 0
    for seal in AuditSeal.objects.select_related("event").order_by("sequence").iterator(chunk_size=1000):
        expected += 1
        previous = audit_hash(previous, seal.event)
        if seal.sequence != expected or seal.hash != previous:
            return expected
    highest = AuditSeal.objects.aggregate(highest=Max("sequence"))["highest"]
    return None if highest in (None, expected) else expected
