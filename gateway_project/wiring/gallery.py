"""What the pages of a series show: its instances, one of them large, what comes before and after."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from studies.models import Instance, Series
from studies.selectors import SORTED_SERIES, series_instances
from studies.services.pictures import Picture

PAGE_INSTANCES = 100
AROUND = 1000  # instances on each side that the preview of a very large series can be moved through at once


@dataclass(frozen=True)
class SeriesView:
    series: Series
    instances: list[Instance]
    first: int
    last: int
    newer: int
    older: int


@dataclass(frozen=True)
class Preset:
    label: str
    center: float | None
    width: float | None
    address: str
    current: bool


@dataclass(frozen=True)
class PreviewView:
    """`items`: `id:frames` of every instance that gateway's script can move through, `at` the place of this one."""

    series: Series
    instance: Instance
    picture: Picture
    frame: int
    frames: int
    place: int
    places: int
    items: str
    before: str
    after: str
    presets: list[Preset]
    center: str
    width: str
    chosen: str
    address: str


# Hounsfield units, so for CT alone.
CT_WINDOWS = (
    ("Soft tissue", 40, 400),
    ("Lung", -600, 1500),
    ("Bone", 400, 1800),
    ("Brain", 40, 80),
    ("Liver", 60, 160),
    ("Everything", 0, 4000),
)


def series_view(series: Series, page: int) -> SeriesView:
    """One page of the current instances. Two queries."""
    first = (page - 1) * PAGE_INSTANCES
    found = list(series_instances(series)[first : first + PAGE_INSTANCES + 1])
    shown = found[:PAGE_INSTANCES]
    return SeriesView(
        series=series,
        instances=shown,
        first=first + 1,
        last=first + len(shown),
        newer=page - 1,
        older=page + 1 if len(found) > PAGE_INSTANCES else 0,
    )


def preview_view(
    series: Series, instance: Instance, frame: int, window: dict[str, float], picture: Picture
) -> PreviewView:
    items = _items(series, instance)
    index = next((at for at, (pk, _frames) in enumerate(items) if pk == instance.pk), 0)
    frames = int(picture.facts.get("frames") or instance.number_of_frames or 1)
    frame = int(picture.facts.get("frame") or frame or 1)
    center, width = picture.facts.get("center"), picture.facts.get("width")
    address = reverse("series-preview", args=(series.study_id, series.pk))
    chosen = _text(window)
    return PreviewView(
        series=series,
        instance=instance,
        picture=picture,
        frame=frame,
        frames=frames,
        place=index + 1,
        places=len(items),
        items=",".join(f"{pk}:{max(count or 1, 1)}" for pk, count in items),
        before=_neighbour(items, index, frame, chosen, step=-1, address=address),
        after=_neighbour(items, index, frame, chosen, step=1, address=address),
        presets=_presets(series, instance, frame, window, address)
        if picture.facts and not picture.facts["colour"]
        else [],
        center="" if center is None else f"{center:g}",
        width="" if width is None else f"{width:g}",
        chosen=urlencode(chosen),
        address=address,
    )


def _items(series: Series, instance: Instance) -> list[tuple[int, int | None]]:
    """All of the series where that is sorted by number; of a very large one those around this instance."""
    found = series_instances(series)
    if series.instance_count <= SORTED_SERIES:
        rows = list(found.values_list("pk", "number_of_frames")[:SORTED_SERIES])
    else:
        before = found.filter(pk__lt=instance.pk).order_by("-pk").values_list("pk", "number_of_frames")[:AROUND]
        after = found.filter(pk__gte=instance.pk).values_list("pk", "number_of_frames")[:AROUND]
        rows = [*list(before)[::-1], *after]
    if any(pk == instance.pk for pk, _frames in rows):
        return rows
    return [(instance.pk, instance.number_of_frames), *rows]  # an older version of an object


def _neighbour(
    items: list[tuple[int, int | None]], index: int, frame: int, chosen: dict[str, str], *, step: int, address: str
) -> str:
    """The address of the frame, else of the instance, before or after; "" at the end."""
    pk, frames = items[index]
    if 1 <= frame + step <= (frames or 1):
        return f"{address}?{urlencode({'instance': pk, 'frame': frame + step, **chosen})}"
    if not 0 <= index + step < len(items):
        return ""
    pk, frames = items[index + step]
    place = {"frame": str(frames)} if step < 0 and (frames or 1) > 1 else {}
    return f"{address}?{urlencode({'instance': pk, **place, **chosen})}"


def _presets(series: Series, instance: Instance, frame: int, window: dict[str, float], address: str) -> list[Preset]:
    place: dict[str, str] = {"instance": str(instance.pk)}
    if (instance.number_of_frames or 1) > 1:
        place["frame"] = str(frame)
    presets = [Preset("As stored", None, None, f"{address}?{urlencode(place)}", not window)]
    for label, center, width in CT_WINDOWS if series.modality == "CT" else ():
        chosen = {"center": float(center), "width": float(width)}
        query = urlencode(place | _text(chosen))
        presets.append(Preset(label, center, width, f"{address}?{query}", window == chosen))
    return presets


def _text(window: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:g}" for name, value in window.items()}
