"""What is asked about lines of uploads and their times: the page of vaults, the figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import CharField, Count, Exists, Min, OuterRef, Prefetch, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Cast, Concat

from gateway_project.core.models import JobState, Lane
from studies.models import StudyState
from uploads.models import (
    DeliveryTimes,
    UploadAttempt,
    UploadJob,
    Vault,
)
from uploads.queue import NAME as QUEUE_NAME

LANE_FIELDS = tuple(field.name for field in Lane._meta.fields)

# -- what the page of vaults shows -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """The uploads of one vault that are in one state: how many, and since when the oldest."""

    count: int = 0
    oldest_at: datetime | None = None


@dataclass(frozen=True)
class AttemptPage:
    rows: list[UploadAttempt]
    newer: bool
    older: bool


def vaults_all() -> QuerySet[Vault]:
    """Every vault with its lane, those that are on first, and `receipt_at` and `receipt_id` of its latest receipt."""
    done = UploadJob.objects.filter(vault=OuterRef("pk"), state=JobState.DONE).order_by("-pk")
    receipted = done.filter(receipt_at__isnull=False)
    return (
        Vault.objects.select_related("lane")
        .annotate(
            receipt_at=Subquery(receipted.values("receipt_at")[:1]),
            receipt_id=Subquery(receipted.values("receipt_id")[:1]),
            done_at=Subquery(done.values("ended_at")[:1]),
        )
        .order_by("-enabled", "name")
    )


def lanes_standing() -> list[Lane]:
    """Every lane there is; that of a vault with what its vault says of it. One query."""
    told = ("vault__lane_id", "vault__enabled", "vault__parallel_studies")
    return list(Lane.objects.select_related("vault").only(*LANE_FIELDS, *told).order_by("pk"))


def studies_behind(lane_ids: Sequence[int]) -> Q:
    """Studies that wait for one of these lanes to try an upload again."""
    jobs = UploadJob.objects.filter(revision__study_id=OuterRef("pk"), state=JobState.READY, lane_id__in=lane_ids)
    return Q(Exists(jobs))


def uploads_behind(lane_ids: Sequence[int]) -> dict[int, int]:
    """How many uploads wait in each of these lanes; no query for none."""
    if not lane_ids:
        return {}
    jobs = UploadJob.objects.filter(queue=QUEUE_NAME, state=JobState.READY, lane_id__in=lane_ids).order_by()
    return dict(jobs.values_list("lane_id").annotate(number=Count("pk")))


def studies_alert_keys() -> QuerySet[UploadJob, Any]:
    """Keys of the alerts about uploads that were given up and are told by their study's own state, as a subquery."""
    told = UploadJob.objects.filter(
        queue=QUEUE_NAME, state=JobState.PARKED, revision__study__state=StudyState.FAILED_PERMANENT
    )
    key = Concat(Value(f"job:{QUEUE_NAME}:"), Cast("pk", CharField()), output_field=CharField())
    return told.order_by().annotate(alert_key=key).values("alert_key")


def uploads_in_line() -> dict[tuple[int, str], Line]:
    """What is not done, by vault and state. One query over the index of states."""
    states = (JobState.READY, JobState.RUNNING, JobState.PARKED)
    rows = UploadJob.objects.filter(queue=QUEUE_NAME, state__in=states).order_by().values_list("vault_id", "state")
    counted = rows.annotate(count=Count("pk"), oldest=Min("created_at"))
    return {(vault, state): Line(count, oldest) for vault, state, count, oldest in counted}


def uploads_under_way(vault: Vault | None = None, *, limit: int = 50) -> list[UploadJob]:
    """Uploads that run now with their study and the attempt that runs: two queries."""
    jobs = UploadJob.objects.filter(queue=QUEUE_NAME, state=JobState.RUNNING)
    if vault is not None:
        jobs = jobs.filter(vault=vault)
    running = UploadAttempt.objects.filter(result="running")
    return list(
        jobs.select_related("vault", "revision__study")
        .defer("commitment", "receipt")
        .prefetch_related(Prefetch("tries", queryset=running))
        .order_by("started_at", "pk")[:limit]
    )


def attempts_page(vault: Vault, *, before: int = 0, after: int = 0, size: int = 20) -> AttemptPage:
    """Attempts of a vault's uploads, latest first, by keyset of their id. One query."""
    attempts = UploadAttempt.objects.filter(job__vault=vault).select_related("job__revision__study")
    attempts = attempts.defer("job__commitment", "job__receipt")
    if after:
        rows = list(attempts.filter(pk__gt=after).order_by("pk")[: size + 1])
        return AttemptPage(rows[:size][::-1], newer=len(rows) > size, older=True)
    if before:
        attempts = attempts.filter(pk__lt=before)
    rows = list(attempts.order_by("-pk")[: size + 1])
    return AttemptPage(rows[:size], newer=bool(before), older=len(rows) > size)


# -- how long it took, and what waits ----------------------------------------------------------------------------------

DELIVERIES_MOST = 20_000


@dataclass(frozen=True)
class Delivery:
    """One study's revision that has reached a vault: when, and how long after its last object."""

    at: datetime
    seconds: float


def delivery_seconds(received_at: datetime, receipt_at: datetime | None, ended_at: datetime | None) -> float:
    """From the last object to the vault's receipt; with the transport STOW to the end, when all was confirmed."""
    end = receipt_at or ended_at
    return max((end - received_at).total_seconds(), 0.0) if end is not None else 0.0


def deliveries_since(moment: datetime) -> list[Delivery]:
    """The uploads that ended since then, the earliest first, 20,000 at most; over an index of finished ones."""
    done = UploadJob.objects.filter(state=JobState.DONE, ended_at__gte=moment).order_by("ended_at")
    rows = done.values_list("revision__received_at", "receipt_at", "ended_at")[:DELIVERIES_MOST]
    return [
        Delivery(ended_at, delivery_seconds(received_at, receipt_at, ended_at))
        for received_at, receipt_at, ended_at in rows
        if ended_at is not None
    ]


def delivery_times(limit: int) -> list[DeliveryTimes]:
    """Of each source, the first one ever first."""
    return list(DeliveryTimes.objects.order_by("pk")[:limit])


def delivery_totals() -> dict[str, int]:
    """Uploads and bytes that have reached a vault, of all sources."""
    found = DeliveryTimes.objects.aggregate(uploads=Sum("uploads"), size_bytes=Sum("size_bytes"))
    return {name: value or 0 for name, value in found.items()}
