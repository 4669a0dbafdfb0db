"""The list of studies: search, filters, pages."""

from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_http_methods

from gateway_project.wiring import browse
from gateway_project.wiring.forms import SearchForm
from gateway_project.wiring.pages.access import seeing
from gateway_project.wiring.summary import summary_now

SEARCH_KEY = "study_search"


@seeing
@gzip_page
@require_http_methods(["GET", "HEAD", "POST"])
def studies(request: HttpRequest) -> HttpResponse:
    """The list. A search is posted and kept in the session, so that no patient stands in an address."""
    if request.method == "POST":
        return _search(request)
    return render(request, "studies/list.html", _list_context(request))


@seeing
@gzip_page
@require_GET
def studies_live(request: HttpRequest) -> HttpResponse:
    """The part of the list that changes, for gateway.js."""
    return render(request, "studies/_live.html", _list_context(request))


def _search(request: HttpRequest) -> HttpResponse:
    form = SearchForm(request.POST)
    query = form.cleaned_data["query"] if form.is_valid() else ""
    if query:
        request.session[SEARCH_KEY] = query
    else:
        request.session.pop(SEARCH_KEY, None)
    return redirect("studies")


def _list_context(request: HttpRequest) -> dict[str, Any]:
    state = request.GET.get("state", "")
    query = str(request.session.get(SEARCH_KEY, ""))
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    try:
        listing = browse.studies_listing(state=state, query=query, before=before, after=after)
    except ValueError as error:
        raise BadRequest from error
    shown = {"state": state, "before": before, "after": after}
    untouched = not (listing.rows or state or query or before or after)
    return {
        "listing": listing,
        "summary": summary_now(now()),
        "query": query,
        "state": state,
        "filters": [(key, label) for key, (label, _states) in browse.FILTERS.items()],
        "first_steps": browse.first_steps() if untouched else None,
        # only what was understood: the pages are compressed, and no stranger's words may stand beside a patient's
        "address": urlencode({name: value for name, value in shown.items() if value}),
    }


urlpatterns = [
    path("studies/", studies, name="studies"),
    path("studies/live/", studies_live, name="studies-live"),
]
