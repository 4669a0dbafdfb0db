"""The small components of the pages: icons, states, times, sizes, UIDs."""

import math
from datetime import datetime
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime, now

from gateway_project.core.models import JobState
from gateway_project.core.options import option
from gateway_project.wiring import words
from gateway_project.wiring.explain.catalogue import HEALS, WAITS, explanation, help_address
from studies.models import StudyState
from uploads.selectors import upload_rate

register = template.Library()

# state: (icon, tone). The shape, the word and the colour say the same.
STUDY_MARKS = {
    StudyState.RECEIVING: ("receiving", "run"),
    StudyState.SETTLED: ("settled", "calm"),
    StudyState.UPLOADING: ("uploading", "run"),
    StudyState.UPLOADED: ("uploaded", "ok"),
    StudyState.FAILED_TRANSIENT: ("again", "warn"),
    StudyState.FAILED_PERMANENT: ("stop", "bad"),
    StudyState.PENDING_DELETION: ("deletion", "calm"),
    StudyState.DELETED: ("deleted", "calm"),
}
JOB_MARKS = {
    JobState.READY: ("settled", "calm"),
    JobState.RUNNING: ("uploading", "run"),
    JobState.DONE: ("uploaded", "ok"),
    JobState.PARKED: ("stop", "bad"),
    JobState.CANCELLED: ("deleted", "calm"),
}


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """One symbol of static/icons.svg; hidden from screen readers unless it is given a label."""
    address = f"{static('icons.svg')}#{name}"
    if label:
        return format_html('<svg class="icon" role="img" aria-label="{}"><use href="{}"></use></svg>', label, address)
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}"></use></svg>', address)


@register.inclusion_tag("parts/state.html")
def study_state(state: str) -> dict[str, Any]:
    shape, tone = STUDY_MARKS[StudyState(state)]
    return {"icon": shape, "tone": tone, "word": StudyState(state).label}


@register.inclusion_tag("parts/state.html")
def job_state(job: Any) -> dict[str, Any]:
    shape, tone = JOB_MARKS[JobState(job.state)]
    if job.state == JobState.READY and job.error_code:
        return {"icon": "again", "tone": "warn", "word": StudyState.FAILED_TRANSIENT.label}
    return {"icon": shape, "tone": tone, "word": JobState(job.state).label}


@register.inclusion_tag("parts/state.html")
def state_of(mark: tuple[str, str, str]) -> dict[str, str]:
    """A state that was decided elsewhere: (icon, tone, word)."""
    shape, tone, word = mark
    return {"icon": shape, "tone": tone, "word": word}


@register.simple_tag
def ago(moment: datetime | None) -> SafeString | str:
    """How long ago, with the exact local time on hover."""
    if moment is None:
        return ""
    return _time(moment, words.ago_words(moment, now()))


@register.simple_tag
def clock(moment: datetime | None) -> SafeString | str:
    """The time of day, with the date before it when it is not today; the exact one on hover."""
    if moment is None:
        return ""
    local = localtime(moment)
    today = localtime(now()).date() == local.date()
    return _time(moment, local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S"))


@register.simple_tag
def countdown(moment: datetime | None) -> SafeString | str:
    """How long until then; gateway.js counts it down each second."""
    if moment is None:
        return ""
    left = words.duration_words((moment - now()).total_seconds())
    return format_html(
        '<time datetime="{}" title="{}" data-until="{}">{}</time>',
        moment.isoformat(),
        exact(moment),
        int(moment.timestamp() * 1000),
        left,
    )


def _time(moment: datetime, text: str) -> SafeString:
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact(moment), text)


@register.simple_tag
def echo_command() -> str:
    """What somebody types on another machine to try whether we answer."""
    return f"echoscu -aec {option('DICOM.AE_TITLE')} this-machine {option('DICOM.PORT')}"


@register.filter
def exact(moment: datetime | None) -> str:
    return localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z") if moment else ""


@register.filter
def utc(text: str | None) -> str:
    """A moment as documents have it (RFC 3339, UTC), without its fractions."""
    return f"{text[:10]} {text[11:19]}" if text else ""


@register.filter
def between(start: datetime | None, end: datetime | None) -> str:
    """How long from one to the other; until now when the other is still to come."""
    return words.duration_words(((end or now()) - start).total_seconds()) if start else ""


@register.filter
def size(size_bytes: int | None) -> str:
    return words.size_words(size_bytes)


@register.filter
def whole(number: int) -> str:
    """`12,402`."""
    return f"{number:,}"


@register.filter
def person(name: str) -> SafeString | str:
    """Isolated, so that a name written from right to left turns round nothing of what stands beside it."""
    said = words.person_words(name)
    return format_html("<bdi>{}</bdi>", said) if said else ""


@register.filter
def person_text(name: str) -> str:
    """The same for an attribute, where no markup is."""
    return words.isolated(words.person_words(name))


@register.filter
def modalities(value: str) -> list[str]:
    return [part for part in value.split("\\") if part]


@register.filter
def counted(count: int, forms: str) -> str:
    """`{{ n|counted:"study,studies" }}`."""
    one, _comma, many = forms.partition(",")
    return words.count_words(count, one, many)


@register.inclusion_tag("parts/uid.html")
def uid(value: str, label: str = "UID") -> dict[str, str]:
    return {"value": value, "short": words.uid_short(value), "label": label}


@register.simple_tag
def explained(code: str) -> dict[str, str] | None:
    """What the catalogue says about an error code; None for one that it does not know, a vault's own say."""
    found = explanation(str(code or ""))
    if found is None:
        return None
    return {
        "title": found.title,
        "cause": found.cause,
        "step": found.step,
        "repairs": HEALS if found.heals else WAITS,
        "address": help_address(code),
    }


@register.inclusion_tag("parts/progress.html")
def job_progress(job: Any, label: str = "Upload") -> dict[str, Any]:
    """Progress in bytes; rate and time left once the running attempt has moved something."""
    percent = math.floor(100 * job.progress_done / job.progress_total) if job.progress_total else 0
    rate = upload_rate(job, now=now())
    left = (job.progress_total - job.progress_done) / rate if rate else None
    return {
        "label": label,
        "done": job.progress_done,
        "total": job.progress_total,
        "percent": min(percent, 100),
        "rate": f"{words.size_words(rate)}/s" if rate else "",
        "left": words.duration_words(left) if left is not None else "",
    }
