"""Vaults: how each stands, what waits and runs, whose key it is sealed for, and the last attempts."""

from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET

from gateway_project.wiring import browse_vaults
from gateway_project.wiring.pages.access import seeing
from uploads.selectors.lines import vaults_all


@seeing
@gzip_page
@require_GET
def vaults(request: HttpRequest) -> HttpResponse:
    return render(request, "vaults/page.html", {"view": browse_vaults.vaults_view(now())})


@seeing
@gzip_page
@require_GET
def vaults_live(request: HttpRequest) -> HttpResponse:
    """The parts that change, for gateway.js."""
    return render(request, "vaults/_live.html", {"view": browse_vaults.vaults_view(now())})


@seeing
@gzip_page
@require_GET
def vault(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "vaults/vault.html", _vault_context(request, pk))


@seeing
@gzip_page
@require_GET
def vault_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The parts of one vault's page that change, for gateway.js."""
    return render(request, "vaults/_vault.html", _vault_context(request, pk))


def _vault_context(request: HttpRequest, pk: int) -> dict[str, Any]:
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    try:
        view = browse_vaults.vault_view(get_object_or_404(vaults_all(), pk=pk), before=before, after=after, now=now())
    except ValueError as error:
        raise BadRequest from error
    address = f"before={before}" if before else f"after={after}" if after else ""
    return {"view": view, "card": view.card, "vault": view.card.vault, "address": address}


urlpatterns = [
    path("vaults/", vaults, name="vaults"),
    path("vaults/live/", vaults_live, name="vaults-live"),
    path("vaults/<int:pk>/", vault, name="vault"),
    path("vaults/<int:pk>/live/", vault_live, name="vault-live"),
]
