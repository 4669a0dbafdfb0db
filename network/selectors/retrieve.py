"""What a retrieval names, asked of the index: the current instances that a peer may have, in their order."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q

from network.dimse import statuses
from network.dimse.query.errors import QueryError, mismatch
from network.dimse.query.matching import Match, UidMatch
from network.dimse.query.question import UNIQUE_KEYS, Level, Question, is_single
from network.dimse.rights import Visible
from network.selectors.query_fields import narrow
from network.selectors.query_visible import visible_columns, visible_judge, visible_narrow
from studies.models import Instance

_COLUMNS: Final = {
    Level.PATIENT: "study__patient_id",
    Level.STUDY: "study__study_instance_uid",
    Level.SERIES: "series__series_instance_uid",
    Level.IMAGE: "sop_instance_uid",
}
_FACTS: Final = ("sop_class_uid", "sop_instance_uid", "transfer_syntax_uid", "path", "size_bytes", "file_deleted_at")


@dataclass(frozen=True)
class Found:
    """One instance; `is_here` is False when its file was deleted after it had been delivered."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: str
    size_bytes: int
    is_here: bool


def instances_named(question: Question, *, visible: Visible, limit: int) -> list[Found]:
    """What the unique keys of the question name, study by study and series by series (PS3.4 C.4.2.1.4.1).

    One query. Raises QueryError `identifier-mismatch` when the key of its level names nothing, `retrieve-too-many`
    beyond `limit`.
    """
    where: list[Any] = [Q(current=True), *visible_narrow(visible, "study__")]
    judged: list[tuple[str, Match]] = []
    for level, column in _COLUMNS.items():
        match = question.match_of(UNIQUE_KEYS[level])
        if match is None:
            if level is question.level:
                raise mismatch("the unique key of the level is empty")
            continue
        if level is question.level and not _names(match):
            raise mismatch("the unique key of the level must be one value, or UIDs")
        condition, exact = narrow(column, match)
        where.append(condition)
        if not exact:
            judged.append((column, match))
    columns = [column for column, _match in judged]
    seen = [f"study__{name}" for name in visible_columns(visible)]
    rows = Instance.objects.filter(*where).order_by("study_id", "series_id", "instance_number", "pk")
    found: list[Found] = []
    judge = visible_judge(visible)
    for row in rows.values(*_FACTS, *columns, *seen).iterator(chunk_size=2000):
        study = {name: row[f"study__{name}"] for name in visible_columns(visible)}
        if all(match.matches(row[column]) for column, match in judged) and (judge is None or judge(study)):
            if len(found) == limit:  # counted here: what the peer may not see is no part of what it asks for
                raise _too_many(limit)
            facts = {name: row[name] for name in _FACTS if name != "file_deleted_at"}
            found.append(Found(**facts, is_here=row["file_deleted_at"] is None))
    return found


def instances_visible(instance_ids: Collection[int], *, visible: Visible) -> set[int]:
    """Those of these instances whose study a peer that sees so much may see. One query."""
    columns, judge = visible_columns(visible), visible_judge(visible)
    rows = Instance.objects.filter(*visible_narrow(visible, "study__"), pk__in=instance_ids).order_by()
    found = set()
    for row in rows.values("pk", *(f"study__{name}" for name in columns)):
        if judge is None or judge({name: row[f"study__{name}"] for name in columns}):
            found.add(row["pk"])
    return found


def _names(match: Match) -> bool:
    """Whether the key names its entities: UIDs, or the one ID of a patient, not a pattern (PS3.4 C.4.2.2.1)."""
    return isinstance(match, UidMatch) or is_single(match)


def _too_many(limit: int) -> QueryError:
    return QueryError(
        f"over {limit} instances: retrieve less at once", code="retrieve-too-many", status=statuses.UNABLE_TO_COUNT
    )
