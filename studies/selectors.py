"""What is asked about studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum

from gateway_project.core.options import option
from studies.dicom.first_bytes import HEAD_BYTES, first_bytes_words
from studies.dicom.spool import SpoolError, Store
from studies.models import (
    Instance,
    QuarantinedObject,
    QuarantineState,
    Series,
    Study,
    StudyRevision,
    StudyState,
)
from studies.policies import source_policies

PAGE_STUDIES = 50
SORTED_SERIES = 5000  # instances; larger series are shown in the order in which they came


def store_root() -> Path:
    """Where the objects are (STORAGE.ROOT, below the data directory when relative)."""
    return Path(settings.DATA_DIR) / Path(option("STORAGE.ROOT")).expanduser()


def store_open() -> Store:
    """The object store, its directories made and checked. Raises SpoolError when it cannot be trusted."""
    store = Store(store_root())
    store.prepare()
    return store


@dataclass(frozen=True)
class Patience:
    """How long one study is waited for, and whose policy says so ("" where the options do)."""

    quiet_seconds: float
    quiet_source: str
    max_open_seconds: float
    max_open_source: str


def patience(study: Study) -> Patience:
    """What applies to a study: the policy of who sent its latest instance, or else the options."""
    policies, source = source_policies(), study.source_ae_title
    quiet, most = policies.quiet.get(source), policies.most_open.get(source)
    return Patience(
        quiet_seconds=_quiet_default() if quiet is None else quiet,
        quiet_source="" if quiet is None else source,
        max_open_seconds=_most_open_default() if most is None else most,
        max_open_source="" if most is None else source,
    )


def quiet_seconds(study: Study) -> float:
    """How long a study must be quiet to be settled when nothing says that it is complete."""
    return patience(study).quiet_seconds


def quiet_words(study: Study) -> str:
    """The same for a person: "quiet for 10 min", "quiet for 10 min, as set for CT_1"."""
    found = patience(study)
    return f"quiet for {_time_words(quiet_seconds(study))}{_set_for(found.quiet_source)}"


def most_open_words(study: Study) -> str:
    """Why a study is settled although more still arrives: "open for 24 h, the longest time allowed"."""
    found = patience(study)
    return f"open for {_time_words(found.max_open_seconds)}, the longest time allowed{_set_for(found.max_open_source)}"


def _set_for(source: str) -> str:
    return f", as set for {source}" if source else ""


def _time_words(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size and seconds % (size / 10) == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _quiet_default() -> float:
    return float(option("SETTLING.INACTIVITY_SECONDS"))


def _most_open_default() -> float:
    return float(option("SETTLING.MAX_OPEN_SECONDS"))


def studies_due(*, now: datetime, limit: int = 200, held: "QuerySet[Any, Any] | None" = None) -> list[Study]:
    """Open studies that are quiet for long enough, or open for too long; the longest open first.

    `held` are Study Instance UIDs, as a subquery, that are due only when they are open for too long.

    Two queries, and one for each different time that a source's policy sets, each over an index of open studies alone.
    """
    policies = source_policies()
    due: dict[int, Study] = {}
    for field, default, overrides in (
        ("received_at", _quiet_default(), policies.quiet),
        ("open_since", _most_open_default(), policies.most_open),
    ):
        for seconds, sources in _groups(default, overrides):
            rows = Study.objects.filter(open_since__isnull=False, **{f"{field}__lte": now - timedelta(seconds=seconds)})
            rows = rows.exclude(source_ae_title__in=overrides) if sources is None else rows.filter(sources)
            if held is not None and field == "received_at":
                rows = rows.exclude(study_instance_uid__in=held)
            due |= {study.pk: study for study in rows.order_by(field)[:limit]}
    return sorted(due.values(), key=lambda study: (study.open_since, study.pk))[:limit]


def _groups(default: float, overrides: Mapping[str, float]) -> list[tuple[float, Q | None]]:
    """Each different time with the sources that it is for; None for all that have none of their own."""
    by_seconds: dict[float, list[str]] = {}
    for source, seconds in overrides.items():
        by_seconds.setdefault(seconds, []).append(source)
    return [(default, None), *((seconds, Q(source_ae_title__in=found)) for seconds, found in by_seconds.items())]


def settles_at(study: Study) -> datetime | None:
    """When an open study will settle if nothing more comes; None when nothing is open."""
    if study.open_since is None:
        return None
    return min(study.received_at + timedelta(seconds=quiet_seconds(study)), open_until(study))


def open_until(study: Study) -> datetime:
    """When a study settles although more still arrives."""
    return (study.open_since or study.received_at) + timedelta(seconds=patience(study).max_open_seconds)


def settles_words(study: Study) -> str:
    """Why an open study will settle when it does: "quiet for 10 min", or "open for 24 h, the longest time allowed"."""
    quiet = study.received_at + timedelta(seconds=quiet_seconds(study))
    return quiet_words(study) if settles_at(study) == quiet else most_open_words(study)


def stored_bytes_by_source() -> dict[str, int]:
    """Bytes of every object whose file is there, by calling AE title. One pass over an index of nothing else."""
    rows = Instance.objects.filter(file_deleted_at__isnull=True).order_by().values("source_ae_title")
    return {row["source_ae_title"]: row["size"] for row in rows.annotate(size=Sum("size_bytes"))}


def revisions_undispatched(limit: int = 200) -> QuerySet[StudyRevision]:
    return (
        StudyRevision.objects.filter(dispatched_at__isnull=True)
        .select_related("study")
        .order_by("settled_at", "pk")[:limit]
    )


def study_series(study: Study) -> QuerySet[Series]:
    return study.series.order_by("series_number", "pk")


def revision_instances(revision: StudyRevision) -> QuerySet[Instance]:
    """The frozen list of what travels in this revision, in a fixed order."""
    return revision.instances.select_related("series").order_by("pk")


def study_instances_through(revision: StudyRevision) -> QuerySet[Instance]:
    """Everything of the study up to and including this revision, superseded versions too: what the study map lists."""
    return (
        Instance.objects.filter(study_id=revision.study_id, revision__number__lte=revision.number)
        .select_related("series", "revision")
        .order_by("pk")
    )


@dataclass(frozen=True)
class StudyPage:
    """Rows of one page, newest first, and whether there are newer and older ones beyond it."""

    rows: list[Study]
    newer: bool
    older: bool


def studies_page(
    *,
    states: Sequence[str] = (),
    where: Q | None = None,
    before: tuple[datetime, int] | None = None,
    after: tuple[datetime, int] | None = None,
    size: int = PAGE_STUDIES,
) -> StudyPage:
    """One page by keyset: `before` or `after` is received_at and id of the study at that edge of the page before.

    One query, whatever the table's size. `where`: what is asked besides (`search.search_read`, filters).
    """
    studies = Study.objects.all() if where is None else Study.objects.filter(where)
    if states:
        studies = studies.filter(state__in=states)
    if after is not None:
        moment, pk = after
        newer = studies.filter(Q(received_at__gt=moment) | Q(received_at=moment, pk__gt=pk))
        rows = list(newer.order_by("received_at", "pk")[: size + 1])
        return StudyPage(rows[:size][::-1], newer=len(rows) > size, older=True)
    if before is not None:
        moment, pk = before
        studies = studies.filter(Q(received_at__lt=moment) | Q(received_at=moment, pk__lt=pk))
    rows = list(studies.order_by("-received_at", "-pk")[: size + 1])
    return StudyPage(rows[:size], newer=before is not None, older=len(rows) > size)


def study_counts_since(moment: datetime) -> dict[str, int]:
    """How many studies got their latest object since then, by state."""
    counted = Study.objects.filter(received_at__gte=moment).order_by().values_list("state")
    return dict(counted.annotate(number=Count("pk")))


def studies_failed(limit: int = 5, *, told: Q | None = None) -> tuple[list[Study], int]:
    """Studies that need a hand or wait after a failure, and how many there are: those given up first, then the latest.

    `told`: those that wait, but are told of otherwise. One query, two when there are as many as `limit`.
    """
    found = Study.objects.filter(state__in=(StudyState.FAILED_PERMANENT, StudyState.FAILED_TRANSIENT))
    if told is not None:
        found = found.exclude(told, state=StudyState.FAILED_TRANSIENT)
    rows = list(found.order_by("state", "-received_at", "-pk")[:limit])
    return rows, found.count() if len(rows) == limit else len(rows)


def studies_any() -> bool:
    return Study.objects.exists()


def study_arrivals(study_id: int, *, limit: int = 2000) -> list[dict[str, Any]]:
    """What came over each association: source, revision, count, bytes, first and last moment; the earliest first."""
    rows = (
        Instance.objects.filter(study_id=study_id)
        .order_by()
        .values("association_id", "source_ae_title", "revision_id")
        .annotate(count=Count("pk"), size=Sum("size_bytes"), first=Min("received_at"), last=Max("received_at"))
        .order_by("first", "association_id")[:limit]
    )
    return [dict(row) for row in rows]


def study_sources(limit: int = 100) -> list[str]:
    """The calling AE titles that studies came from. Reads every study: for a list that is kept for a while."""
    found = Study.objects.exclude(source_ae_title="").order_by("source_ae_title")
    return list(found.values_list("source_ae_title", flat=True).distinct()[:limit])


def study_modalities(limit: int = 60) -> list[str]:
    """The modalities that there are. As `study_sources`."""
    found = Study.objects.exclude(modalities="").order_by().values_list("modalities", flat=True).distinct()[:2000]
    return sorted({part for value in found for part in value.split("\\") if part})[:limit]


def with_modality(modality: str) -> Q:
    """Studies that hold a series of this modality: one of the values that `modalities` joins by backslashes."""
    return (
        Q(modalities=modality)
        | Q(modalities__startswith=f"{modality}\\")
        | Q(modalities__endswith=f"\\{modality}")
        | Q(modalities__contains=f"\\{modality}\\")
    )


def series_instances(series: Series) -> QuerySet[Instance]:
    """The current instances of a series as a person counts them; a very large series in the order of its arrival."""
    found = Instance.objects.filter(series=series, current=True)
    if series.instance_count > SORTED_SERIES:
        return found.order_by("pk")
    return found.order_by(F("instance_number").asc(nulls_last=True), "pk")


def series_middle(series: Series) -> Instance | None:
    """The instance that stands for its series: the middle one, of those that are there."""
    instances = series_instances(series)
    return instances[series.instance_count // 2 : series.instance_count // 2 + 1].first() or instances.first()


def study_changed_instances(study_id: int, *, limit: int = 50) -> list[Instance]:
    """Every version of the instances that came again with another content, the oldest version of each first."""
    changed = Instance.objects.filter(study_id=study_id, version__gt=1).values("sop_instance_uid")
    rows = Instance.objects.filter(study_id=study_id, sop_instance_uid__in=changed).select_related("series", "revision")
    return list(rows.order_by("sop_instance_uid", "version")[:limit])


def study_accepted(study_id: int, *, limit: int = 50) -> list[QuarantinedObject]:
    """Objects of a study that a person took in from the quarantine."""
    rows = QuarantinedObject.objects.filter(instance__study_id=study_id, state=QuarantineState.ACCEPTED)
    return list(rows.order_by("decided_at")[:limit])


# -- quarantine --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QuarantinePage:
    """Rows of one page, the latest first, and whether there are newer and older ones beyond it."""

    rows: list[QuarantinedObject]
    newer: bool
    older: bool


@dataclass(frozen=True)
class QuarantineTotals:
    """What waits for a decision: how many, since when the oldest, and the bytes that are kept of all."""

    waiting: int
    oldest_at: datetime | None
    kept_bytes: int


def quarantine_matching(*, state: str = "", code: str = "", source: str = "") -> QuerySet[QuarantinedObject]:
    filters = {"state": state, "code": code, "source_ae_title": source}
    return QuarantinedObject.objects.filter(**{name: value for name, value in filters.items() if value})


def quarantine_page(
    found: QuerySet[QuarantinedObject],
    *,
    before: tuple[datetime, int] | None = None,
    after: tuple[datetime, int] | None = None,
    size: int = PAGE_STUDIES,
) -> QuarantinePage:
    """One page by keyset: latest_at and id at the edge of the page before. One query."""
    if after is not None:
        newer = found.filter(Q(latest_at__gt=after[0]) | Q(latest_at=after[0], pk__gt=after[1]))
        rows = list(newer.order_by("latest_at", "pk")[: size + 1])
        return QuarantinePage(rows[:size][::-1], newer=len(rows) > size, older=True)
    if before is not None:
        found = found.filter(Q(latest_at__lt=before[0]) | Q(latest_at=before[0], pk__lt=before[1]))
    rows = list(found.order_by("-latest_at", "-pk")[: size + 1])
    return QuarantinePage(rows[:size], newer=before is not None, older=len(rows) > size)


def quarantine_totals() -> QuarantineTotals:
    """Two queries, each over an index of what it counts."""
    waiting = QuarantinedObject.objects.filter(state=QuarantineState.OPEN)
    counted = waiting.aggregate(count=Count("pk"), oldest=Min("first_at"))
    kept = QuarantinedObject.objects.filter(kept=True).aggregate(total=Sum("size_bytes"))
    return QuarantineTotals(counted["count"], counted["oldest"], int(kept["total"] or 0))


def quarantine_kinds(limit: int = 100) -> tuple[list[str], list[str]]:
    """The codes and the senders that occur in it."""
    rows = QuarantinedObject.objects.order_by()
    codes = sorted(rows.values_list("code", flat=True).distinct()[:limit])
    sources = sorted(rows.exclude(source_ae_title="").values_list("source_ae_title", flat=True).distinct()[:limit])
    return codes, sources


def quarantine_head_words(row: QuarantinedObject) -> str:
    """What its first bytes look like, in words that repeat none of them."""
    if not row.kept:
        return "Its bytes are not here."
    try:
        store = store_open()
        with store.open(store.quarantine_name(row.sha256)) as stream:
            return first_bytes_words(stream.read(HEAD_BYTES))
    except (SpoolError, OSError):
        return "Its file cannot be read; check the disk."
