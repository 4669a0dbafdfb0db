"""Questions of the query service, asked of the index: what matches, as values by tag, a page at a time."""

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import OperationalError, connection
from django.db.models import Exists, Model, OuterRef, Q

from network.dimse import statuses
from network.dimse.query.dataset import OPAQUE_VRS
from network.dimse.query.errors import QueryError
from network.dimse.query.matching import EmptyMatch, Match, RangeMatch, Value
from network.dimse.query.matching import combined as moments
from network.dimse.query.question import (
    INSTANCE_AVAILABILITY,
    TIMEZONE_OFFSET_FROM_UTC,
    Key,
    Level,
    Question,
)
from network.dimse.rights import Visible
from network.selectors.query_extras import WHO, Extras, availability, patient_of
from network.selectors.query_fields import (
    FIELDS,
    MODALITIES,
    NOTHING,
    PAIRS,
    PATIENT_COUNTS,
    SOP_CLASSES,
    combined,
    empty,
    narrow,
)
from network.selectors.query_files import FILE_COLUMNS, FileAttributes
from network.selectors.query_visible import visible_columns, visible_judge, visible_narrow
from studies.models import Instance, Series, Study

PAGE: Final = 100
_STEPS: Final = 50_000
_BASE: Final[Mapping[Level, type[Model]]] = {
    Level.PATIENT: Study,
    Level.STUDY: Study,
    Level.SERIES: Series,
    Level.IMAGE: Instance,
}
_PATHS: Final[Mapping[Level, Mapping[Level, str]]] = {
    Level.PATIENT: {Level.PATIENT: ""},
    Level.STUDY: {Level.PATIENT: "", Level.STUDY: ""},
    Level.SERIES: {Level.PATIENT: "study__", Level.STUDY: "study__", Level.SERIES: ""},
    Level.IMAGE: {Level.PATIENT: "study__", Level.STUDY: "study__", Level.SERIES: "series__", Level.IMAGE: ""},
}
_OWN: Final = {
    # what extras are found by, whatever was asked
    Level.PATIENT: ("pk", "state", *WHO),
    Level.STUDY: ("pk", "state", *WHO),
    Level.SERIES: ("study_id", "study__state", "pk"),
    Level.IMAGE: ("study_id", "file_deleted_at"),
}
_COUNTED: Final = ("series_count", "instance_count")


@dataclass(frozen=True)
class Limits:
    """Bounds on one query; the answers beyond `answers` are not given, and that is an error at the end."""

    answers: int
    seconds: float
    files: int


@dataclass
class _Plan:
    """How one question is asked: conditions, columns, and the matches that are judged row by row."""

    question: Question
    visible: Visible
    where: list[Any] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    values: list[tuple[int, int]] = field(default_factory=list)
    """Tag, and where its value stands in a row."""
    judged: list[tuple[int, Match]] = field(default_factory=list)
    file_keys: list[Key] = field(default_factory=list)
    unsupported: bool = False
    left_out: set[int] = field(default_factory=set)
    """Tags of keys that this level does not have."""

    def at(self, column: str) -> int:
        """Where this column stands in a row; it is asked for from now on."""
        if column not in self.columns:
            self.columns.append(column)
        return self.columns.index(column)


class IndexQuery:
    """One question to the index, for somebody who sees these studies only.

    `pages` raises QueryError (`query-too-many-answers`, `query-too-slow`); quarantined objects are in no index.
    """

    def __init__(self, question: Question, *, visible: Visible, limits: Limits) -> None:
        self._question = question
        self._level = question.level
        self._limits = limits
        self._is_cut = False
        self._plan = self._planned(visible)
        self._judge_visible = visible_judge(visible)
        self._extras = Extras(question, self._sees)
        self._files = FileAttributes(self._plan.file_keys, limits.files)

    @property
    def all_supported(self) -> bool:
        """Whether every key of the question counts here, as it is asked (else FF01, PS3.4 table C.4-1)."""
        return not self._plan.unsupported

    @property
    def left_out(self) -> Container[int]:
        """Tags of the keys that this level does not have: no answer says them."""
        return self._plan.left_out

    def pages(self) -> Iterator[list[dict[int, Value]]]:
        """The values by tag of every match, at most `Limits.answers`, in no order. All rows are read before the first
        page, so that no database waits for a peer.
        """
        with deadline(self._limits.seconds) as over:
            rows = self._patients(over) if self._level is Level.PATIENT else self._rows(over)
        for at in range(0, len(rows), PAGE):
            with deadline(self._limits.seconds):
                page = self._page(rows[at : at + PAGE])
            yield page
        if self._is_cut:
            raise QueryError(
                f"over {self._limits.answers} matches: narrow the query",
                code="query-too-many-answers",
                status=statuses.OUT_OF_RESOURCES,
            )

    # -- planning

    def _planned(self, visible: Visible) -> _Plan:
        plan = _Plan(self._question, visible)
        for column in _OWN[self._level]:
            plan.at(column)
        if self._level is Level.PATIENT:
            for column in _COUNTED:
                plan.at(column)
        if self._level is Level.IMAGE:
            plan.where.append(Q(current=True))
        pairs = self._plan_moments(plan) if self._question.combined else frozenset()
        for key in self._question.keys:
            self._plan_key(plan, key, matched=key.tag not in pairs)
        path = _PATHS[self._level][Level.PATIENT]
        plan.where += visible_narrow(visible, path)
        for column in visible_columns(visible):
            plan.at(path + column)
        return plan

    def _plan_key(self, plan: _Plan, key: Key, *, matched: bool) -> None:
        known = FIELDS.get(key.tag)
        if known is not None and known.level in _PATHS[self._level]:
            path = _PATHS[self._level][known.level]
            plan.values.append((key.tag, plan.at(path + known.column)))
            if key.match is not None and matched:
                self._plan_match(plan, key.tag, key.match)
        elif not self._plan_told(plan, key):
            self._plan_file(plan, key)

    def _plan_told(self, plan: _Plan, key: Key) -> bool:
        """Whether it is one of those that no column holds alone."""
        if key.tag == TIMEZONE_OFFSET_FROM_UTC:
            if self._level in (Level.STUDY, Level.SERIES):
                plan.values.append((key.tag, plan.at("timezone_offset")))
            return self._level is not Level.IMAGE  # which has its own; a patient has no times
        if key.tag in PATIENT_COUNTS and self._level <= Level.STUDY:
            plan.unsupported |= key.match is not None
            return True
        if key.tag == SOP_CLASSES and self._level >= Level.STUDY:
            if key.match is not None:
                condition, exact = narrow("sop_class_uid", key.match)
                found = Instance.objects.filter(condition, study_id=self._outer_study(), current=True)
                plan.where.append(Exists(found) if exact else NOTHING)  # no study is without a class
            return True
        return key.tag == INSTANCE_AVAILABILITY and self._level >= Level.STUDY

    def _plan_file(self, plan: _Plan, key: Key) -> None:
        """Read from the instance; at other levels nobody can tell it."""
        if self._level is not Level.IMAGE or key.vr in OPAQUE_VRS:
            plan.unsupported = True
            plan.left_out.add(key.tag)
            return
        if not plan.file_keys:
            for column in FILE_COLUMNS:
                plan.at(column)
        plan.file_keys.append(key)

    def _plan_match(self, plan: _Plan, number: int, match: Match) -> None:
        known = FIELDS[number]
        if number == MODALITIES:
            self._plan_modalities(plan, match)
            return
        path = _PATHS[self._level][known.level]
        model = {Level.SERIES: Series, Level.IMAGE: Instance}.get(known.level, Study)
        if isinstance(match, EmptyMatch):
            condition = empty(path, known.column, model)
            exact = True
        else:
            folded = path + known.folded if known.folded else ""
            condition, exact = narrow(path + known.column, match, folded=folded)
        plan.where.append(condition)
        if not exact:
            plan.judged.append((plan.at(path + known.column), match))

    def _plan_modalities(self, plan: _Plan, match: Match) -> None:
        """By the series: an instance of that modality is in the study."""
        if isinstance(match, EmptyMatch):
            plan.where.append(Q(**{_PATHS[self._level][Level.STUDY] + "modalities": ""}))
            return
        condition, exact = narrow("modality", match)
        plan.where.append(Exists(Series.objects.filter(condition, study_id=self._outer_study())))
        if not exact:
            plan.judged.append((plan.at(_PATHS[self._level][Level.STUDY] + "modalities"), match))

    def _outer_study(self) -> OuterRef:
        return OuterRef("pk" if self._level <= Level.STUDY else "study_id")

    def _plan_moments(self, plan: _Plan) -> frozenset[int]:
        """Dates and times that are asked for together; the tags that are dealt with."""
        done: set[int] = set()
        for date, clock in PAIRS:
            first, second = self._question.match_of(date), self._question.match_of(clock)
            known = FIELDS[date]
            if not isinstance(first, RangeMatch) or not isinstance(second, RangeMatch):
                continue
            if known.level in _PATHS[self._level] and first.has_form_of(second):
                path = _PATHS[self._level][known.level]
                plan.where.append(combined(path + known.column, path + FIELDS[clock].column, moments(first, second)))
                done |= {date, clock}
        return frozenset(done)

    # -- asking

    def _rows(self, over: Callable[[], None]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for row in self._matching(over):
            if len(found) == self._limits.answers:
                self._is_cut = True
                break
            found.append(row)
        return found

    def _patients(self, over: Callable[[], None]) -> list[tuple[Any, ...]]:
        """One row for each patient, of the latest study, with the counts of all; who has no ID is told by name and
        birth date.
        """
        patients: dict[tuple[Any, ...], tuple[int, tuple[Any, ...]]] = {}
        whose, (series, instances) = [self._plan.at(name) for name in WHO], map(self._plan.at, _COUNTED)
        for row in self._matching(over):
            who = patient_of(*(row[at] for at in whose))
            known = patients.get(who)
            if known is None and len(patients) == self._limits.answers:
                self._is_cut = True
                continue
            self._extras.count(who, row[series], row[instances])
            if known is None or known[0] < row[0]:
                patients[who] = (row[0], row)
        return [row for _pk, row in patients.values()]

    def _matching(self, over: Callable[[], None]) -> Iterator[tuple[Any, ...]]:
        plan = self._plan
        if NOTHING in plan.where:
            return
        rows = _BASE[self._level]._default_manager.filter(*plan.where).order_by().values_list(*plan.columns)
        for number, row in enumerate(rows.iterator(chunk_size=500)):
            if number % 500 == 0:
                over()
            if self._is_match(row):
                yield row

    def _is_match(self, row: Sequence[Any]) -> bool:
        modalities = self._modalities_at
        for at, match in self._plan.judged:
            value = tuple(row[at].split("\\")) if at == modalities else row[at]
            if not match.matches(value):
                return False
        return self._judge_visible is None or self._sees_row(row)

    @property
    def _modalities_at(self) -> int:
        column = _PATHS[self._level].get(Level.STUDY, "") + "modalities"
        return self._plan.columns.index(column) if column in self._plan.columns else -1

    def _sees_row(self, row: Sequence[Any]) -> bool:
        path = _PATHS[self._level][Level.PATIENT]
        return self._sees({name: row[self._plan.at(path + name)] for name in visible_columns(self._plan.visible)})

    def _sees(self, study: Mapping[str, Any]) -> bool:
        return self._judge_visible is None or self._judge_visible(study)

    # -- the values of a page

    def _page(self, rows: Sequence[tuple[Any, ...]]) -> list[dict[int, Value]]:
        plan, level = self._plan, self._level
        found: list[dict[int, Value]] = []
        own = [dict(zip(plan.columns, row, strict=True)) for row in rows]
        self._extras.gather(own, plan.visible)
        for row, columns in zip(rows, own, strict=True):
            values: dict[int, Value] = {number: row[at] for number, at in plan.values}
            if MODALITIES in values:
                values[MODALITIES] = tuple(str(values[MODALITIES]).split("\\"))
            self._extras.add(values, columns)
            if level is Level.IMAGE:
                if INSTANCE_AVAILABILITY in self._extras.wanted:
                    values[INSTANCE_AVAILABILITY] = availability(gone=columns["file_deleted_at"] is not None)
                if plan.file_keys and not self._files.add(values, columns):
                    continue
            found.append(values)
        return found


@contextmanager
def deadline(seconds: float) -> Iterator[Callable[[], None]]:
    """Every statement inside ends at the deadline, with QueryError `query-too-slow`; the function given looks at the
    clock itself.
    """
    ends = time.monotonic() + seconds

    def too_slow() -> QueryError:
        return QueryError(
            "the query took too long: narrow it",
            code="query-too-slow",
            status=statuses.OUT_OF_RESOURCES,
            permanent=False,
        )

    def over() -> None:
        if time.monotonic() >= ends:
            raise too_slow()

    connection.ensure_connection()
    try:
        with _statements_end(ends, seconds):
            yield over
    except OperationalError:
        if time.monotonic() < ends:
            raise
        raise too_slow() from None


@contextmanager
def _statements_end(ends: float, seconds: float) -> Iterator[None]:
    if connection.vendor == "sqlite":
        connection.connection.set_progress_handler(lambda: time.monotonic() >= ends, _STEPS)
        try:
            yield
        finally:
            if connection.connection is not None:
                connection.connection.set_progress_handler(None, 0)
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [str(int(seconds * 1000))])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', '0', false)")
