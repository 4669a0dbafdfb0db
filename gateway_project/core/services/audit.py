"""The audit trail: records in the business transaction, chained afterwards."""

import hashlib
import json
import logging
from datetime import UTC, datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max

from gateway_project.core.logs import correlation_get
from gateway_project.core.models import AuditEvent, AuditEventType, AuditSeal

logger = logging.getLogger(__name__)

GENESIS = "0" * 64


def audit_record(
    event: AuditEventType | str,
    *,
    actor: str,
    subject: str,
    detail: dict[str, Any] | None = None,
    outcome: str = "success",
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
        "at": event.at.astimezone(UTC).isoformat(),
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

    May be repeated and may race: the sequence is the primary key, so a second sealer's batch fails whole and answers 0.
    The new head goes to the log: whoever cuts off the chain's end would have to change the log too.
    """
    try:
        seals = _chained(limit)
    except IntegrityError:
        return 0
    if seals:
        head = seals[-1]
        logger.info("audit sealed", extra={"records": len(seals), "sequence": head.sequence, "hash": head.hash})
    return len(seals)


def _chained(limit: int) -> list[AuditSeal]:
    with transaction.atomic():
        last = AuditSeal.objects.order_by("-sequence").first()
        sequence, previous = (last.sequence, last.hash) if last else (0, GENESIS)
        seals = []
        for event in AuditEvent.objects.filter(seal__isnull=True).order_by("id")[:limit]:
            sequence += 1
            previous = audit_hash(previous, event)
            seals.append(AuditSeal(sequence=sequence, event=event, hash=previous))
        AuditSeal.objects.bulk_create(seals)
    return seals


def audit_verify() -> int | None:
    """Recomputes the whole chain; answers the sequence of the first link that does not hold, None when all do.

    A changed record, one removed, a removed link and a reordering all break it. Records not chained yet are not judged,
    and a chain cut off at its end (links and records together) holds by itself: the logged heads tell of that.
    """
    previous, expected = GENESIS, 1
    for seal in AuditSeal.objects.select_related("event").order_by("sequence").iterator(chunk_size=1000):
        previous = audit_hash(previous, seal.event)
        if seal.sequence != expected or seal.hash != previous:
            return expected
        expected += 1
    # a link whose record is gone is not in the join above
    highest = AuditSeal.objects.aggregate(highest=Max("sequence"))["highest"] or 0
    return expected if highest >= expected else None


def audit_verify_part(now: datetime, *, links: int = 20_000) -> int | None:
    """As `audit_verify`, over the part of the chain whose turn it is in this hour: all of it, in so many hours.

    Keeps no note of where it is, which someone could change. A part begins with the hash of the link before it.
    """
    highest = AuditSeal.objects.aggregate(highest=Max("sequence"))["highest"] or 0
    if not highest:
        return None
    parts = -(-highest // links)
    first = int(now.timestamp() // 3600) % parts * links + 1
    before = AuditSeal.objects.filter(sequence=first - 1).values_list("hash", flat=True).first()
    previous = GENESIS if first == 1 else before or ""
    expected, last = first, min(first + links - 1, highest)
    chosen = AuditSeal.objects.filter(sequence__gte=first, sequence__lte=last).select_related("event")
    for seal in chosen.order_by("sequence").iterator(chunk_size=1000):
        previous = audit_hash(previous, seal.event)
        if seal.sequence != expected or seal.hash != previous:
            return expected
        expected += 1
    return expected if expected <= last else None
