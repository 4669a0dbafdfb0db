"""Settling: a quiet study's new instances are frozen as its next revision."""

import logging
from datetime import datetime
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Count, Max, Min, QuerySet, Sum

from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from studies import selectors
from studies.models import Instance, RevisionState, Study, StudyRevision, StudyState

logger = logging.getLogger(__name__)

REASON_QUIET = "quiet"
REASON_OPEN = "open-too-long"
REASON_ASKED = "asked"
REASON_STEP = "step-complete"
REASON_WORDS = {REASON_QUIET: selectors.quiet_words, REASON_OPEN: selectors.most_open_words}


def studies_settle_due(
    *, now: datetime, limit: int = 200, held: "QuerySet[Any, Any] | None" = None
) -> list[StudyRevision]:
    """Settles what is due, each study in a transaction of its own; may be repeated and may race.

    `held` has Study Instance UIDs for which being quiet does not suffice.
    """
    settled = []
    for study in selectors.studies_due(now=now, limit=limit, held=held):
        quiet = (now - study.received_at).total_seconds() >= selectors.quiet_seconds(study)
        if held is not None and now >= selectors.open_until(study):
            quiet = False
        reason = REASON_QUIET if quiet else REASON_OPEN
        try:
            revision = study_settle(study.pk, now=now, reason=reason, seen_at=study.received_at)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # a sweep: one study's fault must not keep the others; the next sweep tries it again
            logger.exception("study not settled", extra={"study": study.pk})
            continue
        if revision is not None:
            settled.append(revision)
    return settled


def study_settle(
    study_id: int, *, now: datetime, reason: str, actor: str = "process:settling", seen_at: datetime | None = None
) -> StudyRevision | None:
    """Stamps all instances that are in no revision with a new one; None when there are none.

    The Study row is locked, and indexing locks it too: no instance is missed and none is stamped twice. With `seen_at`
    (the study's latest arrival when it was judged quiet) nothing happens if something has arrived since.
    """
    with transaction.atomic():
        study = Study.objects.select_for_update(no_key=True).get(pk=study_id)
        if seen_at is not None and reason == REASON_QUIET and study.received_at != seen_at:
            return None
        unstamped = Instance.objects.filter(study=study, revision__isnull=True)
        sums = unstamped.aggregate(
            count=Count("pk"), size=Sum("size_bytes"), first=Min("received_at"), last=Max("received_at")
        )
        if not sums["count"]:
            if study.open_since is not None:  # nothing is open: it must not be looked at for ever
                study.open_since = None
                study.save(update_fields=["open_since"])
            return None
        latest = study.revisions.aggregate(number=Max("number"))["number"] or 0
        revision = StudyRevision.objects.create(
            study=study,
            number=latest + 1,
            state=RevisionState.SETTLED,
            reason=reason,
            reason_words=REASON_WORDS[reason](study)[:200] if reason in REASON_WORDS else "",
            actor=actor,
            instance_count=sums["count"],
            size_bytes=sums["size"],
            opened_at=sums["first"],
            received_at=sums["last"],
            settled_at=now,
        )
        unstamped.update(revision=revision)
        failpoint("settle.stamped")
        study.open_since = None
        study.state, study.state_since, study.reason = StudyState.SETTLED, now, ""
        study.save(update_fields=["open_since", "state", "state_since", "reason"])
        audit_record(
            AuditEventType.STUDY_STATE,
            actor=actor,
            subject=f"study:{study.pk}",
            detail={"action": "settled", "revision": revision.number, "instances": sums["count"], "reason": reason},
        )
    failpoint("settle.committed")
    logger.info("study settled", extra={"study": study_id, "revision": revision.number, "instances": sums["count"]})
    return revision


def revision_dispatched(revision: StudyRevision, *, now: datetime) -> bool:
    """Marks a revision's jobs as written, in the transaction that writes them; False when another process did it."""
    return bool(
        StudyRevision.objects.filter(pk=revision.pk, dispatched_at__isnull=True).update(
            state=RevisionState.DISPATCHED, dispatched_at=now
        )
    )


def study_state_set(study_id: int, *, state: str, reason: str, now: datetime) -> bool:
    """Writes the projected state; answers whether it changed. The reason is free of PHI."""
    changed = (
        Study.objects.filter(pk=study_id).exclude(state=state).update(state=state, state_since=now, reason=reason[:400])
    )
    if not changed:
        Study.objects.filter(pk=study_id).exclude(reason=reason[:400]).update(reason=reason[:400])
    return bool(changed)
