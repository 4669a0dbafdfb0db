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
from gateway_project.core.services.lanes import lane_resume
from gateway_project.wiring.pages.access import acting


def back(request: HttpRequest, otherwise: str) -> HttpResponse:
    """To the page of ours that the form's `next` names, else to that address name."""
    wanted = request.POST.get("next", "")
    if wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None):
        return redirect(wanted)
    return redirect(otherwise)


@acting
@require_POST
def lane_resume_now(request: HttpRequest, pk: int) -> HttpResponse:
    lane = get_object_or_404(Lane, pk=pk)
    lane_resume(lane, actor=actor_of(request.user), now=database_now())
    messages.success(request, f"{lane.title}: the next upload tries it at once.")
    return back(request, "studies")


@acting
@require_POST
def alert_acknowledge_now(request: HttpRequest, pk: int) -> HttpResponse:
    alert_acknowledge(get_object_or_404(Alert, pk=pk), actor=actor_of(request.user))
    messages.success(request, "Acknowledged. The alert stays open until the gateway sees the thing well again.")
    return back(request, "studies")


urlpatterns = [
    path("lanes/<int:pk>/resume/", lane_resume_now, name="lane-resume"),
    path("alerts/<int:pk>/acknowledge/", alert_acknowledge_now, name="alert-acknowledge"),
]
