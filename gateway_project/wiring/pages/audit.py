"""The audit trail: who did what when, for administrators; its verification and its export."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods, require_POST

from gateway_project.core.models import AuditEventType
from gateway_project.core.roles import actor_of
from gateway_project.core.services.audit_check import audit_verify_recorded
from gateway_project.wiring import browse_audit as browse
from gateway_project.wiring.pages.access import administering

FILTERS = ("event", "outcome", "actor", "subject", "first", "last")


@administering
@gzip_page
@require_http_methods(["GET", "HEAD", "POST"])
def audit(request: HttpRequest) -> HttpResponse:
    """The trail. What is typed is posted; only what the trail knows stands in an address afterwards."""
    if request.method == "POST":
        return _search(request)
    shown = {name: request.GET.get(name, "") for name in FILTERS}
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    try:
        view = browse.audit_view(browse.filters_read(shown), before=before, after=after, now=now())
    except ValueError as error:
        raise BadRequest from error
    kept = {name: value for name, value in shown.items() if value}
    context: dict[str, Any] = {
        "view": view,
        "shown": shown,
        "kept": kept,
        "filtered": urlencode(kept),
        "events": AuditEventType.values,
        "outcomes": browse.OUTCOMES,
    }
    return render(request, "audit/page.html", context)


def _search(request: HttpRequest) -> HttpResponse:
    wanted = {name: request.POST.get(name, "").strip() for name in FILTERS}
    typed = (("actor", browse.actor_known, "Nobody"), ("subject", browse.subject_known, "Nothing"))
    for name, known, who in typed:
        if wanted[name]:
            wanted[name] = known(wanted[name])
            if not wanted[name]:
                messages.info(request, f"{who} of that name is in the trail; write it as the trail does.")
    for name in ("first", "last"):
        if wanted[name] and not browse.is_day(wanted[name]):
            messages.info(request, "A day is written 2026-11-25.")
            wanted[name] = ""
    try:
        browse.filters_read(wanted)
    except ValueError as error:
        raise BadRequest from error
    query = urlencode({name: value for name, value in wanted.items() if value})
    return redirect(f"{reverse('audit')}?{query}" if query else "audit")


@administering
@require_POST
def audit_check(request: HttpRequest) -> HttpResponse:
    """Recomputes the whole chain."""
    broken = audit_verify_recorded(actor=actor_of(request.user))
    if broken is None:
        messages.success(request, "The whole chain was recomputed and holds.")
    else:
        messages.warning(request, f"The chain does not hold from record {broken} on.")
    return redirect("audit")


@administering
@require_POST
def audit_download(request: HttpRequest) -> StreamingHttpResponse:
    """What the filters show, as JSON lines; the download is itself in the trail."""
    shown = {name: value for name in FILTERS if (value := request.POST.get(name, ""))}
    try:
        lines = browse.audit_export(browse.filters_read(shown), shown=shown, user=request.user)
    except ValueError as error:
        raise BadRequest from error
    headers = {"Content-Disposition": f'attachment; filename="audit-{now():%Y%m%dT%H%M%SZ}.jsonl"'}
    return StreamingHttpResponse(lines, content_type="application/x-ndjson", headers=headers)


urlpatterns = [
    path("audit/", audit, name="audit"),
    path("audit/verify/", audit_check, name="audit-verify"),
    path("audit/export/", audit_download, name="audit-export"),
]
