"""What was decided while things stood otherwise: uploads without a vault to go to, states of before a change."""

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from gateway_project.core.models import JobState
from gateway_project.core.services.alerts import alert_heal
from gateway_project.core.services.jobs import job_subject
from uploads.models import UploadJob
from uploads.ports import DELIVERY
from uploads.selectors import revisions_missed, studies_misjudged, vaults_enabled
from uploads.services.plan import lanes_lock, uploads_plan

logger = logging.getLogger(__name__)

AT_ONCE = 200


def uploads_catch_up(*, now: datetime) -> int:
    """What settled while no vault was set up goes to those that are there now; answers how many revisions it planned.

    So does what only waited for the demonstration vault, which is gone once a real one is set up. What any vault has,
    or waits for, is left alone. Bounded, and may be repeated: the next call goes on.
    """
    if not vaults_enabled().exists():
        return 0
    for job in _demonstrations_waiting()[:AT_ONCE]:
        _demonstration_end(job, now=now)
    planned = 0
    for revision in revisions_missed()[:AT_ONCE]:
        with transaction.atomic():
            new = uploads_plan(revision, now=now)
            if new:
                DELIVERY.get().delivery_changed(revision.study_id)
        planned += bool(new)
    if planned:
        logger.info("uploads planned that had waited for a vault", extra={"revisions": planned})
    return planned


def states_catch_up() -> int:
    """A vault became required, or is it no more: studies whose state that changes get it; answers how many. Bounded."""
    study_ids = studies_misjudged(limit=AT_ONCE)
    for study_id in study_ids:
        with transaction.atomic():
            DELIVERY.get().delivery_changed(study_id)
    return len(study_ids)


def _demonstrations_waiting() -> QuerySet[UploadJob]:
    waiting = UploadJob.objects.filter(vault__demonstration=True, vault__enabled=False)
    return waiting.filter(state__in=(JobState.READY, JobState.PARKED)).select_related("revision").order_by("pk")


def _demonstration_end(job: UploadJob, *, now: datetime) -> None:
    with transaction.atomic():
        lanes_lock([] if job.lane_id is None else [job.lane_id])
        ended = UploadJob.objects.filter(pk=job.pk, state__in=(JobState.READY, JobState.PARKED))
        if ended.update(state=JobState.CANCELLED, ended_at=now):
            alert_heal(job_subject(job))
            DELIVERY.get().delivery_changed(job.revision.study_id)
