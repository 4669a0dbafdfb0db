"""Alerts: opened once, counted while they last, healed by whoever saw the thing well again."""

import logging
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils.timezone import now

from gateway_project.core.models import Alert, AuditEventType, Severity
from gateway_project.core.services.audit import audit_record

logger = logging.getLogger(__name__)

SEVERITY_RANKS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


def alert_open(key: str, *, code: str, words: str, severity: str = Severity.WARNING, link: str = "") -> bool:
    """Makes sure that one open alert tells of this; answers True when it is new. Words are free of PHI.

    When it has become more severe since, it counts as not acknowledged: it is news again.
    """
    words = words[:400]
    if _alert_seen(key, code=code, words=words, severity=severity):
        return False
    try:
        with transaction.atomic():
            Alert.objects.create(key=key, code=code, words=words, severity=severity, link=link)
    except IntegrityError:
        _alert_seen(key, code=code, words=words, severity=severity)
        return False
    logger.warning("alert opened", extra={"alert": key, "code": code, "severity": str(severity)})
    return True


def _alert_seen(key: str, *, code: str, words: str, severity: str) -> int:
    alerts = Alert.objects.filter(key=key, healed_at__isnull=True)
    seen: dict[str, Any] = {"count": F("count") + 1, "seen_at": now(), "code": code, "words": words}
    milder = [each for each in Severity if SEVERITY_RANKS[each] < SEVERITY_RANKS[Severity(severity)]]
    news = {"acknowledged_at": None, "acknowledged_by": "", "acknowledged_note": ""}
    worse = alerts.filter(severity__in=milder).update(**seen, **news, severity=severity)
    return worse or alerts.update(**seen, severity=severity)


def alert_heal(key: str) -> bool:
    """Heals what is open under this key; answers whether anything was."""
    healed = Alert.objects.filter(key=key, healed_at__isnull=True).update(healed_at=now())
    if healed:
        logger.info("alert healed", extra={"alert": key})
    return healed > 0


def alert_acknowledge(alert: Alert, *, actor: str, note: str = "") -> bool:
    """Notes that a person has seen it; it stays open until it is healed. False when somebody had done so before."""
    return bool(_acknowledge(Alert.objects.filter(pk=alert.pk), actor=actor, note=note))


def alerts_acknowledge_all(*, actor: str, note: str = "") -> int:
    """The same for every open alert that nobody has acknowledged; answers how many."""
    return _acknowledge(Alert.objects.filter(healed_at__isnull=True), actor=actor, note=note)


def _acknowledge(alerts: "QuerySet[Alert]", *, actor: str, note: str) -> int:
    with transaction.atomic():
        found = list(
            alerts.filter(acknowledged_at__isnull=True).select_for_update(no_key=True).values_list("pk", "key")
        )
        Alert.objects.filter(pk__in=[pk for pk, _key in found]).update(
            acknowledged_at=now(), acknowledged_by=actor[:150], acknowledged_note=note[:200]
        )
        for pk, key in found:
            audit_record(
                AuditEventType.APPLICATION_ACTIVITY,
                actor=actor,
                subject=f"alert:{pk}",
                detail={"action": "alert acknowledged", "key": key},
            )
    return len(found)
