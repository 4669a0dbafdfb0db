"""What is asked about endpoints and associations, ended and living."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.db.models import QuerySet

from network.dimse.control import ControlError, control_call
from network.dimse.live import LiveAssociation
from network.models import AssociationRecord, LocalAE


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
