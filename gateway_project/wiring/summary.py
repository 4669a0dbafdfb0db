"""What needs a hand: the sentence at the top of the pages, and each trouble with its reason and its button."""

from dataclasses import dataclass, field
from datetime import datetime

from django.urls import reverse
from django.utils.timezone import localtime

from gateway_project.core.models import Alert, Lane, Severity
from gateway_project.core.selectors import alerts_unacknowledged
from gateway_project.wiring import figures
from gateway_project.wiring.lane_words import Standing, lane_address, lane_or_vault_standing
from gateway_project.wiring.words import clock_words, count_words, duration_words, isolated, person_words
from studies.models import Study, StudyState
from studies.selectors import studies_any, studies_failed, study_counts_since
from uploads.selectors import upload_latest_done
from uploads.selectors.lines import studies_alert_keys, studies_behind, uploads_behind

SHOWN = 5
SAFE = (StudyState.UPLOADED, StudyState.PENDING_DELETION, StudyState.DELETED)
FAILED = (StudyState.FAILED_PERMANENT, StudyState.FAILED_TRANSIENT)


@dataclass(frozen=True)
class Trouble:
    """One thing that needs a hand: what, why, since when, and the button that helps; `go`: that of its link, if any."""

    tone: str
    title: str
    words: str
    since: datetime | None
    link: str = ""
    go: str = ""
    button: str = ""
    button_address: str = ""


@dataclass(frozen=True)
class Summary:
    """The sentence at the top, and what needs a hand."""

    tone: str
    sentence: str
    detail: str = ""
    troubles: list[Trouble] = field(default_factory=list)
    more_failed: int = 0
    more_alerts: int = 0


def summary_now(now: datetime, *, machine: figures.Machine | None = None) -> Summary:
    """The first sentence: is everything of today where it belongs, and if not, what to press."""
    midnight = localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    counts = study_counts_since(midnight)
    machine = machine or figures.machine_figures(now)
    standings = [(lane, lane_or_vault_standing(lane, now)) for lane in machine.lanes]
    lanes = [(lane, standing) for lane, standing in standings if standing.is_trouble]
    lane_ids = [lane.pk for lane, _standing in lanes]
    behind = uploads_behind(lane_ids)
    failed, failed_total = studies_failed(SHOWN, told=studies_behind(lane_ids) if behind else None)
    alerts = alerts_unacknowledged(
        SHOWN, without=[f"lane:{lane.name}" for lane, _standing in lanes], told=studies_alert_keys()
    )
    troubles = _machine_troubles(machine)
    troubles += [_lane_trouble(lane, standing, now, behind.get(lane.pk, 0)) for lane, standing in lanes]
    troubles += [_alert_trouble(alert) for alert in alerts.rows]
    troubles += [_study_trouble(study) for study in failed]
    sentence, detail = _today(counts)
    waits = [
        f"{lane.title} waits until {clock_words(lane.waits_until)}."
        for lane, standing in standings
        if lane.waits_until and lane.waits_until > now and not standing.is_trouble and standing.until
    ]
    detail = " ".join(filter(None, (detail, *waits)))
    if not troubles and not counts and not studies_any():
        return Summary(tone="run", sentence="Ready. No study has arrived yet.")
    if not troubles:
        tone = "ok" if sum(counts.values()) == sum(counts.get(state, 0) for state in SAFE) else "run"
        return Summary(tone=tone, sentence=sentence, detail=detail)
    more_failed, more_alerts = failed_total - len(failed), alerts.total - len(alerts.rows)
    number = len(troubles) + more_failed + more_alerts
    tone = "bad" if any(trouble.tone == "bad" for trouble in troubles) else "warn"
    headline = f"{count_words(number, 'thing needs', 'things need')} a {'hand' if tone == 'bad' else 'look'}."
    return Summary(tone, headline, sentence, troubles, more_failed, more_alerts)


def _machine_troubles(machine: figures.Machine) -> list[Trouble]:
    """The gateway's own parts that do not run."""
    help_words = "Look at the terminal of make run, or at logs/gateway.errors.log in the data directory."
    troubles = []
    if not machine.live.running:
        words = f"Nothing can be received: senders get no connection, and keep their objects. {help_words}"
        troubles.append(Trouble("bad", "The listeners do not answer", words, None))
    if not machine.workers:
        words = f"Studies are received and safe, but none settles and none is uploaded. {help_words}"
        troubles.append(Trouble("bad", "The workers do not run", words, None))
    if not machine.broker:
        words = "Studies are received and safe, but none settles and no upload begins until it answers; then all of it "
        words += "goes on by itself. Start Redis, or mend the way to it (REDIS_URL)."
        troubles.append(Trouble("bad", "The task queue does not answer", words, None))
    return troubles


def _today(counts: dict[str, int]) -> tuple[str, str]:
    total = sum(counts.values())
    safe = sum(counts.get(state, 0) for state in SAFE)
    if not total:
        return "Nothing has arrived today.", "All is quiet; what came before is in Studies."
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
    took = duration_words(seconds) if seconds >= 1 else "less than a second"
    return f"The latest took {took} from its last object to the vault's receipt."


def _lane_trouble(lane: Lane, standing: Standing, now: datetime, behind: int) -> Trouble:
    """One cause is one thing: the studies that wait for it are counted here and not listed."""
    again = f" The next try is in {duration_words((standing.until - now).total_seconds())}." if standing.until else ""
    waits = f" {count_words(behind, 'upload waits', 'uploads wait')} for it." if behind else ""
    return Trouble(
        tone=standing.tone,
        title=f"{lane.title}: {standing.word}",
        words=f"{standing.words}{again}{waits}",
        since=lane.changed_at,
        link=lane_address(lane),
        button=standing.button if standing.resumes else "",
        button_address=reverse("lane-resume", args=(lane.pk,)) if standing.resumes else "",
    )


def _alert_trouble(alert: Alert) -> Trouble:
    return Trouble(
        tone="bad" if alert.severity == Severity.CRITICAL else "warn",
        title=Severity(alert.severity).label.capitalize(),
        words=alert.words,
        since=alert.opened_at,
        link=alert.link if alert.link.startswith("/") and alert.link != reverse("now") else "",  # where this stands
        go="Go there",
        button="Acknowledge",
        button_address=reverse("alert-acknowledge", args=(alert.pk,)),
    )


def _study_trouble(study: Study) -> Trouble:
    given_up = study.state == StudyState.FAILED_PERMANENT
    title = " · ".join(
        filter(None, [isolated(person_words(study.patient_name)) or "No name", isolated(study.study_description)])
    )
    return Trouble(
        tone="bad" if given_up else "warn",
        title=title,
        words=study.reason or ("Given up." if given_up else "An upload failed; it is tried again by itself."),
        since=study.state_since,
        link=reverse("study", args=(study.pk,)),
        button="Try again" if given_up else "Try now",
        button_address=reverse("study-retry", args=(study.pk,)),
    )
