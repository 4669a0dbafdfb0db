"""Which studies a peer may see, as conditions on the index and as the judgement of one study."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.db.models import Exists, OuterRef, Q

from gateway_project.core.folding import name_trim, text_fold
from network.dimse.query.matching import Folding, Glob, NameMatch, TextMatch
from network.dimse.rights import Condition, Visible
from network.selectors.query_fields import FIELDS, narrow, tag
from studies.models import Series

_FOLDING: Final = Folding()
_NAMES: Final = frozenset({"PatientName", "ReferringPhysicianName"})
Judge = Callable[[Mapping[str, Any]], bool]


def visible_narrow(visible: Visible, path: str) -> list[Any]:
    """Conditions that hold for every visible study; `path` leads from the row to its study ("" or "study__")."""
    found: list[Any] = []
    if visible.sources:
        found.append(Q(**{f"{path}source_ae_title__in": visible.sources}))
    if visible.modalities:
        study = OuterRef(f"{path}pk")
        found.append(Exists(Series.objects.filter(study_id=study, modality__in=visible.modalities)))
    for condition in visible.conditions:
        if not condition.is_not:
            known = FIELDS[tag(condition.keyword)]
            folded = path + known.folded if known.folded else ""
            found.append(narrow(path + known.column, _match(condition), folded=folded)[0])
    return found


def visible_columns(visible: Visible) -> list[str]:
    """The study's columns that the judgement looks at."""
    return list(dict.fromkeys(FIELDS[tag(condition.keyword)].column for condition in visible.conditions))


def visible_judge(visible: Visible) -> Judge | None:
    """Whether the conditions hold for a study, given those columns; None when there are none."""
    if not visible.conditions:
        return None
    tests = [(FIELDS[tag(one.keyword)].column, _match(one), one.is_not) for one in visible.conditions]

    def judge(study: Mapping[str, Any]) -> bool:
        return all(match.matches(study[column]) != is_not for column, match, is_not in tests)

    return judge


def _match(condition: Condition) -> TextMatch | NameMatch:
    if condition.keyword in _NAMES:
        return NameMatch((Glob(text_fold(name_trim(condition.glob))),), _FOLDING)
    return TextMatch((Glob(text_fold(condition.glob)),), _FOLDING)
