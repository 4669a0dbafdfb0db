"""What happened to a study, from its first object to the receipt, and what comes next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway_project.core.models import AuditEvent, AuditEventType, JobState
from gateway_project.core.selectors import audit_tail_of
from gateway_project.wiring.browse_steps import step_entries, steps_ahead
from gateway_project.wiring.lane_words import vault_standing
from gateway_project.wiring.timeline_entry import Entry
from gateway_project.wiring.words import actor_words, count_words, duration_words, size_words
from network.models import ProcedureStep
from studies.models import QuarantinedObject, Study, StudyRevision
from studies.selectors import quiet_words, study_accepted, study_arrivals
from uploads.models import Transport, UploadAttempt, UploadJob

SAME_BURST = timedelta(minutes=2)
# Told better by the rows themselves.
TOLD_ELSEWHERE = ("settled", "dispatched", "uploaded")
# Arrivals are told by the rows; who looked at the pictures stands in the audit trail.
TOLD_BY_OTHERS = (AuditEventType.INSTANCES_TRANSFERRED, AuditEventType.INSTANCES_ACCESSED)
SETTLED_BECAUSE = {
    "quiet": "nothing more had arrived for long enough",
    "open-too-long": "it had been open for the longest time allowed",
    "asked": "asked for by hand",
    "step-complete": "the procedure step has ended and all its objects are here",
}
AUDIT_WORDS = {"retry": "Another try was asked for"}


@dataclass(frozen=True)
class _Burst:
    """Objects of one source that came without a long pause between them."""

    source: str
    revision_id: int | None
    first: datetime
    last: datetime
    count: int
    size: int


def study_timeline(
    study: Study,
    uploads: list[UploadJob],
    settles_at: datetime | None,
    now: datetime,
    *,
    steps: Sequence[ProcedureStep] = (),
    held: bool = False,
) -> list[Entry]:
    """Oldest first, and after it what is to come. Four queries, whatever the study's size."""
    entries = [_arrived(burst) for burst in _bursts(study_arrivals(study.pk))]
    entries += [_settled(revision) for revision in study.revisions.order_by("number")]
    entries += step_entries(steps)
    for job in uploads:
        entries += _upload_entries(job, several=len(uploads) > 1)
    entries += [_accepted(found) for found in study_accepted(study.pk)]
    entries += _audited(audit_tail_of(f"study:{study.pk}", without_events=TOLD_BY_OTHERS))
    entries.sort(key=lambda entry: entry.at or now)
    return entries + steps_ahead(steps) + _ahead(study, uploads, settles_at, now, held=held)


def _bursts(rows: Iterable[dict[str, Any]]) -> list[_Burst]:
    """A sender that opens an association for every object must not make a page of one line for each."""
    bursts: list[_Burst] = []
    for row in rows:
        new = _Burst(
            row["source_ae_title"], row["revision_id"], row["first"], row["last"], row["count"], row["size"] or 0
        )
        known = bursts[-1] if bursts else None
        if (
            known is not None
            and (known.source, known.revision_id) == (new.source, new.revision_id)
            and new.first - known.last < SAME_BURST
        ):
            bursts[-1] = replace(
                known, last=max(known.last, new.last), count=known.count + new.count, size=known.size + new.size
            )
        else:
            bursts.append(new)
    return bursts


def _arrived(burst: _Burst) -> Entry:
    lasted = (burst.last - burst.first).total_seconds()
    detail = size_words(burst.size)
    if lasted >= 1:
        detail = f"{detail} in {duration_words(lasted)}"
        if burst.size >= 1_000_000:
            detail = f"{detail}, {size_words(burst.size / lasted)}/s"
    source = f" from {burst.source}" if burst.source else ""
    return Entry(burst.first, "receiving", "past", f"{count_words(burst.count, 'object')} received{source}", detail)


def _accepted(found: QuarantinedObject) -> Entry:
    """Refused when it came, and taken in all the same."""
    title = "Object taken in from the quarantine"
    return Entry(found.decided_at, "hand", "warn", title, found.reason, actor=actor_words(found.decided_by))


def _settled(revision: StudyRevision) -> Entry:
    what = "Settled" if revision.number == 1 else f"Settled again as revision {revision.number}"
    why = revision.reason_words or SETTLED_BECAUSE.get(revision.reason, revision.reason)
    detail = f"{count_words(revision.instance_count, 'object')}, {size_words(revision.size_bytes)}; {why}"
    return Entry(revision.settled_at, "settled", "past", what, detail, actor=actor_words(revision.actor))


def _upload_entries(job: UploadJob, *, several: bool) -> list[Entry]:
    target = f"vault {job.vault.name}"
    which = f", revision {job.revision.number}" if several else ""
    sealed = "sealed" if job.vault.transport == Transport.GVE1 else "in all"
    attempts: list[UploadAttempt] = getattr(job, "latest_tries", [])[::-1]
    entries = [_attempt(attempt, f"{target}{which}", sealed) for attempt in attempts]
    if attempts and attempts[0].number > 1:  # a vault that was away for a week was tried thousands of times
        tries = count_words(attempts[0].number - 1, "earlier attempt", "earlier attempts")
        entries.insert(0, Entry(attempts[0].started_at, "again", "past", f"{tries} to upload to {target}{which}"))
    if job.receipt_at is not None:
        entries.append(
            Entry(
                job.receipt_at,
                "uploaded",
                "ok",
                f"Receipt of {target} verified{which}",
                "The vault has signed for every file.",
                receipt_id=job.receipt_id,
            )
        )
    elif job.state == JobState.DONE and job.vault.transport == Transport.STOW and job.ended_at is not None:
        words = "The server has named each one; it signs no receipt."
        entries.append(Entry(job.ended_at, "uploaded", "ok", f"Every object confirmed by {target}{which}", words))
    return entries


def _attempt(attempt: UploadAttempt, target: str, sealed: str) -> Entry:
    number = "" if attempt.number == 1 else f", attempt {attempt.number}"
    sent = f"{count_words(attempt.files_sent, 'file')} sent, {size_words(attempt.bytes_sent)} {sealed}"
    lasted = (
        f" in {duration_words((attempt.ended_at - attempt.started_at).total_seconds())}" if attempt.ended_at else ""
    )
    if attempt.result == "running":
        return Entry(attempt.started_at, "uploading", "run", f"Uploading to {target}{number}", f"{sent} so far")
    if attempt.result == "done":
        return Entry(attempt.started_at, "uploading", "past", f"Uploaded to {target}{number}", f"{sent}{lasted}")
    if attempt.result == "interrupted":
        words = attempt.error_words or "Nothing is lost: it goes on where it stopped."
        return Entry(attempt.started_at, "again", "warn", f"Upload to {target} interrupted{number}", words)
    words = attempt.error_words or "The reason is in the log."
    return Entry(attempt.started_at, "stop", "bad", f"Upload to {target} failed{number}", words)


def _audited(events: Iterable[AuditEvent]) -> list[Entry]:
    entries = []
    for event in events:
        action = str(event.detail.get("action", ""))
        if action not in TOLD_ELSEWHERE:
            title = AUDIT_WORDS.get(action) or (action.capitalize() if action else event.event)
            entries.append(Entry(event.at, "person", "past", title, actor=actor_words(event.actor)))
    return entries


def _ahead(
    study: Study,
    uploads: list[UploadJob],
    settles_at: datetime | None,
    now: datetime,
    *,
    held: bool,
) -> list[Entry]:
    entries = []
    if settles_at is not None and held:
        why = "It waits for the procedure step to end"
        entries.append(Entry(None, "settled", "next", "Settles at the latest", why, until=max(settles_at, now)))
    elif settles_at is not None:
        why = f"Once {quiet_words(study)}"
        entries.append(
            Entry(None, "settled", "next", "Settles, if nothing more arrives", why, until=max(settles_at, now))
        )
    return entries + [_waiting(job, now) for job in uploads if job.state == JobState.READY]


def _waiting(job: UploadJob, now: datetime) -> Entry:
    title, standing = f"Upload to vault {job.vault.name}", vault_standing(job.vault, now)
    if standing.tone != "ok":
        words = f"The way to the vault: {standing.word}. {standing.words}"
        return Entry(None, "uploading", "next", title, words.rstrip(), until=standing.until)
    if job.run_after > now:
        return Entry(None, "again", "next", f"Next try of the upload to vault {job.vault.name}", until=job.run_after)
    return Entry(None, "uploading", "next", title, "Waits for its turn.")
