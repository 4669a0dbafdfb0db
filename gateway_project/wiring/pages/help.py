"""What the error codes mean: the catalogue as one page, each code an anchor that pages and programs link to."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET

from gateway_project.wiring.explain.catalogue import AREAS, HEALS, WAITS
from gateway_project.wiring.pages.access import seeing


@seeing
@gzip_page
@require_GET
def codes(request: HttpRequest) -> HttpResponse:
    return render(request, "help/codes.html", {"areas": AREAS, "heals": HEALS, "waits": WAITS})


urlpatterns = [path("help/codes/", codes, name="help-codes")]
