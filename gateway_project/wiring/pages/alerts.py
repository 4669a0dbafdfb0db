"""Alerts: what is open, acknowledging it, what has healed, and whether anybody is told."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_POST

from gateway_project.core.clock import database_now
from gateway_project.core.roles import actor_of
from gateway_project.core.services.alerts import alerts_acknowledge_all
from gateway_project.core.services.leases import lease_take
from gateway_project.core.services.notices import notices_try
from gateway_project.wiring.browse_alerts import alerts_view
from gateway_project.wiring.pages.access import acting, administering, seeing
from gateway_project.wiring.words import count_words

TEST_EVERY_SECONDS = 5.0


@seeing
@gzip_page
@require_GET
def alerts(request: HttpRequest) -> HttpResponse:
    return render(request, "alerts/page.html", _context(request))


@seeing
@gzip_page
@require_GET
def alerts_live(request: HttpRequest) -> HttpResponse:
    """The parts that change, for gateway.js."""
    return render(request, "alerts/_live.html", _context(request))


def _context(request: HttpRequest) -> dict[str, Any]:
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    try:
        view = alerts_view(before=before, after=after, now=now())
    except ValueError as error:
        raise BadRequest from error
    return {"view": view, "address": f"before={before}" if before else f"after={after}" if after else ""}


@acting
@require_POST
def alerts_acknowledge(request: HttpRequest) -> HttpResponse:
    count = alerts_acknowledge_all(actor=actor_of(request.user), note=request.POST.get("note", "").strip())
    if count:
        messages.success(request, f"{count_words(count, 'alert')} acknowledged. They stay open until they heal.")
    else:
        messages.info(request, "Every open alert had been acknowledged already.")
    return redirect("alerts")


@administering
@require_POST
def alerts_test(request: HttpRequest) -> HttpResponse:
    """Sends a test by each way and tells how each took it; once in five seconds, whoever asks."""
    moment, actor = database_now(), actor_of(request.user)
    if not lease_take(
        "alert-test", holder=f"{actor} {moment.timestamp()}"[:80], now=moment, seconds=TEST_EVERY_SECONDS
    ):
        messages.info(request, "A test was sent a moment ago; wait some seconds for the next.")
        return redirect("alerts")
    tried = notices_try(actor=actor, now=moment)
    if not tried:
        messages.warning(request, "No way is set up yet, so nothing was sent.")
    for each in tried:
        tell = messages.success if each.ok else messages.warning
        tell(request, f"Test by {each.way.label}: {each.words}")
    return redirect("alerts")


urlpatterns = [
    path("alerts/", alerts, name="alerts"),
    path("alerts/live/", alerts_live, name="alerts-live"),
    path("alerts/acknowledge/", alerts_acknowledge, name="alerts-acknowledge"),
    path("alerts/test/", alerts_test, name="alerts-test"),
]
