"""What the core is asked about."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from django.conf import settings
from django.db.models import Q, QuerySet
from django_q.brokers import get_broker
from django_q.models import OrmQ

from gateway_project.core.models import Alert, AuditEvent, Lane, Severity


def rings_waiting(cluster: str) -> int:
    """How many rings wait for a cluster, not counting those that a worker holds; raises what the broker does."""
    return int(get_broker(cluster).queue_size())


def rings_stuck(now: datetime, *, older_seconds: float) -> QuerySet[Any]:
    """Rings that nobody will answer any more.

    Handed to a worker longer ago than that (the broker then set their lock to that moment plus `retry`), or waiting for
    as long for a cluster that does not run. A ring that waits bears the moment of its making, by its maker's
    clock, which may be ahead of ours: hence the margin. What was handed out still longer ago is handed out again.
    With Redis as the broker these are what the database carried before: Redis itself keeps no ring that was taken, and
    of those that wait never more than the bell allows.
    """
    retry = timedelta(seconds=cast("float", settings.Q_CLUSTER["retry"]))
    older = timedelta(seconds=older_seconds)
    handed_out = Q(lock__gt=now + older, lock__lt=now + retry - older)
    return OrmQ.objects.filter(handed_out | Q(lock__lt=now - older))


def alerts_open() -> QuerySet[Alert]:
    return Alert.objects.filter(healed_at__isnull=True).order_by("-opened_at")


def audit_of(subject: str) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(subject=subject).order_by("id")


def lanes_in_trouble() -> QuerySet[Lane]:
    return Lane.objects.filter(faults__gt=0) | Lane.objects.filter(paused=True) | Lane.objects.filter(held=True)


def lanes_waiting(now: datetime) -> QuerySet[Lane]:
    """Lanes outside of their time window, in no trouble otherwise."""
    return Lane.objects.filter(waits_until__gt=now, paused=False, held=False, faults=0).order_by("pk")


def audit_tail_of(subject: str, *, without_events: Sequence[str] = (), limit: int = 200) -> list[AuditEvent]:
    """The latest records about something, the oldest of them first."""
    events = AuditEvent.objects.filter(subject=subject).exclude(event__in=without_events).order_by("-id")[:limit]
    return list(events)[::-1]


def alerts_unacknowledged(limit: int = 20) -> list[Alert]:
    """Open alerts that nobody has seen yet; the most severe first, then the latest."""
    alerts = list(alerts_open().filter(acknowledged_at__isnull=True)[: 5 * limit])
    order = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2}
    return sorted(alerts, key=lambda alert: order[Severity(alert.severity)])[:limit]
