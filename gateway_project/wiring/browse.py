"""What the pages of studies show, asked of each app's selectors: the list, and one study."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway_project.core.options import option
from gateway_project.wiring.cursor import cursor_read, cursor_write
from gateway_project.wiring.timeline import Entry, study_timeline
from studies.models import Series, Study, StudyState
from studies.selectors import (
    StudyPage,
    settles_at,
    studies_page,
    study_series,
)
from uploads.models import UploadJob
from uploads.selectors import study_uploads, uploads_running, vaults_enabled

FAILED = (StudyState.FAILED_PERMANENT, StudyState.FAILED_TRANSIENT)

# What `?state=` understands: the chips above the list.
FILTERS: dict[str, tuple[str, tuple[StudyState, ...]]] = {
    "failed": ("needs a hand", FAILED),
    "receiving": ("receiving", (StudyState.RECEIVING,)),
    "settled": ("settled", (StudyState.SETTLED,)),
    "uploading": ("uploading", (StudyState.UPLOADING,)),
    "uploaded": ("uploaded", (StudyState.UPLOADED,)),
    "deleted": ("files deleted", (StudyState.PENDING_DELETION, StudyState.DELETED)),
}


@dataclass(frozen=True)
class Row:
    study: Study
    settles_at: datetime | None
    upload: UploadJob | None


@dataclass(frozen=True)
class Listing:
    rows: list[Row]
    newer: str
    older: str
    count: int


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


# -- the list ----------------------------------------------------------------------------------------------------------


def cursor_text(study: Study) -> str:
    """The place of a study in the list, for an address: when it was received and our id; nothing of a patient."""
    return cursor_write(study.received_at, study.pk)


def studies_listing(*, state: str, query: str, before: str, after: str) -> Listing:
    """One page of the list in two queries. Raises ValueError for a cursor or state that is none."""
    states: Sequence[str] = ()
    if state:
        if state not in FILTERS:
            raise ValueError("not a state")
        states = FILTERS[state][1]
    page = studies_page(
        states=states,
        query=query,
        before=cursor_read(before) if before else None,
        after=cursor_read(after) if after else None,
    )
    return Listing(
        rows=_rows(page),
        newer=cursor_text(page.rows[0]) if page.newer and page.rows else "",
        older=cursor_text(page.rows[-1]) if page.older and page.rows else "",
        count=len(page.rows),
    )


def _rows(page: StudyPage) -> list[Row]:
    moving = [study.pk for study in page.rows if study.state == StudyState.UPLOADING]
    running = uploads_running(moving) if moving else {}
    return [Row(study, settles_at(study), running.get(study.pk)) for study in page.rows]


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
    settles = settles_at(study)
    return StudyView(
        study=study,
        settles_at=settles,
        series=list(study_series(study)),
        uploads=uploads,
        running=[job for job in uploads if job.state == "running"],
        timeline=study_timeline(study, uploads, settles, now),
        can_retry=any(job.error_code and job.state in ("ready", "parked") for job in uploads),
        demonstration=any(job.vault.demonstration for job in uploads),
    )
