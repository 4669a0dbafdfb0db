"""The staff pages: they translate between HTTP and browse, pipeline and services, and decide nothing else."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.timezone import now
from django.views.decorators.cache import cache_control
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from gateway_project.core.clock import database_now
from gateway_project.core.models import Alert, AuditEventType, Lane
from gateway_project.core.roles import actor_of, can_act, can_see
from gateway_project.core.services.alerts import alert_acknowledge
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.lanes import lane_resume
from gateway_project.wiring import browse, pipeline
from gateway_project.wiring.forms import FirstAdministratorForm, SearchForm
from gateway_project.wiring.setup import (
    SetupClosedError,
    administrator_create,
    administrator_exists,
    request_is_local,
    setup_token_matches,
)
from gateway_project.wiring.words import count_words
from studies.models import Study

logger = logging.getLogger(__name__)

View = Callable[..., HttpResponseBase]
SEARCH_KEY = "study_search"

private = cache_control(private=True, no_store=True)


def _allowed(test: Callable[[Any], bool]) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @login_required
        @private
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not test(request.user):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return checked

    return decorate


seeing = _allowed(can_see)
acting = _allowed(can_act)


# -- studies -----------------------------------------------------------------------------------------------------------


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
        "summary": browse.studies_summary(now()),
        "query": query,
        "state": state,
        "filters": [(key, label) for key, (label, _states) in browse.FILTERS.items()],
        "first_steps": browse.first_steps() if untouched else None,
        # only what was understood: the pages are compressed, and no stranger's words may stand beside a patient's
        "address": urlencode({name: value for name, value in shown.items() if value}),
    }


@seeing
@gzip_page
@require_GET
def study(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "studies/study.html", _study_context(pk))


@seeing
@gzip_page
@require_GET
def study_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of the study's page that changes, for gateway.js."""
    return render(request, "studies/_study.html", _study_context(pk))


def _study_context(pk: int) -> dict[str, Any]:
    found = get_object_or_404(Study, pk=pk)
    return {"view": browse.study_view(found, now()), "study": found}


@acting
@require_POST
def study_settle(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Study, pk=pk)
    revision = pipeline.settle_now(pk, actor=actor_of(request.user))
    if revision is None:
        messages.info(request, "Nothing new has arrived since the study settled.")
    else:
        messages.success(request, f"Settled: {count_words(revision.instance_count, 'object')} will travel together.")
    return redirect("study", pk=pk)


@acting
@require_POST
def study_retry(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Study, pk=pk)
    retried = pipeline.retry(pk, actor=actor_of(request.user))
    if retried:
        messages.success(request, f"{count_words(retried, 'upload is', 'uploads are')} tried again now.")
    else:
        messages.info(request, "No upload of this study waits for another try.")
    return redirect("study", pk=pk)


# -- lanes and alerts --------------------------------------------------------------------------------------------------


@acting
@require_POST
def lane_resume_now(request: HttpRequest, pk: int) -> HttpResponse:
    lane = get_object_or_404(Lane, pk=pk)
    lane_resume(lane, actor=actor_of(request.user), now=database_now())
    messages.success(request, f"{lane.title}: the next upload tries it at once.")
    return redirect("studies")


@acting
@require_POST
def alert_acknowledge_now(request: HttpRequest, pk: int) -> HttpResponse:
    alert_acknowledge(get_object_or_404(Alert, pk=pk), actor=actor_of(request.user))
    messages.success(request, "Acknowledged. The alert stays open until the gateway sees the thing well again.")
    return redirect("studies")


# -- logging in, set-up ------------------------------------------------------------------------------------------------


class GatewayLoginView(LoginView):
    """Django's own: a new session key, one error for every failure, and onwards only to addresses of ours."""

    template_name = "registration/login.html"

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        audit_record(
            AuditEventType.USER_AUTHENTICATION,
            actor=actor_of(form.get_user()),
            subject=f"user:{form.get_user().pk}",
            detail={"action": "logged in", "address": self.request.META.get("REMOTE_ADDR", "")},
        )
        return response

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Not in the audit trail, which strangers could fill; and the name is not logged: it may be a password."""
        if self.request.method == "POST":
            logger.warning("login refused", extra={"address": self.request.META.get("REMOTE_ADDR", "")})
        return super().form_invalid(form)


@private
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Makes the first administrator: once, from this machine, by whoever holds the link."""
    if not request_is_local(request) or administrator_exists() or not setup_token_matches(token):
        raise Http404
    form = FirstAdministratorForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = administrator_create(username=form.cleaned_data["username"], password=form.cleaned_data["password"])
        except SetupClosedError as error:
            raise Http404 from error
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        messages.success(request, f"Welcome, {user.get_username()}. The gateway is yours.")
        return redirect("studies")
    return render(request, "setup/administrator.html", {"form": form})
