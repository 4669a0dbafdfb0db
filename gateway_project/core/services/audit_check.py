"""Whether the audit trail holds: recomputed at a person's wish, and written down."""

from django.db.models import Max

from gateway_project.core.models import AuditEvent, AuditEventType, AuditSeal, Severity
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_hash, audit_record, audit_verify

VERIFIED = "audit:chain"
ALERT = "audit:chain"


def audit_verify_recorded(*, actor: str) -> int | None:
    """Recomputes the whole chain and answers the first link that does not hold, None when all do.

    Who asked and how far it reached is written down. A critical alert opens when it does not hold, and heals when it
    does.
    """
    highest = AuditSeal.objects.aggregate(highest=Max("sequence"))["highest"] or 0
    broken = audit_verify()
    audit_record(
        AuditEventType.APPLICATION_ACTIVITY,
        actor=actor,
        subject=VERIFIED,
        detail={"action": "audit trail verified", "records": highest, "broken_at": broken},
        outcome="success" if broken is None else "failure",
    )
    if broken is None:
        alert_heal(ALERT)
    else:
        words = (
            f"The audit trail does not hold from record {broken} on: a record was changed or removed outside the "
            "gateway. Keep the database as it is, and compare it with the backup and the logged heads of the chain."
        )
        alert_open(ALERT, code="audit-chain-broken", words=words, severity=Severity.CRITICAL, link="/audit/")
    return broken


def audit_holds(event: AuditEvent, previous: str) -> bool:
    """Whether a sealed record is what its link says, after the link before it."""
    return audit_hash(previous, event) == event.seal.hash
