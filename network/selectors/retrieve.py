"""What a retrieval names, asked of the index: the current instances that a peer may have, in their order."""

from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q

from network.dimse import statuses
from network.dimse.query.errors import QueryError, mismatch
from network.dimse.query.matching import Match
from network.dimse.query.question import UNIQUE_KEYS, Level, Question
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
        condition, exact = narrow(column, match)
        where.append(condition)
        if not exact:
            judged.append((column, match))
    columns = [column for column, _match in judged]
    seen = [f"study__{name}" for name in visible_columns(visible)]
    rows = Instance.objects.filter(*where).order_by("study_id", "series_id", "instance_number", "pk")
    found = []
    judge = visible_judge(visible)
    for row in rows.values(*_FACTS, *columns, *seen)[: limit + 1].iterator(chunk_size=2000):
        study = {name: row[f"study__{name}"] for name in visible_columns(visible)}
        if all(match.matches(row[column]) for column, match in judged) and (judge is None or judge(study)):
            facts = {name: row[name] for name in _FACTS if name != "file_deleted_at"}
            found.append(Found(**facts, is_here=row["file_deleted_at"] is None))
    if len(found) > limit:
        raise QueryError(
            f"over {limit} instances: retrieve less at once",
            code="retrieve-too-many",
            status=statuses.UNABLE_TO_COUNT,
        )
    return found
