"""What the core is asked about."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from django.conf import settings
from django.db.models import Case, Count, Min, Prefetch, Q, QuerySet, Subquery, When, Window
from django.db.models.functions import Coalesce
from django_q.brokers import get_broker
from django_q.models import OrmQ

from gateway_project.core.models import (
    AUDIT_SUCCESS,
    Alert,
    AlertNoticeItem,
    AuditEvent,
    AuditSeal,
    JobState,
    Lane,
    Lease,
    LeasedJob,
    RollupMark,
    Severity,
)
from gateway_project.core.queues import Queue


def rings_waiting(cluster: str) -> int:
    """How many rings wait for a cluster, not counting those that a worker holds; raises what the broker does."""
    return int(get_broker(cluster).queue_size())


def rings_stuck(now: datetime, *, older_seconds: float) -> QuerySet[Any]:
    """Rings that nobody will answer any more.

    Handed to a worker longer ago than that (the broker then set their lock to that moment plus `retry`), or waiting for
    as long for a cluster that does not run. A ring that waits bears the moment of its making, by its maker's
    clock, which may be ahead of ours: hence the margin. What was handed out still longer ago is handed out again.
    With Redis as the broker these are what the database carried before: Redis itself keeps no ring that was taken, and
    of those that wait never more than the bell allows.
    """
    retry = timedelta(seconds=cast("float", settings.Q_CLUSTER["retry"]))
    older = timedelta(seconds=older_seconds)
    handed_out = Q(lock__gt=now + older, lock__lt=now + retry - older)
    return OrmQ.objects.filter(handed_out | Q(lock__lt=now - older))


SEVEREST_FIRST = Case(When(severity=Severity.CRITICAL, then=0), When(severity=Severity.WARNING, then=1), default=2)


def alerts_open() -> QuerySet[Alert]:
    return Alert.objects.filter(healed_at__isnull=True).order_by("-opened_at")


def audit_of(subject: str) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(subject=subject).order_by("id")


def audit_tail_of(subject: str, *, without_events: Sequence[str] = (), limit: int = 200) -> list[AuditEvent]:
    """The latest records about something, the oldest of them first."""
    events = AuditEvent.objects.filter(subject=subject).exclude(event__in=without_events).order_by("-id")[:limit]
    return list(events)[::-1]


@dataclass(frozen=True)
class AlertsPressing:
    """The first of them, and how many there are in all."""

    rows: Sequence[Alert]
    total: int


def alerts_unacknowledged(
    limit: int = 20, *, without: Sequence[str] = (), told: "QuerySet[Any, Any] | None" = None
) -> AlertsPressing:
    """Open alerts that nobody has seen yet; the most severe first, then the latest. One query.

    Not those under a key of `without`, nor of `told`, a subquery of keys.
    """
    found = alerts_open().filter(acknowledged_at__isnull=True).exclude(key__in=without)
    if told is not None:
        found = found.exclude(key__in=told)
    rows = list(found.annotate(total=Window(Count("pk"))).order_by(SEVEREST_FIRST, "-opened_at", "-pk")[:limit])
    return AlertsPressing(rows, rows[0].total if rows else 0)


def alerts_of(prefix: str) -> QuerySet[Alert]:
    """Open alerts about things of one kind."""
    return alerts_open().filter(key__startswith=prefix)


@dataclass(frozen=True)
class AlertPage:
    """Rows of one page of what has healed, the latest first, and whether there are newer and older ones beyond it."""

    rows: list[Alert]
    newer: bool
    older: bool


def alerts_with_notices(alerts: QuerySet[Alert]) -> QuerySet[Alert]:
    """With the messages that told of them: two queries more, whatever their number."""
    items = AlertNoticeItem.objects.select_related("notice").order_by("pk")
    return alerts.prefetch_related(Prefetch("notice_items", queryset=items))


def alerts_healed_page(
    *, before: tuple[datetime, int] | None = None, after: tuple[datetime, int] | None = None, size: int = 30
) -> AlertPage:
    """What is well again, by keyset of healed_at and id."""
    alerts = alerts_with_notices(Alert.objects.filter(healed_at__isnull=False))
    if after is not None:
        newer = alerts.filter(Q(healed_at__gt=after[0]) | Q(healed_at=after[0], pk__gt=after[1]))
        rows = list(newer.order_by("healed_at", "pk")[: size + 1])
        return AlertPage(rows[:size][::-1], newer=len(rows) > size, older=True)
    if before is not None:
        alerts = alerts.filter(Q(healed_at__lt=before[0]) | Q(healed_at=before[0], pk__lt=before[1]))
    rows = list(alerts.order_by("-healed_at", "-pk")[: size + 1])
    return AlertPage(rows[:size], newer=before is not None, older=len(rows) > size)


@dataclass(frozen=True)
class AuditFilters:
    """What is looked for in the trail; empty is anything. `actor` and `subject` are whole, as the trail has them."""

    event: str = ""
    outcome: str = ""
    actor: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class AuditPage:
    rows: list[AuditEvent]
    newer: bool
    older: bool


@dataclass(frozen=True)
class ChainState:
    """How far the chain reaches: the last sealed record's number and moment, and how many wait for their link."""

    sequence: int
    sealed_at: datetime | None
    waiting: int


def audit_matching(filters: AuditFilters) -> QuerySet[AuditEvent]:
    found = AuditEvent.objects.all()
    for name in ("event", "outcome", "actor", "subject"):
        if value := getattr(filters, name):
            found = found.filter(**{name: value})
    if filters.outcome and filters.outcome != AUDIT_SUCCESS:
        found = found.exclude(outcome=AUDIT_SUCCESS)  # says that the index of what went amiss will do
    if filters.since is not None:
        found = found.annotate(moment=MOMENT).filter(moment__gte=filters.since, pk__gte=_audit_near(filters.since, -1))
    if filters.until is not None:
        found = found.annotate(moment=MOMENT).filter(moment__lt=filters.until, pk__lte=_audit_near(filters.until, 1))
    return found


# Without the index: the trail is walked by its ids, between those near the two moments.
MOMENT = Coalesce("at", "at")
NEAR = 1000


def _audit_near(moment: datetime, side: int) -> int:
    """The id of the first record since then, and a margin: ids and moments are in the same order but for a blink."""
    first = AuditEvent.objects.filter(at__gte=moment).order_by("at").values_list("pk", flat=True).first()
    if first is None:
        first = AuditEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return first + side * NEAR


def audit_page(filters: AuditFilters, *, before: int = 0, after: int = 0, size: int = 50) -> AuditPage:
    """One page of the trail with each record's link, the latest first, by keyset of the id. One query."""
    found = audit_matching(filters).select_related("seal")
    if after:
        rows = list(found.filter(pk__gt=after).order_by("pk")[: size + 1])
        return AuditPage(rows[:size][::-1], newer=len(rows) > size, older=True)
    if before:
        found = found.filter(pk__lt=before)
    rows = list(found.order_by("-pk")[: size + 1])
    return AuditPage(rows[:size], newer=bool(before), older=len(rows) > size)


def audit_chain() -> ChainState:
    """Two queries; what waits is counted from the last link on."""
    last = AuditSeal.objects.select_related("event").order_by("-sequence").first()
    if last is None:
        return ChainState(0, None, AuditEvent.objects.count())
    return ChainState(last.sequence, last.event.at, AuditEvent.objects.filter(pk__gt=last.event_id).count())


def seals_before(events: Sequence[AuditEvent]) -> dict[int, str]:
    """For each of these records that is sealed, by its sequence: the hash of the link before it. One query."""
    sequences = [event.seal.sequence - 1 for event in events if hasattr(event, "seal")]
    return dict(AuditSeal.objects.filter(sequence__in=sequences).values_list("sequence", "hash"))


def alerts_by_severity() -> dict[str, int]:
    """How many alerts are open, for each severity that there is."""
    rows = Alert.objects.filter(healed_at__isnull=True).order_by().values("severity").annotate(number=Count("pk"))
    return {Severity(severity).value: 0 for severity in Severity} | {row["severity"]: row["number"] for row in rows}


@dataclass(frozen=True)
class AuditLag:
    """Audit records that are not chained yet: how many, and since when the oldest of them."""

    records: int
    oldest: datetime | None


def audit_lag() -> AuditLag:
    """What was recorded after the last link of the chain; it is chained every half minute. One query."""
    last = AuditSeal.objects.order_by("-sequence").values("event_id")[:1]
    found = AuditEvent.objects.filter(pk__gt=Coalesce(Subquery(last), 0)).order_by()
    return AuditLag(**found.aggregate(records=Count("pk"), oldest=Min("at")))


@dataclass(frozen=True)
class LaneLine:
    """The unfinished jobs of one queue in one lane (None: in no lane), by how they stand; and the oldest of them."""

    queue: str
    lane: Lane | None
    waiting: int = 0
    trying_again: int = 0
    running: int = 0
    parked: int = 0
    oldest: datetime | None = None

    @property
    def unfinished(self) -> int:
        """What has to move: not what was given up."""
        return self.waiting + self.trying_again + self.running


UNFINISHED = (JobState.READY, JobState.RUNNING, JobState.PARKED)
FAILURES_MOST = 100


def jobs_of(queues: Iterable[Queue]) -> list[QuerySet[Any]]:
    """The jobs of these queues, by their table."""
    names: dict[type[LeasedJob], list[str]] = {}
    for queue in queues:
        names.setdefault(queue.model_class(), []).append(queue.name)
    return [model._default_manager.filter(queue__in=found).order_by() for model, found in names.items()]


def _together(parts: Sequence[QuerySet[Any, Any]]) -> QuerySet[Any, Any]:
    return parts[0].union(*parts[1:], all=True) if len(parts) > 1 else parts[0]


def queue_lines(queues: Iterable[Queue], lanes: Sequence[Lane]) -> list[LaneLine]:
    """One query over indexes of what is unfinished; `oldest` is of those that wait or are under way."""
    ready, failed = Q(state=JobState.READY), ~Q(error_code="")
    parts = [
        jobs.filter(state__in=UNFINISHED)
        .values("queue", "lane_id")
        .annotate(
            waiting=Count("pk", filter=ready & ~failed),
            trying_again=Count("pk", filter=ready & failed),
            running=Count("pk", filter=Q(state=JobState.RUNNING)),
            parked=Count("pk", filter=Q(state=JobState.PARKED)),
            oldest=Min("created_at", filter=~Q(state=JobState.PARKED)),
        )
        for jobs in jobs_of(queues)
    ]
    by_id: dict[int | None, Lane] = {lane.pk: lane for lane in lanes}
    return [LaneLine(lane=by_id.get(row.pop("lane_id")), **row) for row in _together(parts)]


def failures_by_code(queues: Iterable[Queue]) -> dict[tuple[str, ...], int]:
    """By queue, state (ready: tried again; parked: given up) and error code, how many jobs failed: the most frequent,
    100 at most. One query.
    """
    parts = [
        jobs.filter(state__in=(JobState.READY, JobState.PARKED))
        .exclude(error_code="")
        .values_list("queue", "state", "error_code")
        .annotate(number=Count("pk"))
        for jobs in jobs_of(queues)
    ]
    rows = _together(parts).order_by("-number", "queue", "error_code", "state")[:FAILURES_MOST]
    return {tuple(labels): number for *labels, number in rows}


def rollup_totals() -> dict[str, int]:
    """How many rows each rollup has counted since the beginning."""
    return dict(RollupMark.objects.values_list("name", "total"))


def lane_state(lane: Lane, now: datetime) -> str:
    """What holds a lane up, the gravest first: `held`, `paused`, `resting` (after a fault), `waiting` (for its time
    window), or nothing: `flowing`.
    """
    if lane.held or lane.paused:
        return "held" if lane.held else "paused"
    if lane.open_until is not None and lane.open_until > now:
        return "resting"
    if lane.waits_until is not None and lane.waits_until > now:
        return "waiting"
    return "flowing"


def alerts_found(*, healed: bool | None, acknowledged: bool | None, severity: str) -> QuerySet[Alert]:
    """The latest first; None and "" leave a question open."""
    found = Alert.objects.order_by("-opened_at", "-pk")
    if healed is not None:
        found = found.filter(healed_at__isnull=not healed)
    if acknowledged is not None:
        found = found.filter(acknowledged_at__isnull=not acknowledged)
    return found.filter(severity=severity) if severity else found


def workers_running(now: datetime) -> bool:
    """Whether a ticker leads, which each set of workers has."""
    return Lease.objects.filter(name="ticker", until__gt=now).exists()
