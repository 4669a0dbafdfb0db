"""Before the first administrator exists only this machine and only set-up; and how long a session lives."""

import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from gateway_project.wiring.problems import problem
from gateway_project.wiring.setup import administrator_exists, request_is_local

OPEN_PATHS = ("/health", "/version", "/metrics")  # they judge for themselves, and answer while the database does not


class SetupMiddleware:
    """Until there is an administrator nobody but this machine is served, and at every path only the way to set-up.

    Once there is one it costs nothing; that answer never changes back.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self._finished = False

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if self._finished or request.path_info in OPEN_PATHS:
            return self.get_response(request)
        self._finished = administrator_exists()
        if self._finished:
            return self.get_response(request)
        if not request_is_local(request):
            return problem(
                403,
                code="setup-unfinished",
                title="Set-up is not finished",
                detail="Until the first administrator exists the gateway serves only its own machine, without a proxy.",
            )
        if request.path_info.startswith(("/setup/", settings.STATIC_URL)):
            return self.get_response(request)
        response = render(request, "setup/waiting.html", status=403)
        response["Cache-Control"] = "no-store"
        return response


class SessionSlideMiddleware:
    """A session ends SESSION_COOKIE_AGE after a person last did something; written at most once in five minutes.

    The pages' own refreshing counts as nothing: an open page must neither keep a session alive for ever nor make each
    GET a write. For this SESSION_SAVE_EVERY_REQUEST is off.
    """

    KEY = "slid_at"
    STEP_SECONDS = 300

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if "X-Gateway-Live" not in request.headers and SESSION_KEY in request.session:
            moment = int(time.time())
            if moment - request.session.get(self.KEY, 0) >= self.STEP_SECONDS:
                request.session[self.KEY] = moment
        return response
