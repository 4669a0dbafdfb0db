"""What is asked about sources and what they sent: all of it from rollups, whose size does not follow the instances'."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min, QuerySet, Sum

from gateway_project.core.models import RollupMark
from studies.models import ANY_SOURCE, Arrival, QuarantinedObject, QuarantineState, SourceActivity, SourcePolicy, Study

STEP_MINUTES, HOUR_MINUTES = 10, 60
RECENT_DAYS = 7
MARK_INSTANCES, MARK_REVISIONS = "instances", "revisions"
BEHIND_ROWS = 20_000
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Received:
    """What came in the ten minutes or the hour from `start` on."""

    start: datetime
    objects: int
    size_bytes: int


def received_steps(since: datetime, *, minutes: int = STEP_MINUTES) -> list[Received]:
    """All sources together, the earliest first; steps in which nothing came are left out. One query over the rollup."""
    rows = Arrival.objects.filter(minutes=minutes, start__gte=since).order_by().values("start")
    summed = rows.annotate(number=Sum("objects_received"), size=Sum("size_bytes")).order_by("start")
    return [Received(row["start"], row["number"], row["size"]) for row in summed]


def received_bytes_a_day(now: datetime, *, first_at: datetime | None) -> float | None:
    """The mean of the last seven days, or of those since the first object; None before there is a day to speak of."""
    if first_at is None or now - first_at < DAY:
        return None
    since = max(now - RECENT_DAYS * DAY, first_at)
    rows = Arrival.objects.filter(minutes=HOUR_MINUTES, start__gte=since - timedelta(hours=1))
    size = rows.aggregate(size=Sum("size_bytes"))["size"] or 0
    return float(size) / ((now - since) / DAY)


def arrivals_behind() -> bool:
    """Whether the rollup has still to catch up with an index that was there before it (after an upgrade)."""
    mark = RollupMark.objects.filter(pk=MARK_INSTANCES).first()
    return mark is not None and mark.seen_to - mark.counted_to > BEHIND_ROWS


def sources_latest(limit: int) -> list[SourceActivity]:
    """Who sent last, the latest first."""
    return list(SourceActivity.objects.order_by("-last_at", "pk")[:limit])


def sources_first(limit: int) -> list[SourceActivity]:
    """Who sent first of all, the first one first."""
    return list(SourceActivity.objects.order_by("pk")[:limit])


@dataclass(frozen=True)
class Totals:
    """Of all sources that ever sent something; `first_at`: the first object of all."""

    objects: int
    size_bytes: int
    stored_bytes: int
    sources: int
    first_at: datetime | None


def sources_totals() -> Totals:
    found = SourceActivity.objects.aggregate(
        objects=Sum("objects_received"),
        size_bytes=Sum("size_bytes"),
        stored_bytes=Sum("stored_bytes"),
        sources=Count("pk"),
        first_at=Min("first_at"),
    )
    first_at = found.pop("first_at")
    return Totals(**{name: value or 0 for name, value in found.items()}, first_at=first_at)


def sources_today(ids: Sequence[int], since: datetime) -> dict[int, int]:
    """How many objects each of these sources has sent since then (an hour that began before does not count)."""
    rows = Arrival.objects.filter(minutes=HOUR_MINUTES, start__gte=since, source__in=ids).order_by().values("source")
    return {row["source"]: row["number"] for row in rows.annotate(number=Sum("objects_received"))}


def source_hours(source: SourceActivity, since: datetime) -> list[datetime]:
    """The hours in which it sent something, ascending."""
    rows = Arrival.objects.filter(source=source, minutes=HOUR_MINUTES, start__gte=since, objects_received__gt=0)
    return list(rows.order_by("start").values_list("start", flat=True))


def sources_quiet(before: datetime, *, limit: int = 500) -> QuerySet[SourceActivity]:
    """Those that have sent nothing since then; the latest first."""
    return SourceActivity.objects.filter(last_at__lt=before).order_by("-last_at", "pk")[:limit]


def sources_speaking(since: datetime) -> int:
    """How many have sent something since then."""
    return SourceActivity.objects.filter(last_at__gte=since).count()


def sources_watched() -> tuple[dict[str, bool], bool]:
    """What persons set, by calling AE title: whether it is watched for silence; and whether those without a row are."""
    rows = dict(SourcePolicy.objects.values_list("calling_ae_title", "silence_watched"))
    return rows, rows.get(ANY_SOURCE, True)


def settling_line() -> dict[str, Any]:
    """Open studies: how many (`count`), since when the first (`oldest`). Over an index of open studies alone."""
    return Study.objects.filter(open_since__isnull=False).aggregate(count=Count("pk"), oldest=Min("open_since"))


def studies_by_state() -> dict[str, int]:
    """How many studies are in each state: one pass over an index, of studies, not instances."""
    rows = Study.objects.order_by().values("state").annotate(number=Count("pk"))
    return {row["state"]: row["number"] for row in rows}


def quarantine_line() -> dict[str, Any]:
    """Refused objects that wait for a decision: how many (`count`), since when (`oldest`)."""
    waiting = QuarantinedObject.objects.filter(state=QuarantineState.OPEN)
    return waiting.aggregate(count=Count("pk"), oldest=Min("first_at"))


def quarantine_kept_bytes() -> int:
    """Over an index of what is kept alone."""
    return QuarantinedObject.objects.filter(kept=True).aggregate(size=Sum("size_bytes"))["size"] or 0
