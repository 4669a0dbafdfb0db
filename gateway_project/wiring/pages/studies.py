"""The list of studies: search, filters, pages."""

from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_http_methods

from gateway_project.wiring import browse
from gateway_project.wiring.forms import SearchForm
from gateway_project.wiring.pages.access import seeing
from gateway_project.wiring.study_filters import filter_menus, filters_read, state_chips
from gateway_project.wiring.summary import summary_now

SEARCH_KEY = "study_search"


@seeing
@gzip_page
@require_http_methods(["GET", "HEAD", "POST"])
def studies(request: HttpRequest) -> HttpResponse:
    """The list. A search is posted and kept in the session, so that no patient stands in an address."""
    if request.method == "POST":
        return _search(request)
    context = _list_context(request)
    filters = context["filters"]
    return render(
        request, "studies/list.html", context | {"chips": state_chips(filters), "menus": filter_menus(filters)}
    )


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
    try:
        narrowed = filters_read(request.GET).address()
    except ValueError as error:
        raise BadRequest from error
    return redirect(reverse("studies") + (f"?{narrowed}" if narrowed else ""))


def _list_context(request: HttpRequest) -> dict[str, Any]:
    query = str(request.session.get(SEARCH_KEY, ""))
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    try:
        filters = filters_read(request.GET)
        listing = browse.studies_listing(filters=filters, query=query, before=before, after=after, now=now())
    except ValueError as error:
        raise BadRequest from error
    untouched = not (listing.rows or filters.any or query or before or after)
    return {
        "listing": listing,
        "summary": summary_now(now()),
        "query": query,
        "filters": filters,
        "first_steps": browse.first_steps() if untouched else None,
        # only what was understood: the pages are compressed, and no stranger's words may stand beside a patient's
        "address": filters.address(before=before, after=after),
        "filter_address": filters.address(),
    }


urlpatterns = [
    path("studies/", studies, name="studies"),
    path("studies/live/", studies_live, name="studies-live"),
]
