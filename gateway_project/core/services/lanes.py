"""Lanes: one destination's circuit, so that its faults cost nobody else anything and no job an attempt."""

import logging
from datetime import datetime, timedelta

from django.db import transaction

from gateway_project.core.backoff import CIRCUIT_SCHEDULE, schedule_delay
from gateway_project.core.models import AuditEventType, Lane, Severity
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record

logger = logging.getLogger(__name__)


def lane_ensure(name: str, *, title: str, max_parallel: int = 1) -> Lane:
    """The lane of that name, made when it is not there; its title follows the destination's."""
    lane, created = Lane.objects.get_or_create(name=name, defaults={"title": title, "max_parallel": max_parallel})
    if not created and (lane.title, lane.max_parallel) != (title, max_parallel):
        lane.title, lane.max_parallel = title, max_parallel
        lane.save(update_fields=["title", "max_parallel"])
    return lane


def lane_fault(
    lane_id: int,
    *,
    code: str,
    words: str,
    now: datetime,
    hard_stop: bool = False,
    retry_after_seconds: float | None = None,
) -> datetime:
    """Opens the lane's circuit, for longer after each fault in a row; a hard stop holds it until a person resumes it.

    What comes in while the circuit is open already (jobs that were under way) is the same outage: it counts no further
    fault, and never shortens the wait, least of all one that the peer asked for.
    """
    with transaction.atomic():
        lane = Lane.objects.select_for_update(no_key=True).get(pk=lane_id)
        open_until = lane.open_until
        if open_until is None or open_until <= now:
            lane.faults += 1
        wait = max(schedule_delay(lane.faults, schedule=CIRCUIT_SCHEDULE), retry_after_seconds or 0)
        lane.open_until = max(now + timedelta(seconds=wait), open_until or now)
        if hard_stop or not lane.held:  # what a person must read first is not written over by what came after it
            lane.fault_code, lane.fault_words = code, words[:400]
        lane.held = lane.held or hard_stop
        lane.changed_at = now
        lane.save(update_fields=["faults", "open_until", "held", "fault_code", "fault_words", "changed_at"])
        alert_open(
            f"lane:{lane.name}",
            code=lane.fault_code,
            words=f"{lane.title}: {lane.fault_words}",
            severity=Severity.CRITICAL if lane.held else Severity.WARNING,
        )
    logger.warning(
        "lane fault", extra={"lane": lane.name, "code": code, "wait_seconds": round(wait), "held": lane.held}
    )
    return lane.open_until


def lane_healed(lane_id: int, *, now: datetime) -> int:
    """Closes the circuit after a success; heals its alert. Answers how many faults in a row that ended.

    A held lane stays held: a job that was under way when the hard stop came proves nothing about it.
    """
    faulty = Lane.objects.filter(pk=lane_id, faults__gt=0, held=False)
    lane = faulty.first()
    if lane is None or not faulty.update(faults=0, open_until=None, fault_code="", fault_words="", changed_at=now):
        return 0
    alert_heal(f"lane:{lane.name}")
    return lane.faults


def lane_wait(lane_id: int, *, until: datetime | None, now: datetime) -> None:
    """Nothing begins in this lane before that moment, its next time window; None: the windows have changed."""
    Lane.objects.filter(pk=lane_id).update(waits_until=until, changed_at=now)


def lane_resume(lane: Lane, *, actor: str, now: datetime) -> None:
    """A person lets the lane try again at once: pause and hold are lifted, the circuit is half open."""
    with transaction.atomic():
        Lane.objects.filter(pk=lane.pk).update(paused=False, held=False, changed_at=now)
        Lane.objects.filter(pk=lane.pk, open_until__gt=now).update(open_until=now)
        audit_record(
            AuditEventType.CONFIGURATION, actor=actor, subject=f"lane:{lane.name}", detail={"action": "resume"}
        )


def lane_pause(lane: Lane, *, actor: str, now: datetime) -> None:
    """A person stops the lane: what is under way ends, nothing new begins. Pausing a paused one changes nothing."""
    with transaction.atomic():
        if not Lane.objects.filter(pk=lane.pk, paused=False).update(paused=True, changed_at=now):
            return
        audit_record(AuditEventType.CONFIGURATION, actor=actor, subject=f"lane:{lane.name}", detail={"action": "pause"})
