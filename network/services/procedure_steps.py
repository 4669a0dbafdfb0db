"""Performed procedure steps: begun, changed and ended by their modality, kept before it hears so (PS3.4 annex F)."""

import datetime as dt
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.timezone import get_default_timezone, make_aware

from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import Alert, AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from network.dimse import procedure_step, statuses
from network.dimse.normalized.ports import NormalizedRequest
from network.dimse.procedure_step import NewStep, PerformedSeries, StepChange, StepError
from network.models import ProcedureStep, ProcedureStepMessage, ProcedureStepStudy, StepState
from network.selectors.peers import peers_titled
from network.selectors.procedure_steps import steps_overdue
from network.services.associations import ae_title_shown

ALERT = "procedure-steps:"
MOST_BETWEEN_LOOKS = timedelta(hours=1)
_STATES = {
    procedure_step.IN_PROGRESS: StepState.IN_PROGRESS,
    procedure_step.COMPLETED: StepState.COMPLETED,
    procedure_step.DISCONTINUED: StepState.DISCONTINUED,
}


def step_allow(request: NormalizedRequest) -> None:
    """Known peers that may store may tell what they store; nobody else. Raises StepError (0124)."""
    known = peers_titled(request.peer.calling_ae_title).filter(enabled=True).exists()
    if not known or not request.peer.rights.store:
        raise StepError(
            "this AE may not send procedure steps", code="step-forbidden", status=statuses.NOT_AUTHORIZED
        )  # fmt: skip


def step_create(request: NormalizedRequest, new: NewStep, *, data: bytes, now: datetime) -> ProcedureStep:
    """The new step, durable, under the UID that the peer gave it, else one of ours. Raises StepError."""
    uid = request.sop_instance_uid
    series, count = _series(new.series)
    try:
        with transaction.atomic():
            row = ProcedureStep.objects.create(
                sop_instance_uid=procedure_step.instance_uid_check(uid) if uid else f"2.25.{uuid.uuid4().int}",
                calling_ae_title=request.peer.calling_ae_title,
                step_id=new.step_id,
                scheduled_step_id=new.scheduled_step_id,
                description=new.description,
                modality=new.modality,
                station_ae_title=new.station_ae_title,
                station_name=new.station_name,
                accession_number=new.accession_number,
                patient_name=new.patient_name,
                patient_id=new.patient_id,
                started_at=_local(new.started),
                created_at=now,
                changed_at=now,
                look_after=now,
                performed_series=series,
                instance_count=count,
            )
            ProcedureStepStudy.objects.bulk_create(
                ProcedureStepStudy(step=row, study_instance_uid=study) for study in new.study_instance_uids
            )
            _message(row, request, data, now)
            _record(row, "begun")
    except IntegrityError as error:
        raise StepError(
            "there is such a step already", code="step-duplicate", status=statuses.DUPLICATE_INSTANCE
        ) from error  # fmt: skip
    failpoint("step.created")
    return row


def step_change(request: NormalizedRequest, change: StepChange, *, data: bytes, now: datetime) -> ProcedureStep:
    """What the N-SET says, durable: attributes that it names replace those that were there. Raises StepError."""
    with transaction.atomic():
        step = _changeable(request)
        _apply(step, change, now)
        step.save()
        _message(step, request, data, now)
        if step.state != StepState.IN_PROGRESS:
            _record(step, str(step.state))
    failpoint("step.changed")
    return step


def _changeable(request: NormalizedRequest) -> ProcedureStep:
    """The step, locked."""
    uid = procedure_step.instance_uid_check(request.sop_instance_uid)
    step = ProcedureStep.objects.select_for_update(no_key=True).filter(sop_instance_uid=uid).first()
    if step is None:
        raise StepError("there is no such step", code="step-unknown", status=statuses.NO_SUCH_INSTANCE)
    if step.calling_ae_title != request.peer.calling_ae_title:
        raise StepError("another AE began this step", code="step-foreign", status=statuses.NOT_AUTHORIZED)
    if step.state != StepState.IN_PROGRESS:
        raise StepError(
            "this step may no longer be updated",
            code="step-final",
            status=statuses.PROCESSING_FAILURE,
            error_id=procedure_step.NO_LONGER_UPDATED,
        )
    return step


def _apply(step: ProcedureStep, change: StepChange, now: datetime) -> None:
    step.changed_at = now
    if change.description is not None:
        step.description = change.description
    if change.series is not None:
        step.performed_series, step.instance_count = _series(change.series)
    if change.ended is not None:
        step.ended_at = _local(change.ended)
    if change.status is not None:
        step.state = _STATES[change.status]
    if step.state != StepState.IN_PROGRESS:
        step.closed_at = step.look_after = now
        step.ended_at = step.ended_at or now


def _series(series: Iterable[PerformedSeries]) -> tuple[list[Any], int]:
    """As it is kept, and how many different objects there are. Raises StepError (0213)."""
    kept = [
        [one.series_instance_uid, [[ref.sop_class_uid, ref.sop_instance_uid] for ref in one.references]]
        for one in series
    ]
    count = len({uid for _series, references in kept for _sop_class, uid in references})
    if max(count, len(kept)) > option("MPPS.MAX_INSTANCES"):
        raise StepError("too many references", code="step-too-long", status=statuses.RESOURCE_LIMITATION)
    return kept, count


def _local(moment: dt.datetime) -> datetime:
    return make_aware(moment, get_default_timezone())


def _message(row: ProcedureStep, request: NormalizedRequest, data: bytes, now: datetime) -> None:
    ProcedureStepMessage.objects.update_or_create(
        step=row,
        operation=request.operation,
        defaults={
            "transfer_syntax_uid": request.transfer_syntax_uid,
            "data": data,
            "association_id": request.peer.association_id[:40],
            "received_at": now,
        },
    )


def step_refused(request: NormalizedRequest, code: str) -> None:
    """Recorded: who sent what is not taken."""
    forbidden = code in ("step-forbidden", "step-foreign")
    with transaction.atomic():
        audit_record(
            AuditEventType.SECURITY_ALERT if forbidden else AuditEventType.APPLICATION_ACTIVITY,
            actor=f"ae:{ae_title_shown(request.peer.calling_ae_title)}",
            subject=f"association:{request.peer.association_id[:40]}",
            detail={"service": "procedure step", "code": code, "address": request.peer.address},
            outcome="refused",
        )


def _record(row: ProcedureStep, action: str) -> None:
    audit_record(
        AuditEventType.APPLICATION_ACTIVITY,
        actor=f"ae:{ae_title_shown(row.calling_ae_title)}",
        subject=f"procedure-step:{row.pk}",
        detail={"service": "procedure step", "action": action, "instances": row.instance_count},
    )


# -- whether its objects have come -------------------------------------------------------------------------------------


def step_looked(step: ProcedureStep, *, here: int, done: bool, quiet_seconds: float, now: datetime) -> None:
    """Notes how many of its objects have come, and when it is looked again: the older it is the less often."""
    missing = here < step.instance_count
    age = now - (step.closed_at or now)
    between = min(max(age / 20, timedelta(seconds=option("SETTLING.SCAN_SECONDS"))), MOST_BETWEEN_LOOKS)
    late = missing and age >= timedelta(seconds=quiet_seconds)
    ProcedureStep.objects.filter(pk=step.pk, done_at__isnull=True).update(
        here_count=here,
        look_after=now + between,
        overdue_at=(step.overdue_at or now) if late else None,
        done_at=now if done or age > timedelta(days=option("MPPS.WAIT_DAYS")) else None,
    )


def steps_alert() -> None:
    """One alert for each AE of whose objects some have not come; healed when they have, or are waited for no more."""
    overdue = {f"{ALERT}{one.calling_ae_title}": one for one in steps_overdue()}
    for key, one in overdue.items():
        objects = f"{one.objects:,} object{'' if one.objects == 1 else 's'} that {one.calling_ae_title} made"
        have = "has" if one.objects == 1 else "have"
        steps = f"{one.steps} of its procedure steps name{'s' if one.steps == 1 else ''} them"
        words = f"{objects} {have} not come ({steps}). Look on the device whether they were sent, and send them again."
        alert_open(key, code="objects-missing", words=words, link=one.link)
    for alert in Alert.objects.filter(key__startswith=ALERT, healed_at__isnull=True).exclude(key__in=overdue):
        alert_heal(alert.key)
