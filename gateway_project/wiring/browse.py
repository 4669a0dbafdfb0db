"""What the pages show, asked of each app's selectors: the list of studies, what needs a hand, one study."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.urls import reverse
from django.utils.timezone import localtime

from gateway_project.core.models import Alert, Lane, Severity
from gateway_project.core.options import option
from gateway_project.core.selectors import alerts_unacknowledged, lanes_in_trouble, lanes_waiting
from gateway_project.wiring.browse_steps import StepCard, step_cards, steps_hold
from gateway_project.wiring.cursor import cursor_read, cursor_write
from gateway_project.wiring.timeline import study_timeline
from gateway_project.wiring.timeline_entry import Entry
from gateway_project.wiring.words import clock_words, count_words, duration_words, person_words
from network.selectors.procedure_steps import study_steps
from studies.models import Series, Study, StudyState
from studies.selectors import (
    StudyPage,
    open_until,
    settles_at,
    studies_any,
    studies_failed,
    studies_failed_count,
    studies_page,
    study_counts_since,
    study_series,
)
from uploads.models import UploadJob
from uploads.selectors import study_uploads, upload_latest_done, uploads_running, vaults_enabled

SHOWN = 5
SAFE = (StudyState.UPLOADED, StudyState.PENDING_DELETION, StudyState.DELETED)
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
class Trouble:
    """One thing that needs a hand: what, why, since when, and the button that helps."""

    tone: str
    title: str
    words: str
    since: datetime
    link: str = ""
    button: str = ""
    button_address: str = ""


@dataclass(frozen=True)
class Summary:
    """The sentence at the top of the list, and what needs a hand."""

    tone: str
    sentence: str
    detail: str = ""
    troubles: list[Trouble] = field(default_factory=list)
    more_failed: int = 0


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
    steps: list[StepCard] = field(default_factory=list)


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


def studies_summary(now: datetime) -> Summary:
    """The first sentence of the page: is everything of today where it belongs, and if not, what to press."""
    midnight = localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    counts = study_counts_since(midnight)
    failed = studies_failed(SHOWN)
    failed_total = studies_failed_count() if len(failed) == SHOWN else len(failed)
    lanes = list(lanes_in_trouble())
    troubles = [_lane_trouble(lane, now) for lane in lanes]
    lane_keys = {f"lane:{lane.name}" for lane in lanes}
    troubles += [_alert_trouble(alert) for alert in alerts_unacknowledged(SHOWN) if alert.key not in lane_keys]
    troubles += [_study_trouble(study) for study in failed]
    sentence, detail = _today(counts)
    waits = [
        f"{lane.title} waits until {clock_words(lane.waits_until)}." for lane in lanes_waiting(now) if lane.waits_until
    ]
    detail = " ".join(filter(None, (detail, *waits)))
    if not troubles and not counts and not studies_any():
        return Summary(tone="run", sentence="Ready. No study has arrived yet.")
    if not troubles:
        tone = "ok" if sum(counts.values()) == sum(counts.get(state, 0) for state in SAFE) else "run"
        return Summary(tone=tone, sentence=sentence, detail=detail)
    number = len(troubles) + failed_total - len(failed)
    tone = "bad" if any(trouble.tone == "bad" for trouble in troubles) else "warn"
    headline = f"{count_words(number, 'thing needs', 'things need')} a {'hand' if tone == 'bad' else 'look'}."
    return Summary(tone, headline, sentence, troubles, failed_total - len(failed))


def _today(counts: dict[str, int]) -> tuple[str, str]:
    total = sum(counts.values())
    safe = sum(counts.get(state, 0) for state in SAFE)
    if not total:
        return "Nothing has arrived today.", "All is quiet; what came before is below."
    if safe == total:
        which = "The one study of today is" if total == 1 else f"All {total:,} studies of today are"
        return f"{which} in the vault.", _latest_took()
    groups = (
        ("being received", (StudyState.RECEIVING,)),
        ("settled", (StudyState.SETTLED,)),
        ("on the way", (StudyState.UPLOADING,)),
        ("stuck", FAILED),
    )
    parts = [
        f"{sum(counts.get(s, 0) for s in states):,} {word}"
        for word, states in groups
        if any(counts.get(s) for s in states)
    ]
    if safe:
        parts.insert(0, f"{safe:,} in the vault")
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{count_words(total, 'study', 'studies')} today: {listed}.", ""


def _latest_took() -> str:
    job = upload_latest_done()
    if job is None or job.receipt_at is None:
        return ""
    seconds = (job.receipt_at - job.revision.received_at).total_seconds()
    return f"The latest took {duration_words(seconds)} from its last object to the vault's receipt."


def _lane_trouble(lane: Lane, now: datetime) -> Trouble:
    if lane.held:
        tone, words = "bad", f"{lane.fault_words} It waits for a person."
    elif lane.paused:
        tone, words = "warn", "Paused by a person: what is under way ends, nothing new begins."
    elif lane.open_until is not None and lane.open_until > now:
        again = duration_words((lane.open_until - now).total_seconds())
        tone, words = "warn", f"{lane.fault_words} It tries again by itself in {again}; nothing is lost."
    else:
        tone, words = "warn", f"{lane.fault_words} The next try comes by itself; nothing is lost."
    return Trouble(
        tone=tone,
        title=lane.title,
        words=words.strip(),
        since=lane.changed_at,
        button="Resume" if lane.held or lane.paused else "Try now",
        button_address=reverse("lane-resume", args=(lane.pk,)),
    )


def _alert_trouble(alert: Alert) -> Trouble:
    return Trouble(
        tone="bad" if alert.severity == Severity.CRITICAL else "warn",
        title=Severity(alert.severity).label.capitalize(),
        words=alert.words,
        since=alert.opened_at,
        link=alert.link if alert.link.startswith("/") else "",
        button="Acknowledge",
        button_address=reverse("alert-acknowledge", args=(alert.pk,)),
    )


def _study_trouble(study: Study) -> Trouble:
    given_up = study.state == StudyState.FAILED_PERMANENT
    title = " · ".join(filter(None, [person_words(study.patient_name) or "No name", study.study_description]))
    return Trouble(
        tone="bad" if given_up else "warn",
        title=title,
        words=study.reason or ("Given up." if given_up else "An upload failed; it is tried again by itself."),
        since=study.state_since,
        link=reverse("study", args=(study.pk,)),
        button="Try again" if given_up else "Try now",
        button_address=reverse("study-retry", args=(study.pk,)),
    )


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
    steps = study_steps(study.study_instance_uid)
    if settles is not None and steps_hold(steps):
        settles = open_until(study)
    return StudyView(
        study=study,
        settles_at=settles,
        series=list(study_series(study)),
        uploads=uploads,
        running=[job for job in uploads if job.state == "running"],
        timeline=study_timeline(study, uploads, settles, now, steps=steps),
        can_retry=any(job.error_code and job.state in ("ready", "parked") for job in uploads),
        demonstration=any(job.vault.demonstration for job in uploads),
        steps=step_cards(study, steps),
    )
