"""Pictures of series and instances, and the pages that show them."""

import math
from typing import Any

from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.urls import path
from django.utils.timezone import now
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_safe

from gateway_project.core.roles import actor_of
from gateway_project.wiring import gallery
from gateway_project.wiring.pages.access import seeing, seeing_pictures
from studies.dicom.render_request import Request
from studies.models import Instance, Series
from studies.selectors import series_middle
from studies.services.pictures import Picture, access_record, picture_etag, picture_make

THUMBNAIL = 192
PREVIEW = 1024
SIZES = (16, 4096)
MOST_FRAMES = 2**31 - 1
MOST_UNITS = 1e9
BUSY = {"Retry-After": "2", "Cache-Control": "private, no-store"}


@seeing_pictures
@require_safe
def series_thumbnail(request: HttpRequest, study_pk: int, series_pk: int) -> HttpResponse:
    """The middle instance of a series, small."""
    series = get_object_or_404(Series, pk=series_pk, study_id=study_pk)
    instance = series_middle(series)
    if instance is None:
        raise Http404
    frame = 1 if (instance.number_of_frames or 1) <= 1 else 0
    return _picture(request, instance, Request(frame=frame, size=THUMBNAIL, format="jpeg"))


@seeing_pictures
@require_safe
def instance_preview(request: HttpRequest, pk: int) -> HttpResponse:
    """One frame of one instance; `frame`, `center` with `width`, and `size` are optional and bounded."""
    instance = get_object_or_404(Instance, pk=pk)
    size = _whole(request, "size", PREVIEW, *SIZES)
    window = window_asked(request)
    wanted = Request(
        frame=frame_asked(request, instance),
        center=window.get("center"),
        width=window.get("width"),
        size=size,
        format="jpeg" if size <= THUMBNAIL else "png",
    )
    return _picture(request, instance, wanted)


def frame_asked(request: HttpRequest, instance: Instance) -> int:
    """From 1; 0 when none is asked for and there are several. 400 for one that the object does not have."""
    frames = max(instance.number_of_frames or 1, 1)
    return _whole(request, "frame", 1 if frames == 1 else 0, 1, min(frames, MOST_FRAMES))


def window_asked(request: HttpRequest) -> dict[str, float]:
    """`center` and `width`, both or neither; 400 for what is no number, or beyond reason."""
    center, width = request.GET.get("center", ""), request.GET.get("width", "")
    if not center and not width:
        return {}
    found = {"center": _number(center), "width": _number(width)}
    if found["width"] <= 0:
        raise BadRequest
    return found


def _whole(request: HttpRequest, name: str, otherwise: int, least: int, most: int) -> int:
    text = request.GET.get(name, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_FRAMES))):
        raise BadRequest
    if not least <= int(text) <= most:
        raise BadRequest
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text) if len(text) <= 24 and text.isascii() else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) <= MOST_UNITS:  # also what is not a number
        raise BadRequest
    return value


def _picture(request: HttpRequest, instance: Instance, wanted: Request) -> HttpResponse:
    etag = picture_etag(instance, wanted)
    access_record(instance.study_id, actor=actor_of(request.user), now=now())
    if instance.file_deleted_at is None and request.headers.get("If-None-Match") == etag:
        return _headed(HttpResponseNotModified(), etag)
    picture = picture_make(instance, wanted)
    if picture.code == "picture-busy":
        # no drawing: an image that fails is asked for again by the page's script
        return HttpResponse(picture.words, status=503, content_type="text/plain", headers=BUSY)
    if picture.code:
        return _placeholder(picture)
    return _headed(HttpResponse(picture.data, content_type=picture.media_type), etag)


def _headed(response: HttpResponse, etag: str) -> HttpResponse:
    response["ETag"] = etag
    response["Cache-Control"] = "private, max-age=60"
    return response


def _placeholder(picture: Picture) -> HttpResponse:
    """A drawing in place of the picture; its words stand on the page and in the drawing's title."""
    drawing = render_to_string("pictures/placeholder.svg", {"words": picture.words})
    response = HttpResponse(drawing, content_type="image/svg+xml")
    response["Cache-Control"] = "private, no-store"
    response["X-Gateway-Picture"] = picture.code
    return response


@seeing
@gzip_page
@require_GET
def series(request: HttpRequest, study_pk: int, series_pk: int) -> HttpResponse:
    """The instances of one series, a page of them with their pictures."""
    found = get_object_or_404(Series.objects.select_related("study"), pk=series_pk, study_id=study_pk)
    page = _whole(request, "page", 1, 1, 10_000_000)
    return render(request, "pictures/series.html", {"view": gallery.series_view(found, page), "study": found.study})


@seeing
@gzip_page
@require_GET
def series_preview(request: HttpRequest, study_pk: int, series_pk: int) -> HttpResponse:
    """One picture large, with its neighbours, its frames and its window; works by links alone."""
    found = get_object_or_404(Series.objects.select_related("study"), pk=series_pk, study_id=study_pk)
    instance = _shown(request, found)
    frame, window = frame_asked(request, instance), window_asked(request)
    access_record(study_pk, actor=actor_of(request.user), now=now())
    wanted = Request(frame=frame, center=window.get("center"), width=window.get("width"), size=PREVIEW)
    picture = picture_make(instance, wanted)
    context: dict[str, Any] = {
        "view": gallery.preview_view(found, instance, frame, window, picture),
        "study": found.study,
        "size": PREVIEW,
    }
    return render(request, "pictures/preview.html", context)


def _shown(request: HttpRequest, found: Series) -> Instance:
    """The instance that is asked for, of this series; else the middle one."""
    pk = _whole(request, "instance", 0, 1, MOST_FRAMES)
    instance = get_object_or_404(Instance, pk=pk, series=found) if pk else series_middle(found)
    if instance is None:
        raise Http404
    return instance


urlpatterns = [
    path("studies/<int:study_pk>/series/<int:series_pk>/", series, name="series"),
    path("studies/<int:study_pk>/series/<int:series_pk>/preview/", series_preview, name="series-preview"),
    path("studies/<int:study_pk>/series/<int:series_pk>/thumbnail", series_thumbnail, name="series-thumbnail"),
    path("instances/<int:pk>/preview", instance_preview, name="instance-preview"),
]
