"""What is asked about sources and what they sent: all of it from rollups, whose size does not follow the instances'."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Case, Count, Min, OuterRef, QuerySet, Subquery, Sum, Value, When
from django.db.models.functions import Coalesce, Concat

from gateway_project.core.models import Alert, RollupMark
from studies.models import ANY_SOURCE, Arrival, QuarantinedObject, QuarantineState, SourceActivity, SourcePolicy, Study
from studies.silence import ALERT_SOURCE

STEP_MINUTES, HOUR_MINUTES = 10, 60
RECENT_DAYS = 7
MARK_INSTANCES, MARK_REVISIONS = "instances", "revisions"
BEHIND_ROWS = 20_000
SILENT_MOST = 50
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


@dataclass(frozen=True)
class SourceLine:
    """One source: objects since a moment, whether it is watched for silence, and since when its silence is told of."""

    source: SourceActivity
    today: int
    watched: bool
    silent_since: datetime | None


def sources_shown(limit: int, *, midnight: datetime) -> list[SourceLine]:
    """The silent ones, then as many others; who sent last comes first. One query.

    `today` are the objects since midnight (an hour that began before it does not count).
    """
    hours = Arrival.objects.filter(source=OuterRef("pk"), minutes=HOUR_MINUTES, start__gte=midnight).order_by()
    today = hours.values("source").annotate(number=Sum("objects_received")).values("number")
    policies = SourcePolicy.objects.values("silence_watched")
    rows = SourceActivity.objects.annotate(
        silent_since=_silent_since(),
        today=Coalesce(Subquery(today), 0),
        watched=Coalesce(
            Subquery(policies.filter(calling_ae_title=OuterRef("calling_ae_title"))),
            Subquery(policies.filter(calling_ae_title=ANY_SOURCE)),
            True,
        ),
    ).order_by(Case(When(silent_since__isnull=True, then=1), default=0), "-last_at", "pk")
    lines = [SourceLine(row, row.today, row.watched, row.silent_since) for row in rows[: SILENT_MOST + limit]]
    silent = [line for line in lines if line.silent_since is not None]
    return silent + [line for line in lines if line.silent_since is None][:limit]


def _silent_since() -> Subquery:
    """Since when the silence of the source of the outer query is told of."""
    key = Concat(Value(ALERT_SOURCE), OuterRef("calling_ae_title"))
    return Subquery(Alert.objects.filter(key=key, healed_at__isnull=True).order_by().values("opened_at")[:1])


def sources_first(limit: int) -> list[tuple[SourceActivity, bool]]:
    """Who sent first of all, the first one first, and whether its silence is told of. One query."""
    rows = SourceActivity.objects.annotate(silent_since=_silent_since()).order_by("pk")[:limit]
    return [(row, row.silent_since is not None) for row in rows]


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


def studies_by_state() -> dict[str, int]:
    """How many studies are in each state: one pass over an index, of studies, not instances."""
    rows = Study.objects.order_by().values("state").annotate(number=Count("pk"))
    return {row["state"]: row["number"] for row in rows}


def waiting_lines() -> dict[str, tuple[int, datetime | None]]:
    """How many wait and since when the oldest: `settling`, studies that may still grow; `quarantine`, refused objects
    that nobody has decided about. One query, each over an index of what waits alone.
    """
    settling = Study.objects.filter(open_since__isnull=False).order_by().values_list(Value("settling"))
    undecided = QuarantinedObject.objects.filter(state=QuarantineState.OPEN).order_by().values_list(Value("quarantine"))
    rows = settling.annotate(count=Count("pk"), oldest=Min("open_since")).union(
        undecided.annotate(count=Count("pk"), oldest=Min("first_at")), all=True
    )
    return {kind: (count, oldest) for kind, count, oldest in rows}


def quarantine_kept_bytes() -> int:
    """Over an index of what is kept alone."""
    return QuarantinedObject.objects.filter(kept=True).aggregate(size=Sum("size_bytes"))["size"] or 0
