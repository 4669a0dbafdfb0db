"""The limit of failed logins, as the web has it: who is counted, what they are told, and a proxy nobody declared."""

import logging
from datetime import timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from gateway_project.core.clock import database_now
from gateway_project.core.models import Severity
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_open
from gateway_project.core.services.logins import Attempt, attempt_begin
from gateway_project.wiring.addresses import PROXIED, is_forwarded
from gateway_project.wiring.words import duration_words

logger = logging.getLogger(__name__)

PROXY_ALERT = "web:proxy"


def attempt_of(request: HttpRequest) -> Attempt:
    """Takes an attempt for whoever asks. The address is the client's behind a proxy that is declared, else the peer's.

    When the door closes for the address of a proxy that nobody declared, everybody behind it is locked out: an alert
    says so, and what to set.
    """
    address = str(request.META.get("REMOTE_ADDR", ""))
    attempt = attempt_begin(address, limit=option("WEB.LOGIN_LIMIT"), now=database_now())
    if attempt.first_refused and is_forwarded(request) and PROXIED not in request.META:
        alert_open(
            PROXY_ALERT,
            code="proxy-undeclared",
            words="Failed logins closed the login page for everybody behind a proxy that WEB.TRUSTED_PROXIES does not "
            "name: all of them count as one address.",
            severity=Severity.WARNING,
        )
    return attempt


def locked_out(request: HttpRequest, attempt: Attempt) -> HttpResponse:
    """429 with a page that says how long; whoever is logged in stays so."""
    context = {
        "wait": duration_words(attempt.wait_seconds),
        "until": database_now() + timedelta(seconds=attempt.wait_seconds),
        "logged_in": request.user.is_authenticated,
    }
    response = render(request, "account/locked.html", context, status=429)
    response["Retry-After"] = str(attempt.wait_seconds)
    return response
