"""Before the first administrator exists: loopback only, and in the browser only set-up."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from gateway_project.wiring.problems import problem
from gateway_project.wiring.setup import administrator_exists, request_is_local

OPEN_PATHS = ("/health", "/version")  # they judge for themselves, and answer while the database does not


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
