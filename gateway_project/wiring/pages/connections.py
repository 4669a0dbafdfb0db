"""Connections: who is connected now, where we listen, who was here, and ending one."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_POST

from gateway_project.core.roles import actor_of
from gateway_project.wiring import browse_connections
from gateway_project.wiring.pages.access import acting, seeing
from gateway_project.wiring.pages.actions import back
from network.dimse.control import ControlError
from network.services.associations import association_end


@seeing
@gzip_page
@require_GET
def connections(request: HttpRequest) -> HttpResponse:
    return render(request, "connections/page.html", _context(request))


@seeing
@gzip_page
@require_GET
def connections_live(request: HttpRequest) -> HttpResponse:
    """The parts that change, for gateway.js."""
    return render(request, "connections/_live.html", _context(request))


def _context(request: HttpRequest) -> dict[str, Any]:
    shown = {name: request.GET.get(name, "") for name in ("outcome", "source", "before", "after")}
    try:
        view = browse_connections.connections_view(**shown, now=now())
    except ValueError as error:
        raise BadRequest from error
    kept = {name: value for name, value in shown.items() if value}
    return {
        "view": view,
        **shown,
        "filters": [(key, label) for key, (label, _outcomes) in browse_connections.FILTERS.items()],
        "address": urlencode(kept),
        "filtered": urlencode({name: value for name, value in kept.items() if name not in ("before", "after")}),
        "source_only": urlencode({"source": shown["source"]} if shown["source"] else {}),
    }


@acting
@require_POST
def connection_end(request: HttpRequest) -> HttpResponse:
    """Aborts one association; what was under way is not acknowledged, so the device sends it again."""
    association_id = request.POST.get("association", "")[:40]
    try:
        found = association_end(association_id, actor=actor_of(request.user))
    except ControlError:
        messages.warning(request, "The listeners do not answer, so nothing was ended.")
    else:
        if found:
            messages.success(request, "The association is being ended. The device sends again what was under way.")
        else:
            messages.info(request, "That association had ended by itself.")
    return back(request, "connections")


urlpatterns = [
    path("connections/", connections, name="connections"),
    path("connections/live/", connections_live, name="connections-live"),
    path("connections/end/", connection_end, name="connection-end"),
]
