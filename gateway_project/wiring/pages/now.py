"""The Now page, where everybody begins: does anything need me?"""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.utils.timezone import now as clock_now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_POST

from gateway_project.core.roles import actor_of
from gateway_project.wiring.browse import first_steps
from gateway_project.wiring.now import now_view
from gateway_project.wiring.pages.access import administering, seeing
from gateway_project.wiring.pages.actions import back
from studies.models import SourceActivity
from studies.services.silence import silence_switch


@seeing
@gzip_page
@require_GET
def now(request: HttpRequest) -> HttpResponse:
    return render(request, "now/now.html", _context())


@seeing
@gzip_page
@require_GET
def now_live(request: HttpRequest) -> HttpResponse:
    """The parts of the page, for gateway.js."""
    return render(request, "now/_live.html", _context())


def _context() -> dict[str, Any]:
    view = now_view(clock_now())
    return {"view": view, "summary": view.summary, "first_steps": None if view.started else first_steps()}


@administering
@require_POST
def source_silence(request: HttpRequest, pk: int) -> HttpResponse:
    """Whether a source is watched for silence."""
    source = get_object_or_404(SourceActivity, pk=pk)
    watched = request.POST.get("watched") == "1"
    if not source.calling_ae_title:
        messages.info(request, "A source without a name has no settings of its own.")
        return back(request, "now")
    silence_switch(source.calling_ae_title, watched=watched, actor=actor_of(request.user))
    words = "is watched for silence again" if watched else "is no longer watched for silence"
    messages.success(request, f"{source.calling_ae_title} {words}.")
    return back(request, "now")


urlpatterns = [
    path("", now, name="now"),
    path("now/live/", now_live, name="now-live"),
    path("sources/<int:pk>/silence/", source_silence, name="source-silence"),
]
