"""The buttons that help beside a trouble, on whatever page it is shown: they lead back to that page."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from gateway_project.core.clock import database_now
from gateway_project.core.models import Alert, Lane
from gateway_project.core.roles import actor_of
from gateway_project.core.services.alerts import alert_acknowledge
from gateway_project.core.services.lanes import lane_pause, lane_resume
from gateway_project.wiring.pages.access import acting


def next_address(request: HttpRequest) -> str:
    """The page of ours that the form's `next` names; empty for anything else."""
    wanted = request.POST.get("next", "")
    ours = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if ours else ""


def back(request: HttpRequest, otherwise: str) -> HttpResponse:
    """To the page of ours that the form's `next` names, else to that address name."""
    return redirect(next_address(request) or otherwise)


@acting
@require_POST
def lane_resume_now(request: HttpRequest, pk: int) -> HttpResponse:
    lane = get_object_or_404(Lane, pk=pk)
    lane_resume(lane, actor=actor_of(request.user), now=database_now())
    messages.success(request, f"{lane.title}: it is tried again at once.")
    return back(request, "now")


@acting
@require_POST
def lane_pause_now(request: HttpRequest, pk: int) -> HttpResponse:
    lane = get_object_or_404(Lane, pk=pk)
    lane_pause(lane, actor=actor_of(request.user), now=database_now())
    messages.warning(request, f"{lane.title} is paused: what is under way ends, nothing new begins, nothing is lost.")
    return back(request, "vaults")


@acting
@require_POST
def alert_acknowledge_now(request: HttpRequest, pk: int) -> HttpResponse:
    alert, note = get_object_or_404(Alert, pk=pk), request.POST.get("note", "").strip()
    if alert_acknowledge(alert, actor=actor_of(request.user), note=note):
        messages.success(request, "Acknowledged. The alert stays open until the gateway sees the thing well again.")
    else:
        messages.info(request, "Somebody had acknowledged it already.")
    return back(request, "now")


urlpatterns = [
    path("lanes/<int:pk>/resume/", lane_resume_now, name="lane-resume"),
    path("lanes/<int:pk>/pause/", lane_pause_now, name="lane-pause"),
    path("alerts/<int:pk>/acknowledge/", alert_acknowledge_now, name="alert-acknowledge"),
]
