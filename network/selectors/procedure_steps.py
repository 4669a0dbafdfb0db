"""What is asked about performed procedure steps, and whether their objects have come."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Max, QuerySet, Sum

from network.models import ProcedureStep, ProcedureStepStudy, StepState
from studies.models import Instance, Study

_CHUNK = 500


@dataclass(frozen=True)
class Arrived:
    """How many of a step's objects are in the index, and in which studies."""

    count: int
    study_ids: frozenset[int]


def steps_due(*, now: datetime, limit: int = 200) -> list[ProcedureStep]:
    """Ended steps that it is time to look at; those that waited longest first."""
    ended = ProcedureStep.objects.filter(closed_at__isnull=False, done_at__isnull=True, look_after__lte=now)
    return list(ended.order_by("look_after", "pk")[:limit])


def step_arrived(step: ProcedureStep) -> Arrived:
    """One query for each 500 objects. An object that was deleted here after its upload has come."""
    wanted = [uid for _series, references in step.performed_series for _sop_class, uid in references]
    found: set[str] = set()
    studies: set[int] = set()
    for at in range(0, len(wanted), _CHUNK):
        rows = Instance.objects.filter(sop_instance_uid__in=wanted[at : at + _CHUNK], current=True)
        for uid, study_id in rows.order_by().values_list("sop_instance_uid", "study_id"):
            found.add(uid)
            studies.add(study_id)
    return Arrived(len(found), frozenset(studies))


def studies_open(study_ids: Collection[int]) -> list[Study]:
    """Those of these studies in which something is not settled."""
    return list(Study.objects.filter(pk__in=study_ids, open_since__isnull=False).order_by("pk"))


def step_siblings_in_progress(step: ProcedureStep, study_instance_uids: Collection[str]) -> bool:
    """Whether another step of its studies is in progress."""
    theirs = {*study_instance_uids, *step.studies.values_list("study_instance_uid", flat=True)}
    others = ProcedureStepStudy.objects.filter(study_instance_uid__in=theirs, step__state=StepState.IN_PROGRESS)
    return others.exclude(step_id=step.pk).exists()


def study_uids_in_progress() -> QuerySet[ProcedureStepStudy, Any]:
    """Study Instance UIDs for which a step is in progress, as a subquery."""
    return ProcedureStepStudy.objects.filter(step__state=StepState.IN_PROGRESS).values("study_instance_uid")


def study_steps(study_instance_uid: str, limit: int = 50) -> list[ProcedureStep]:
    """The steps for a study, oldest first, without what is long about them. One query."""
    steps = ProcedureStep.objects.filter(studies__study_instance_uid=study_instance_uid)
    return list(steps.defer("performed_series").order_by("created_at", "pk")[:limit])


@dataclass(frozen=True)
class Overdue:
    calling_ae_title: str
    steps: int
    objects: int
    link: str


def steps_overdue() -> list[Overdue]:
    """What has not come within the settling time, by who made it, with the page of one study that it is missed in."""
    rows = ProcedureStep.objects.filter(
        closed_at__isnull=False, done_at__isnull=True, overdue_at__isnull=False, here_count__lt=F("instance_count")
    )
    sums = (
        rows.order_by()
        .values("calling_ae_title")
        .annotate(steps=Count("pk"), missing=Sum("instance_count") - Sum("here_count"), latest=Max("pk"))
    )
    return [Overdue(row["calling_ae_title"], row["steps"], row["missing"], _page_of(row["latest"])) for row in sums]


def _page_of(step_id: int) -> str:
    uids = ProcedureStepStudy.objects.filter(step_id=step_id).values("study_instance_uid")
    study = Study.objects.filter(study_instance_uid__in=uids).order_by("pk").first()
    return f"/studies/{study.pk}/" if study is not None else ""
