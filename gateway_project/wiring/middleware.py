"""Before the first administrator exists only this machine and only set-up; and how long a session lives."""

import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import SESSION_KEY, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from gateway_project.core.options import option
from gateway_project.core.sessions import ADDRESS, BEGUN, BROWSER, SLID
from gateway_project.wiring.addresses import PROXIED, browser_words, client_address, is_trusted
from gateway_project.wiring.problems import PROGRAM_PATHS, body_too_large, problem
from gateway_project.wiring.setup import administrator_exists, request_is_local

# They judge for themselves, and answer while the database does not.
OPEN_PATHS = ("/health", "/version", "/metrics", "/api/health")


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
        if request.path_info.startswith(PROGRAM_PATHS):
            return problem(
                403,
                code="setup-unfinished",
                title="Set-up is not finished",
                detail="Nothing is answered to programs until the first administrator exists.",
            )
        response = render(request, "setup/waiting.html", status=403)
        response["Cache-Control"] = "no-store"
        return response


class MethodMiddleware:
    """Pages are got and posted to; only programs' addresses know other methods, and judge those for themselves.

    TRACE and whatever is no method at all are answered by nobody; the API says itself what an address of its allows. No
    header can turn one method into another. And no
    page reads more than a form: a body that says that it is longer is not read at all, not even to find its token.
    """

    PAGES = ("GET", "HEAD", "POST")
    PROGRAMS = (*PAGES, "PUT", "PATCH", "DELETE", "OPTIONS")

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith("/api/"):
            return self.get_response(request)
        known = self.PROGRAMS if request.path_info.startswith(PROGRAM_PATHS) else self.PAGES
        if request.method not in known:
            answer = problem(405, code="method-not-allowed", detail="This address does not answer that method.")
            answer["Allow"] = ", ".join(known)
            return answer
        if known is self.PAGES and _length(request) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return body_too_large(request)
        return self.get_response(request)


def _length(request: HttpRequest) -> int:
    text = str(request.META.get("CONTENT_LENGTH") or "0")
    return int(text) if text.isdecimal() and len(text) <= 18 else 0


class ProxyMiddleware:
    """Behind a proxy of ours the address is the client's and the scheme the browser's; nobody else is believed.

    The headers stay, so that whatever is forwarded is known to be (wiring/addresses.py). No other one is ever read.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        meta, trusted = request.META, settings.WEB_TRUSTED_PROXIES
        peer = str(meta.get("REMOTE_ADDR", ""))
        if trusted and is_trusted(peer, trusted):
            meta[PROXIED] = True
            meta["REMOTE_ADDR"] = client_address(peer, str(meta.get("HTTP_X_FORWARDED_FOR", "")), trusted)
            if meta.get("HTTP_X_FORWARDED_PROTO") == "https":
                meta["wsgi.url_scheme"] = "https"
        return self.get_response(request)


class SessionSlideMiddleware:
    """A session ends WEB.SESSION_HOURS after a person last did something; written at most once in five minutes.

    The pages' own refreshing counts as nothing: an open page must neither keep a session alive for ever nor make each
    GET a write. For this SESSION_SAVE_EVERY_REQUEST is off. Hours that were shortened count for all sessions at once.
    """

    STEP_SECONDS = 300

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if SESSION_KEY in request.session and self._is_over(request):
            logout(request)
        response = self.get_response(request)
        if "X-Gateway-Live" not in request.headers and SESSION_KEY in request.session:
            self._slide(request)
        return response

    def _is_over(self, request: HttpRequest) -> bool:
        slid = request.session.get(SLID)
        return slid is not None and time.time() - slid > session_seconds() + self.STEP_SECONDS

    def _slide(self, request: HttpRequest) -> None:
        moment, session = int(time.time()), request.session
        if BEGUN not in session:
            session[BEGUN] = moment
            session[ADDRESS] = request.META.get("REMOTE_ADDR", "")
            session[BROWSER] = browser_words(request.headers.get("User-Agent", ""))
        if moment - session.get(SLID, 0) >= self.STEP_SECONDS:
            session[SLID] = moment
            session.set_expiry(session_seconds())


def session_seconds() -> int:
    return int(option("WEB.SESSION_HOURS") * 3600)
