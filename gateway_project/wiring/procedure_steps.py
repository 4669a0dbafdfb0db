"""Procedure steps that have ended: when all their objects have come the study is settled; what has not come is told."""

import logging
from datetime import datetime

from django.db import InterfaceError, OperationalError

from gateway_project.core.failpoint import failpoint
from gateway_project.wiring import pipeline
from network.models import ProcedureStep
from network.selectors.procedure_steps import step_arrived, step_siblings_in_progress, steps_due, studies_open
from network.services.procedure_steps import step_looked, steps_alert
from studies.models import Study
from studies.selectors import quiet_seconds

logger = logging.getLogger(__name__)


def steps_watch(now: datetime) -> None:
    """Looks at every ended step that is due. May be killed anywhere and repeated: what was settled is open no more."""
    for step in steps_due(now=now):
        try:
            step_watch(step, now)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # a sweep: one step's fault must not keep the others; the next sweep tries it again
            logger.exception("procedure step not looked at", extra={"step": step.pk})
    steps_alert()


def step_watch(step: ProcedureStep, now: datetime) -> None:
    """Settles its studies when everything is here, unless another step for them is in progress."""
    arrived = step_arrived(step)
    complete = arrived.count >= step.instance_count
    waiting = studies_open(arrived.study_ids) if complete else []
    if waiting and step_siblings_in_progress(step, [study.study_instance_uid for study in waiting]):
        complete = False
    for study in waiting if complete else ():
        pipeline.settle_step(study.pk, now)
        failpoint("step.settled")
    sender = Study(source_ae_title=step.calling_ae_title)
    step_looked(step, here=arrived.count, done=complete, quiet_seconds=quiet_seconds(sender), now=now)
