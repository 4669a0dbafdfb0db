"""What the pages of studies show, asked of each app's selectors: the list, and one study."""

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from django.utils.timezone import localtime

from gateway_project.core.models import JobState, Lane
from gateway_project.core.options import option
from gateway_project.core.selectors import workers_running
from gateway_project.wiring.browse_steps import StepCard, settling, step_cards, studies_held
from gateway_project.wiring.cursor import cursor_read, cursor_write
from gateway_project.wiring.lane_words import Standing, vault_standing
from gateway_project.wiring.study_filters import Filters
from gateway_project.wiring.timeline import study_timeline
from gateway_project.wiring.timeline_entry import Entry
from network.selectors.procedure_steps import study_steps
from studies.models import Instance, Series, Study, StudyState
from studies.patients import PatientSeen, study_patients
from studies.search import search_read
from studies.selectors import (
    StudyPage,
    studies_page,
    study_changed_instances,
    study_series,
)
from uploads.models import UploadJob
from uploads.selectors import study_uploads, uploads_running, vaults_enabled

# In these states something has still to be done for a study here.
UNFINISHED = (StudyState.RECEIVING, StudyState.SETTLED, StudyState.UPLOADING, StudyState.FAILED_TRANSIENT)


@dataclass(frozen=True)
class Row:
    study: Study
    settles_at: datetime | None
    upload: UploadJob | None
    settles_words: str = ""
    held: bool = False


@dataclass(frozen=True)
class Listing:
    rows: list[Row]
    newer: str
    older: str
    count: int
    understood: str = ""


@dataclass(frozen=True)
class StudyView:
    study: Study
    settles_at: datetime | None
    series: list[Series]
    uploads: list[UploadJob]
    running: list[UploadJob]
    timeline: list[Entry]
    can_retry: bool
    demonstration: bool
    settles_words: str
    trouble: UploadJob | None
    idle: bool
    lane: Lane | None
    standing: Standing | None
    changed: list[list[Instance]]
    patients: list[PatientSeen]
    steps: list[StepCard]
    held: bool


# -- the list ----------------------------------------------------------------------------------------------------------


def cursor_text(study: Study) -> str:
    """The place of a study in the list, for an address: when it was received and our id; nothing of a patient."""
    return cursor_write(study.received_at, study.pk)


def studies_listing(*, filters: Filters, query: str, before: str, after: str, now: datetime) -> Listing:
    """One page of the list, and what the search was understood as. Raises ValueError for what is no cursor."""
    understood = search_read(query, today=localtime(now).date()) if query else None
    page = studies_page(
        states=filters.states,
        where=filters.where(now) & understood.where if understood else filters.where(now),
        before=cursor_read(before) if before else None,
        after=cursor_read(after) if after else None,
    )
    return Listing(
        rows=_rows(page),
        newer=cursor_text(page.rows[0]) if page.newer and page.rows else "",
        older=cursor_text(page.rows[-1]) if page.older and page.rows else "",
        count=len(page.rows),
        understood=understood.words if understood else "",
    )


def _rows(page: StudyPage) -> list[Row]:
    moving = [study.pk for study in page.rows if study.state == StudyState.UPLOADING]
    running = uploads_running(moving) if moving else {}
    held = studies_held(page.rows)
    return [_row(study, running.get(study.pk), held=study.study_instance_uid in held) for study in page.rows]


def _row(study: Study, upload: UploadJob | None, *, held: bool) -> Row:
    settles, once = settling(study, held=held)
    return Row(study, settles, upload, once, held)


def first_steps() -> dict[str, object]:
    """What an empty list says: where to send a first study."""
    host = str(option("DICOM.HOST"))
    return {
        "ae_title": option("DICOM.AE_TITLE"),
        "host": "localhost" if host in ("0.0.0.0", "::", "") else host,  # noqa: S104 - compared, not bound
        "port": option("DICOM.PORT"),
        "vaults": vaults_enabled().exists(),
    }


# -- one study ---------------------------------------------------------------------------------------------------------


def study_view(study: Study, now: datetime) -> StudyView:
    """Everything that the study's page shows, in a fixed number of queries."""
    uploads = list(study_uploads(study.pk))
    held = bool(studies_held([study]))
    settles, once = settling(study, held=held)
    steps = study_steps(study.study_instance_uid)
    changed = study_changed_instances(study.pk)
    lane, standing = _waits_for_lane(uploads, now)
    moves = study.state in UNFINISHED
    return StudyView(
        study=study,
        settles_at=settles,
        series=list(study_series(study)),
        uploads=uploads,
        running=[job for job in uploads if job.state == "running"],
        timeline=study_timeline(study, uploads, settles, now, steps=steps, held=held),
        can_retry=any(job.error_code and job.state in ("ready", "parked") for job in uploads),
        demonstration=any(job.vault.demonstration for job in uploads),
        steps=step_cards(study, steps),
        settles_words=once,
        held=held,
        trouble=_trouble(uploads),
        idle=moves and not workers_running(now),
        lane=lane,
        standing=standing,
        changed=[list(versions) for _uid, versions in groupby(changed, lambda instance: instance.sop_instance_uid)],
        patients=study_patients(study) if study.conflict else [],
    )


def _trouble(uploads: list[UploadJob]) -> UploadJob | None:
    """The upload whose fault is told first: one that was given up, else one that is tried again."""
    failed = [job for job in uploads if job.error_code and job.state in (JobState.PARKED, JobState.READY)]
    return min(failed, key=lambda job: job.state != JobState.PARKED, default=None)


def _waits_for_lane(uploads: list[UploadJob], now: datetime) -> tuple[Lane | None, Standing | None]:
    """The first lane that holds an upload of the study up, and how it stands."""
    for job in uploads:
        if job.state == JobState.READY and (standing := vault_standing(job.vault, now)).tone != "ok":
            return job.vault.lane, standing
    return None, None
