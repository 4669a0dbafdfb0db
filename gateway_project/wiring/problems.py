"""Errors as the outside sees them: problem details (RFC 9457) for programs, a page for people; never exception text."""

import http
import logging
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from rest_framework import exceptions
from rest_framework.views import set_rollback

from gateway_project.core.logs import correlation_get
from gateway_project.wiring.explain.catalogue import help_address

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
PROGRAM_PATHS = ("/api/", "/dicom-web/", "/health", "/version", "/metrics")

# status: code, title, what happened and what to do
PAGES = {
    400: (
        "bad-request",
        "This request was not understood",
        "Part of the address or of the form makes no sense to the gateway.",
    ),
    403: (
        "forbidden",
        "You may not do this",
        "Your account lacks the role for it. An administrator can give it to you.",
    ),
    404: ("not-found", "Nothing is here", "The address is mistyped, or what it named no longer exists."),
    413: (
        "body-too-large",
        "This is more than a form may hold",
        "A form takes 256 KiB and 500 fields at most.",
    ),
    500: (
        "internal",
        "Something went wrong inside the gateway",
        "The error has been logged. Try again; if that does not help, give the number below to your administrator.",
    ),
}
DRF_CODES = {
    exceptions.NotAuthenticated: ("not-authenticated", "Log in first."),
    exceptions.AuthenticationFailed: ("authentication-failed", "The credentials were not accepted."),
    exceptions.PermissionDenied: ("forbidden", "This account may not do that."),
    exceptions.NotFound: ("not-found", "There is nothing at this address."),
    exceptions.MethodNotAllowed: ("method-not-allowed", "This address does not answer that method."),
    exceptions.NotAcceptable: ("not-acceptable", "None of the offered formats was asked for."),
    exceptions.UnsupportedMediaType: ("unsupported-media-type", "The body has a type that is not read here."),
    exceptions.ParseError: ("parse-error", "The body could not be read."),
    exceptions.Throttled: ("throttled", "Too many requests; wait as Retry-After says."),
}


class Refused(exceptions.APIException):
    """A refusal with words of ours, free of PHI: `code` is stable, `words` say what to do."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words, code)
        self.status_code, self.problem_code, self.words = status, code, words


def problem(status: int, *, code: str, title: str = "", detail: str = "", **extra: Any) -> JsonResponse:
    """One answer of `application/problem+json`; `type` leads to where its code is explained.

    Everything given here is shown to strangers.
    """
    body = {
        "type": help_address(code) or "about:blank",
        "title": title or http.HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "correlation_id": correlation_get() or "",
        **extra,
    }
    return JsonResponse(body, status=status, content_type=PROBLEM_TYPE)


def problem_response(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """What DRF answers for an exception; None (a 500, logged) for one that nobody foresaw."""
    if isinstance(exc, Http404):
        exc = exceptions.NotFound()
    elif isinstance(exc, PermissionDenied):
        exc = exceptions.PermissionDenied()
    elif isinstance(exc, RequestDataTooBig):
        exc = Refused(413, "body-too-large", "The body is larger than anything that is read here.")
    if isinstance(exc, DatabaseError):
        logger.error("database unavailable to a request", extra={"error": type(exc).__name__})
        return problem(503, code="database-unavailable", detail="The database does not answer. Try again shortly.")
    if not isinstance(exc, exceptions.APIException):
        return None
    set_rollback()
    response = _api_problem(exc)
    auth_header, wait = getattr(exc, "auth_header", None), getattr(exc, "wait", None)
    if auth_header:
        response["WWW-Authenticate"] = auth_header
    if wait:
        response["Retry-After"] = str(int(wait))
    return response


def _api_problem(exc: exceptions.APIException) -> JsonResponse:
    if isinstance(exc, Refused):
        return problem(exc.status_code, code=exc.problem_code, detail=exc.words)
    if isinstance(exc, exceptions.ValidationError):
        # Codes only: the messages of a validator may quote what was sent.
        return problem(400, code="invalid", detail="Some fields are not valid.", errors=exc.get_codes())
    for kind, (code, detail) in DRF_CODES.items():
        if isinstance(exc, kind):
            return problem(exc.status_code, code=code, detail=detail)
    return problem(exc.status_code, code="internal" if exc.status_code >= 500 else "refused")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    too_large = isinstance(exception, RequestDataTooBig | TooManyFieldsSent | TooManyFilesSent)
    return _answer(request, 413 if too_large else 400)


def body_too_large(request: HttpRequest) -> HttpResponse:
    return _answer(request, 413)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 403)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Works while the database does not."""
    return _answer(request, 500)


def _answer(request: HttpRequest, status: int) -> HttpResponse:
    code, title, words = PAGES[status]
    if request.path_info.startswith(PROGRAM_PATHS):
        return problem(status, code=code, title=title, detail=words)
    # Without the request: no session, no user, no query is needed for an error page.
    context = {"status": status, "title": title, "words": words, "correlation_id": correlation_get() or ""}
    response = HttpResponse(render_to_string("error.html", context), status=status)
    response["Cache-Control"] = "no-store"
    return response
