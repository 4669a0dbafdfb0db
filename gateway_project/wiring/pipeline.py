"""The one file that knows the order of a study's way: settle -> dispatch -> upload, and what a person sees of it."""

import logging
from datetime import datetime

from django.db import transaction

from gateway_project.core.clock import database_now
from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from studies.models import Study, StudyRevision, StudyState
from studies.selectors import revisions_undispatched
from studies.services.settle import REASON_ASKED, revision_dispatched, studies_settle_due, study_settle, study_state_set
from uploads.selectors import UploadOutlook, uploads_outlook, vaults_enabled
from uploads.services.plan import uploads_plan, uploads_retry

logger = logging.getLogger(__name__)


def settle_due(now: datetime) -> int:
    """Settles what is due and dispatches what is settled; answers how many revisions were dispatched.

    May be killed anywhere and repeated: a settled revision whose jobs were not written is found again.
    """
    studies_settle_due(now=now)
    return dispatch_due(now)


def settle_now(study_id: int, *, actor: str) -> StudyRevision | None:
    """A person does not want to wait: settles and dispatches at once; None when nothing new has arrived."""
    now = database_now()
    revision = study_settle(study_id, now=now, reason=REASON_ASKED, actor=actor)
    dispatch_due(now)
    return revision


def retry(study_id: int, *, actor: str) -> int:
    """A person wants the failed uploads of a study tried again at once; answers how many there are."""
    return uploads_retry(study_id, actor=actor, now=database_now())


def dispatch_due(now: datetime) -> int:
    """Writes the jobs of every settled revision, each revision in one transaction."""
    dispatched = 0
    for revision in revisions_undispatched():
        try:
            dispatched += _dispatch(revision, now)
        except Exception:  # one study's failure must not stop the others; the next sweep tries it again
            logger.exception("dispatch failed", extra={"revision": revision.pk})
    return dispatched


def _dispatch(revision: StudyRevision, now: datetime) -> int:
    with transaction.atomic():
        if not revision_dispatched(revision, now=now):
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


def study_project(study_id: int, *, now: datetime) -> None:
    """Writes the state that a person sees, from the study's rows and jobs; in the caller's transaction.

    The Study row is locked first, so that of two transitions at once the later one sees the earlier.
    """
    study = Study.objects.select_for_update().get(pk=study_id)
    state, reason = state_of(study, uploads_outlook(study_id))
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
        return StudyState.UPLOADED, ""
    return StudyState.SETTLED, "" if vaults_enabled().exists() else "No vault is set up: nothing to upload."


class DeliveryProjection:
    """uploads.ports.DeliveryPort: an upload has changed, so the study's state is projected anew."""

    def delivery_changed(self, study_id: int) -> None:
        study_project(study_id, now=database_now())
