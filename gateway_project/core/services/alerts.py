"""Alerts: opened once, counted while they last, healed by whoever saw the thing well again."""

import logging
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils.timezone import now

from gateway_project.core.models import Alert, Severity

logger = logging.getLogger(__name__)


def alert_open(key: str, *, code: str, words: str, severity: str = Severity.WARNING, link: str = "") -> bool:
    """Makes sure that one open alert tells of this; answers True when it is new. Words are free of PHI.

    When it has become more (or less) severe since, it counts as not acknowledged and not notified: it is news again.
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
    same = alerts.filter(severity=severity).update(**seen)
    news = {"severity": severity, "acknowledged_at": None, "acknowledged_by": "", "notified_at": None}
    return same or alerts.update(**seen, **news)


def alert_heal(key: str) -> bool:
    """Heals what is open under this key; answers whether anything was."""
    healed = Alert.objects.filter(key=key, healed_at__isnull=True).update(healed_at=now())
    if healed:
        logger.info("alert healed", extra={"alert": key})
    return healed > 0


def alert_acknowledge(alert: Alert, *, actor: str) -> None:
    """Notes that a person has seen it; it stays open until it is healed."""
    Alert.objects.filter(pk=alert.pk, acknowledged_at__isnull=True).update(acknowledged_at=now(), acknowledged_by=actor)
