"""Quarantine: what was not taken in and why, and deciding about it."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_POST

from gateway_project.core.roles import actor_of
from gateway_project.wiring import browse_quarantine as browse
from gateway_project.wiring.cursor import number_read
from gateway_project.wiring.pages.access import acting, seeing
from gateway_project.wiring.pages.actions import back, next_address
from studies.dicom.spool import SpoolError
from studies.models import QuarantinedObject
from studies.selectors import quarantine_head_words


@seeing
@gzip_page
@require_GET
def quarantine(request: HttpRequest) -> HttpResponse:
    return render(request, "quarantine/page.html", _context(request))


@seeing
@gzip_page
@require_GET
def quarantine_live(request: HttpRequest) -> HttpResponse:
    """The parts that change, for gateway.js."""
    return render(request, "quarantine/_live.html", _context(request))


def _context(request: HttpRequest) -> dict[str, Any]:
    filters = _filters(request.GET)
    cursors = {name: request.GET.get(name, "") for name in ("before", "after")}
    try:
        view = browse.quarantine_view(filters, **cursors, now=now())
    except ValueError as error:
        raise BadRequest from error
    kept = {name: value for name, value in vars(filters).items() if value}
    return {
        "view": view,
        "filters": filters,
        "states": list(browse.STATES.items()),
        "filtered": urlencode(kept),
        "narrowed": urlencode({name: value for name, value in kept.items() if name != "state"}),
        "address": urlencode(kept | {name: value for name, value in cursors.items() if value}),
    }


def _filters(given: QueryDict) -> browse.Filters:
    return browse.Filters(
        state=given.get("state", "") or "open", code=given.get("code", ""), source=given.get("source", "")
    )


@seeing
@require_GET
def quarantined(request: HttpRequest, pk: int) -> HttpResponse:
    """One object: everything that is known of it but its content."""
    row = get_object_or_404(QuarantinedObject.objects.select_related("instance"), pk=pk)
    context = {"each": browse.row_view(row), "row": row, "head": quarantine_head_words(row)}
    return render(request, "quarantine/object.html", context)


@acting
@require_POST
def quarantine_decide(request: HttpRequest) -> HttpResponse:
    """First what it will do, to how many; once that is confirmed, it is done."""
    decision = request.POST.get("decision", "")
    if decision not in browse.AT_ONCE:
        raise BadRequest
    choice = _choice(request.POST, decision)
    if not choice.pks:
        messages.info(request, "Nothing was chosen that waits for a decision.")
        return back(request, "quarantine")
    if request.POST.get("confirmed") != "yes":
        context = {
            "choice": choice,
            "decision": decision,
            "consequences": browse.consequences(decision, len(choice.pks)),
            "next": next_address(request),
        }
        return render(request, "quarantine/confirm.html", context)
    return _decided(request, decision, choice)


def _choice(given: QueryDict, decision: str) -> browse.Choice:
    if given.get("scope") == "all":
        filters = _filters(given)
        if filters.state not in browse.STATES:
            raise BadRequest
        return browse.choice_of_all(filters, decision=decision)
    try:
        pks = [number_read(text) for text in given.getlist("object")]
    except ValueError as error:
        raise BadRequest from error
    return browse.choice_of(pks, decision=decision)


def _decided(request: HttpRequest, decision: str, choice: browse.Choice) -> HttpResponse:
    try:
        outcome = browse.decide(choice.pks, decision=decision, actor=actor_of(request.user))
    except SpoolError as error:
        messages.warning(request, f"Nothing was decided: {error}")
        return redirect("quarantine")
    if outcome.done:
        what = browse.objects_words(outcome.done)
        done = "accepted: it is in its study now" if outcome.done == 1 else "accepted: they are in their studies now"
        messages.success(request, f"{what} {done if decision == 'accept' else 'discarded'}.")
    for words, count in outcome.refusals[:5]:
        messages.warning(request, f"{browse.objects_words(count)} stayed: {words}")
    return back(request, "quarantine")


urlpatterns = [
    path("quarantine/", quarantine, name="quarantine"),
    path("quarantine/live/", quarantine_live, name="quarantine-live"),
    path("quarantine/<int:pk>/", quarantined, name="quarantine-object"),
    path("quarantine/decide/", quarantine_decide, name="quarantine-decide"),
]
