"""One correlation id per request: in the logs, in the answer, and in whatever the request sets in motion."""

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from gateway_project.core.logs import correlation_new, correlation_set

ACCEPTED_ID = re.compile(r"[A-Za-z0-9-]{8,64}")


class CorrelationMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Correlation-ID", "")
        if ACCEPTED_ID.fullmatch(given):
            correlation_set(given)
            identifier = given
        else:
            identifier = correlation_new()
        response = self.get_response(request)
        response["X-Correlation-ID"] = identifier
        return response
