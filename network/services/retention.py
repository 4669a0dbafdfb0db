"""What peers said long ago in detail is forgotten: lists of objects and data sets, which would fill the database."""

from datetime import datetime, timedelta

from django.db import transaction

from gateway_project.core.models import JobState
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal
from gateway_project.core.services.jobs import job_subject
from network.models import CommitmentRequest, ProcedureStep, ProcedureStepMessage
from network.queue import COMMITMENT

_CHUNK = 200


def steps_trim(*, now: datetime) -> int:
    """Forgets the data sets and lists of procedure steps that have not been looked after for MPPS.KEEP_DAYS; how many.

    The steps stay, with their counts: study pages show them, and what is final stays final for its modality.
    """
    edge = now - timedelta(days=option("MPPS.KEEP_DAYS"))
    old = ProcedureStep.objects.filter(done_at__lt=edge, messages__isnull=False).order_by().distinct()
    forgotten = 0
    while ids := list(old.values_list("pk", flat=True)[:_CHUNK]):
        with transaction.atomic():
            ProcedureStepMessage.objects.filter(step_id__in=ids).delete()
            ProcedureStep.objects.filter(pk__in=ids).update(performed_series=[])
        forgotten += len(ids)
    return forgotten


def commitments_trim(*, now: datetime) -> int:
    """Forgets requests for commitment that ended more than COMMIT.KEEP_DAYS ago, reported or given up; how many.

    The audit trail keeps that they were asked for, decided and reported.
    """
    edge = now - timedelta(days=option("COMMIT.KEEP_DAYS"))
    ended = CommitmentRequest.objects.filter(
        queue=COMMITMENT, state__in=(JobState.DONE, JobState.PARKED), ended_at__lt=edge
    )
    forgotten = 0
    while rows := list(ended.only("pk", "queue", "state")[:_CHUNK]):
        with transaction.atomic():
            for row in rows:
                if row.state == JobState.PARKED:
                    alert_heal(job_subject(row))
            forgotten += ended.filter(pk__in=[row.pk for row in rows]).delete()[0]
    return forgotten
