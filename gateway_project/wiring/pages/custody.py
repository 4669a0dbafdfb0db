"""The chain of custody of a study: as a page to read and print, and as the signed document."""

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_POST

from gateway_project.core.models import AuditEvent
from gateway_project.core.roles import actor_of
from gateway_project.core.selectors import audit_tail_of
from gateway_project.wiring.pages.access import acting
from gateway_project.wiring.words import actor_words, count_words
from studies.models import Study
from uploads.envelope.keys import fingerprint
from uploads.models import Transport
from uploads.selectors import Coverage, study_coverage, study_uploads
from uploads.services.custody import custody_document, custody_instances
from uploads.services.identity import identity_jwk

PAGE_INSTANCES = 100


@dataclass(frozen=True)
class Verdict:
    tone: str
    sentence: str


@acting
@gzip_page
@require_GET
def custody(request: HttpRequest, pk: int) -> HttpResponse:
    """One page of instances; the document holds all of them."""
    study = get_object_or_404(Study, pk=pk)
    after = request.GET.get("after", "0")
    if not (after.isascii() and after.isdecimal() and len(after) <= 18):
        raise BadRequest
    found = custody_instances(study.pk, after=int(after), limit=PAGE_INSTANCES + 1)
    shown = found[:PAGE_INSTANCES]
    return render(
        request,
        "studies/custody.html",
        {
            "study": study,
            "verdicts": verdicts(study, study_coverage(study.pk)),
            "uploads": list(study_uploads(study.pk)),
            "instances": [record for _pk, record in shown],
            "next": shown[-1][0] if len(found) > PAGE_INSTANCES else None,
            "first": after == "0",
            "events": [_event(event) for event in audit_tail_of(f"study:{study.pk}")],
            "identity": fingerprint(identity_jwk()),
            "made_at": now(),
        },
    )


@acting
@gzip_page
@require_POST
def custody_export(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The signed document as a download; its name holds our number of the study and nothing else."""
    study = get_object_or_404(Study, pk=pk)
    document = custody_document(study, actor=actor_of(request.user))
    name = f"custody-study-{study.pk}-{now():%Y%m%dT%H%M%SZ}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(document, content_type="application/json", headers=headers)


def verdicts(study: Study, coverage: list[Coverage]) -> list[Verdict]:
    """What each vault has said of how many objects, in a sentence."""
    if not coverage:
        return [Verdict("warn", "No vault has confirmed any object of this study yet.")]
    return [_verdict(study, each) for each in coverage]


def _verdict(study: Study, each: Coverage) -> Verdict:
    whole = each.instances >= study.instance_count
    total = count_words(study.instance_count, "object")
    which = (
        (f"all {total}" if study.instance_count != 1 else "the one object")
        if whole
        else f"{each.instances:,} of {total}"
    )
    if each.vault.transport == Transport.STOW:
        said = f"Server {each.vault.name} has confirmed {which} by name; it signs no receipt."
        return Verdict("ok" if whole else "warn", said)
    if each.vault.demonstration:
        return Verdict("warn", f"The demonstration vault has signed for {which}: nothing is proved by that.")
    return Verdict("ok" if whole else "warn", f"Vault {each.vault.name} has signed for {which}.")


def _event(event: AuditEvent) -> dict[str, Any]:
    action = str(event.detail.get("action", ""))
    return {
        "at": event.at,
        "event": event.event,
        "words": action,
        "actor": actor_words(event.actor) or "the gateway",
        "outcome": event.outcome,
    }


urlpatterns = [
    path("studies/<int:pk>/custody/", custody, name="study-custody"),
    path("studies/<int:pk>/custody/export/", custody_export, name="study-custody-export"),
]
