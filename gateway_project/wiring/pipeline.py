"""The one file that knows the order of a study's way: settle -> dispatch -> upload, and what a person sees of it."""

import logging
from collections.abc import Iterable
from datetime import datetime

from django.db import InterfaceError, OperationalError, transaction

from gateway_project.core.clock import database_now
from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import AuditEventType, Severity
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from network.selectors.procedure_steps import study_uids_in_progress
from studies.models import Study, StudyRevision, StudyState
from studies.selectors import revisions_undispatched
from studies.services.settle import (
    REASON_ASKED,
    REASON_STEP,
    revision_dispatched,
    studies_settle_due,
    study_settle,
    study_state_set,
)
from uploads.selectors import UploadOutlook, uploads_outlook, vaults_enabled
from uploads.services.plan import uploads_plan, uploads_retry

logger = logging.getLogger(__name__)


def settle_due(now: datetime) -> int:
    """Settles what is due and dispatches what is settled; answers how many revisions were dispatched.

    May be killed anywhere and repeated: a settled revision whose jobs were not written is found again.
    """
    held = study_uids_in_progress() if option("SETTLING.WAIT_FOR_PROCEDURE_STEPS") else None
    studies_settle_due(now=now, held=held)
    return dispatch_due(now)


def settle_now(study_id: int, *, actor: str) -> StudyRevision | None:
    """A person does not want to wait: settles and dispatches at once; None when nothing new has arrived.

    A dispatch that fails is told by an alert, and the sweep tries it again.
    """
    now = database_now()
    revision = study_settle(study_id, now=now, reason=REASON_ASKED, actor=actor)
    if revision is not None:
        _dispatch_each([revision], now)
    return revision


def settle_step(study_id: int, now: datetime) -> StudyRevision | None:
    """All that a modality says it made for the study is here: settles and dispatches at once, as `settle_now` does."""
    revision = study_settle(study_id, now=now, reason=REASON_STEP, actor="process:procedure-steps")
    if revision is not None:
        _dispatch_each([revision], now)
    return revision


def retry(study_id: int, *, actor: str) -> int:
    """A person wants the failed uploads of a study tried again at once; answers how many there are."""
    return uploads_retry(study_id, actor=actor, now=database_now())


def dispatch_due(now: datetime) -> int:
    """Writes the jobs of every settled revision, each revision in one transaction; answers how many were dispatched."""
    return _dispatch_each(revisions_undispatched(), now)


def _dispatch_each(revisions: Iterable[StudyRevision], now: datetime) -> int:
    """One study's failure does not stop the others: it opens an alert, which the sweep that succeeds heals."""
    dispatched = 0
    for revision in revisions:
        alert = f"study:{revision.study_id}:dispatch"
        try:
            dispatched += _dispatch(revision, now)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # a sweep: one study's fault must not keep the others; the next sweep tries it again
            logger.exception("dispatch failed", extra={"revision": revision.pk})
            words = (
                "A settled study could not be handed on because of a fault in the gateway itself; the log tells what."
            )
            link = f"/studies/{revision.study_id}/"
            alert_open(alert, code="dispatch-failed", words=words, severity=Severity.CRITICAL, link=link)
        else:
            alert_heal(alert)
    return dispatched


def _dispatch(revision: StudyRevision, now: datetime) -> int:
    """The revision's jobs, written once; a revision waits for the dispatch of those before it. Locks the study last."""
    with transaction.atomic():
        if revision_waits(revision) or not revision_dispatched(revision, now=now):
            return 0
        planned = uploads_plan(revision, now=now)
        failpoint("dispatch.planned")
        audit_record(
            AuditEventType.STUDY_STATE,
            actor="process:pipeline",
            subject=f"study:{revision.study_id}",
            detail={"action": "dispatched", "revision": revision.number, "uploads": planned},
        )
        study_project(revision.study_id, now=now)
    failpoint("dispatch.committed")
    return 1


def revision_waits(revision: StudyRevision) -> bool:
    """Whether an earlier revision of the study is not dispatched yet: its jobs must be there before the later one's."""
    earlier = StudyRevision.objects.filter(study_id=revision.study_id, number__lt=revision.number)
    return earlier.filter(dispatched_at__isnull=True).exists()


def study_project(study_id: int, *, now: datetime) -> None:
    """Writes the state that a person sees, from the study's rows and jobs; in the caller's transaction.

    The Study row is locked first, so that of two transitions at once the later one sees the earlier.
    """
    study = Study.objects.select_for_update(no_key=True).get(pk=study_id)
    state, reason = state_of(study, uploads_outlook(study_id))
    if (study.state, study.reason) != (state, reason[:400]):
        study_state_set(study_id, state=state, reason=reason, now=now)


def state_of(study: Study, uploads: UploadOutlook) -> tuple[str, str]:
    """The projection that studies.models.Study documents, and why in plain words."""
    if study.open_since is not None:
        return StudyState.RECEIVING, ""
    if study.state in (StudyState.PENDING_DELETION, StudyState.DELETED):
        return study.state, study.reason
    if uploads.parked:
        return StudyState.FAILED_PERMANENT, uploads.words
    if uploads.trying_again:
        return StudyState.FAILED_TRANSIENT, uploads.words
    if uploads.running:
        return StudyState.UPLOADING, ""
    if uploads.waiting:
        return StudyState.SETTLED, "Waiting for its upload."
    if uploads.done and not uploads.required_missing:
        return StudyState.UPLOADED, uploads.optional_words and f"An optional vault: {uploads.optional_words}"
    return StudyState.SETTLED, "" if vaults_enabled().exists() else "No vault is set up: nothing to upload."


class DeliveryProjection:
    """uploads.ports.DeliveryPort: an upload has changed, so the study's state is projected anew."""

    def delivery_changed(self, study_id: int) -> None:
        study_project(study_id, now=database_now())
