"""What is asked about endpoints and associations, ended and living."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.db.models import Count, Q, QuerySet, Sum

from gateway_project.core.options import option
from network.dimse.control import ControlError, control_call
from network.dimse.live import LiveAssociation
from network.models import AssociationOutcome, AssociationRecord, LocalAE


@dataclass(frozen=True)
class LiveList:
    """The connections that are open now, oldest first; `running` is False when no listener answers.

    `totals` (connections, associations) and `refused` (by reason) count since the listeners began.
    """

    running: bool
    associations: list[LiveAssociation] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


def associations_latest(limit: int = 30) -> QuerySet[AssociationRecord]:
    return AssociationRecord.objects.order_by("-closed_at", "-id")[:limit]


@dataclass(frozen=True)
class RecordPage:
    """Rows of one page, latest first, and whether there are later and earlier ones beyond it."""

    rows: list[AssociationRecord]
    newer: bool
    older: bool


def associations_page(
    *,
    outcomes: Collection[str] = (),
    source: str = "",
    before: tuple[dt.datetime, int] | None = None,
    after: tuple[dt.datetime, int] | None = None,
    size: int = 30,
) -> RecordPage:
    """One page of those that ended, by keyset: closed_at and id at the edge of the page before. One query."""
    records = AssociationRecord.objects.all()
    if outcomes:
        records = records.filter(outcome__in=outcomes)
    if source:
        records = records.filter(calling_ae_title=source)
    if after is not None:
        later = records.filter(Q(closed_at__gt=after[0]) | Q(closed_at=after[0], pk__gt=after[1]))
        rows = list(later.order_by("closed_at", "pk")[: size + 1])
        return RecordPage(rows[:size][::-1], newer=len(rows) > size, older=True)
    if before is not None:
        records = records.filter(Q(closed_at__lt=before[0]) | Q(closed_at=before[0], pk__lt=before[1]))
    rows = list(records.order_by("-closed_at", "-pk")[: size + 1])
    return RecordPage(rows[:size], newer=before is not None, older=len(rows) > size)


def association_sources(limit: int = 100) -> list[str]:
    """The calling AE titles in the history."""
    titles = AssociationRecord.objects.exclude(calling_ae_title="").order_by("calling_ae_title")
    return list(titles.values_list("calling_ae_title", flat=True).distinct()[:limit])


@dataclass(frozen=True)
class Ended:
    """How many associations ended, by outcome, as far as the history reaches back; a rejection as often as it happened.

    `cut`, `rejections_cut`: the history forgets the oldest, and all that it keeps are counted here: there may be more.
    """

    times: dict[str, int]
    cut: bool
    rejections_cut: bool


def associations_ended_since(moment: dt.datetime) -> Ended:
    found = AssociationRecord.objects.filter(closed_at__gte=moment).order_by().values_list("outcome")
    counted = {outcome: (rows, times) for outcome, rows, times in found.annotate(Count("pk"), times=Sum("times"))}
    rejected = counted.get(AssociationOutcome.REJECTED, (0, 0))[0]
    most = option("DICOM.CONNECTION_HISTORY")
    return Ended(
        times={outcome: int(times or 0) for outcome, (_rows, times) in counted.items()},
        cut=sum(rows for rows, _times in counted.values()) - rejected >= most,
        rejections_cut=rejected >= most,
    )


def associations_live() -> LiveList:
    """Asked of the acceptor over its socket; answers at once, waits two seconds at most. No query."""
    try:
        answer = control_call(control_path(), {"command": "live"})
    except ControlError:
        return LiveList(running=False)
    return LiveList(
        running=True,
        associations=[_live(row) for row in answer["associations"]],
        totals=answer.get("totals", {}),
        refused=answer.get("refused", {}),
    )


def control_path() -> Path:
    """Where this gateway's acceptor can be asked."""
    return Path(settings.DATA_DIR) / "run" / "listeners.sock"


def local_aes_enabled() -> QuerySet[LocalAE]:
    return LocalAE.objects.filter(enabled=True)


def _live(row: dict[str, object]) -> LiveAssociation:
    connected_at = dt.datetime.fromisoformat(str(row["connected_at"]))
    return LiveAssociation(**{**row, "connected_at": connected_at})  # type: ignore[arg-type]
