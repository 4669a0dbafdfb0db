"""One study: what happened to it, and what can be done."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_POST

from gateway_project.core.roles import actor_of
from gateway_project.wiring import browse, pipeline
from gateway_project.wiring.pages.access import acting, seeing
from gateway_project.wiring.words import count_words
from studies.models import Study


@seeing
@gzip_page
@require_GET
def study(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "studies/study.html", _study_context(pk))


@seeing
@gzip_page
@require_GET
def study_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of the study's page that changes, for gateway.js."""
    return render(request, "studies/_study.html", _study_context(pk))


def _study_context(pk: int) -> dict[str, Any]:
    found = get_object_or_404(Study, pk=pk)
    return {"view": browse.study_view(found, now()), "study": found}


@acting
@require_POST
def study_settle(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Study, pk=pk)
    revision = pipeline.settle_now(pk, actor=actor_of(request.user))
    if revision is None:
        messages.info(request, "Nothing new has arrived since the study settled.")
    else:
        messages.success(request, f"Settled: {count_words(revision.instance_count, 'object')} will travel together.")
    return redirect("study", pk=pk)


@acting
@require_POST
def study_retry(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Study, pk=pk)
    retried = pipeline.retry(pk, actor=actor_of(request.user))
    if retried:
        messages.success(request, f"{count_words(retried, 'upload is', 'uploads are')} tried again now.")
    else:
        messages.info(request, "No upload of this study waits for another try.")
    return redirect("study", pk=pk)


urlpatterns = [
    path("studies/<int:pk>/", study, name="study"),
    path("studies/<int:pk>/live/", study_live, name="study-live"),
    path("studies/<int:pk>/settle/", study_settle, name="study-settle"),
    path("studies/<int:pk>/retry/", study_retry, name="study-retry"),
]
