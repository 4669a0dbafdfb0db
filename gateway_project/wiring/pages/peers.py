"""Peers: who is known, what each may do, whether it answers; and a button to hear it from the peer itself."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from gateway_project.core.roles import actor_of
from gateway_project.wiring import browse_peers
from gateway_project.wiring.pages.access import acting, administering, seeing
from gateway_project.wiring.pages.actions import back
from gateway_project.wiring.pages.peer_form import peer_edit, peer_new
from network.dimse.errors import DimseError
from network.models import RemoteAE
from network.services.peers import TooManyTriesError, peer_echo_asked, peer_try
from network.services.remotes import PeerInUseError, remote_delete


@seeing
@gzip_page
@require_GET
def peers(request: HttpRequest) -> HttpResponse:
    return render(request, "peers/page.html", _context(request))


@seeing
@gzip_page
@require_GET
def peers_live(request: HttpRequest) -> HttpResponse:
    """The parts that change, for gateway.js."""
    return render(request, "peers/_live.html", _context(request))


def _context(request: HttpRequest) -> dict[str, Any]:
    before, after = (request.GET.get(name, "") for name in ("before", "after"))
    if len(before) > 16 or len(after) > 16 or "\0" in before + after:
        raise BadRequest
    return {
        "view": browse_peers.peers_view(before=before, after=after),
        "address": request.GET.urlencode() if before or after else "",
    }


@seeing
@gzip_page
@require_GET
def peer(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "peers/peer.html", _peer_context(request, pk))


@seeing
@gzip_page
@require_GET
def peer_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The parts of one peer's page that change, for gateway.js."""
    return render(request, "peers/_peer.html", _peer_context(request, pk))


def _peer_context(request: HttpRequest, pk: int) -> dict[str, Any]:
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    remote = get_object_or_404(RemoteAE.objects.select_related("tls_identity"), pk=pk)
    try:
        view = browse_peers.peer_view(remote, before=before, after=after)
    except ValueError as error:
        raise BadRequest from error
    address = f"before={before}" if before else f"after={after}" if after else ""
    return {"view": view, "row": view.row, "remote": remote, "address": address}


@acting
@require_POST
def peer_echo(request: HttpRequest, pk: int) -> HttpResponse:
    """Opens an association of its own and sends a C-ECHO."""
    remote = get_object_or_404(RemoteAE, pk=pk)
    try:
        seconds = peer_echo_asked(remote, actor=actor_of(request.user))
    except TooManyTriesError as error:
        messages.warning(request, str(error))
    except DimseError as error:
        messages.warning(request, f"{remote.ae_title} was not reached. {error}")
    else:
        messages.success(request, f"{remote.ae_title} answers, after {seconds * 1000:,.0f} ms.")
    return back(request, "peers")


@administering
@require_POST
def peer_trial(request: HttpRequest, pk: int) -> HttpResponse:
    """Every step of a call, with what each means."""
    remote = get_object_or_404(RemoteAE.objects.select_related("tls_identity"), pk=pk)
    try:
        trial = peer_try(remote, actor=actor_of(request.user))
    except TooManyTriesError as error:
        messages.warning(request, str(error))
        return redirect("peer", pk)
    return render(request, "peers/trial.html", {"remote": remote, "trial": trial})


@administering
@require_http_methods(["GET", "POST"])
def peer_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """First what it will do, then it."""
    remote = get_object_or_404(RemoteAE, pk=pk)
    if request.method == "GET":
        return render(request, "peers/delete.html", {"remote": remote, "sees": browse_peers.sees_words(remote)})
    try:
        remote_delete(remote, actor=actor_of(request.user))
    except PeerInUseError as error:
        messages.warning(request, str(error))
        return redirect("peer", pk)
    messages.success(request, f"{remote.ae_title} is removed; from its next association on it is unknown.")
    return redirect("peers")


urlpatterns = [
    path("peers/", peers, name="peers"),
    path("peers/live/", peers_live, name="peers-live"),
    path("peers/new/", peer_new, name="peer-new"),
    path("peers/<int:pk>/", peer, name="peer"),
    path("peers/<int:pk>/live/", peer_live, name="peer-live"),
    path("peers/<int:pk>/edit/", peer_edit, name="peer-edit"),
    path("peers/<int:pk>/echo/", peer_echo, name="peer-echo"),
    path("peers/<int:pk>/try/", peer_trial, name="peer-try"),
    path("peers/<int:pk>/delete/", peer_delete, name="peer-delete"),
]
