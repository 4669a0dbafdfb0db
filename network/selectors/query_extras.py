"""What an answer says beyond the columns of its row: a patient's counts, SOP classes, whether the files are there."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from network.dimse.query.matching import Value
from network.dimse.query.question import INSTANCE_AVAILABILITY, Level, Question
from network.dimse.rights import Visible
from network.selectors.query_fields import PATIENT_COUNTS, SOP_CLASSES
from network.selectors.query_visible import visible_columns, visible_narrow
from studies.models import Instance, Study, StudyState

WHO: Final = ("patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date")
"""The columns of a study that say whose it is."""


def availability(*, gone: bool) -> str:
    """InstanceAvailability (PS3.3 C.4.23.1.1): what was deleted here can be had from elsewhere, not from us."""
    return "OFFLINE" if gone else "ONLINE"


class Extras:
    """Asks for a whole page at once, and only for what the question wants."""

    def __init__(self, question: Question, sees: Callable[[Mapping[str, Any]], bool]) -> None:
        self._level = question.level
        self._sees = sees
        self.wanted = frozenset(key.tag for key in question.keys)
        self._counts: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
        self._classes: dict[int, list[str]] = {}
        self._gone: set[int] = set()

    def count(self, who: tuple[Any, ...], series: int, instances: int) -> None:
        """One more study of this patient."""
        counts = self._counts[who]
        counts[0] += 1
        counts[1] += series
        counts[2] += instances

    def gather(self, rows: Sequence[Mapping[str, Any]], visible: Visible) -> None:
        """Ask for what these rows need."""
        studies = {row["pk" if self._level <= Level.STUDY else "study_id"] for row in rows}
        if SOP_CLASSES in self.wanted and self._level >= Level.STUDY:
            self._classes = defaultdict(list)
            found = Instance.objects.filter(study_id__in=studies, current=True).order_by()
            for study, uid in found.values_list("study_id", "sop_class_uid").distinct():
                self._classes[study].append(uid)
        if INSTANCE_AVAILABILITY in self.wanted and self._level in (Level.STUDY, Level.SERIES):
            self._gone = self._with_files_gone(rows, studies)
        if self._level is Level.STUDY and not self.wanted.isdisjoint(PATIENT_COUNTS):
            self._count_patients(rows, visible)

    def _with_files_gone(self, rows: Sequence[Mapping[str, Any]], studies: set[int]) -> set[int]:
        gone = Instance.objects.filter(study_id__in=studies, current=True, file_deleted_at__isnull=False)
        column = "study_id" if self._level is Level.STUDY else "series_id"
        return set(gone.order_by().values_list(column, flat=True).distinct())

    def _count_patients(self, rows: Sequence[Mapping[str, Any]], visible: Visible) -> None:
        """Over all that the peer sees of these patients, whatever else the question asks for."""
        self._counts.clear()
        ids = {row["patient_id"] for row in rows if row["patient_id"]}
        names = {row["patient_name"] for row in rows if not row["patient_id"]}
        seen = visible_columns(visible)
        for condition in ({"patient_id__in": ids}, {"patient_id": "", "patient_name__in": names}):
            studies = Study.objects.filter(*visible_narrow(visible, ""), **condition).order_by()
            for study in studies.values(*WHO, "series_count", "instance_count", *seen):
                if self._sees(study):
                    who = who_of(study)
                    self.count(who, study["series_count"], study["instance_count"])

    def add(self, values: dict[int, Value], row: Mapping[str, Any]) -> None:
        """Put in what this row's answer wants."""
        if self._level <= Level.STUDY:
            for number, at in PATIENT_COUNTS.items():
                if number in self.wanted:
                    values[number] = self._counts[who_of(row)][at]
        if SOP_CLASSES in self.wanted and self._level >= Level.STUDY:
            study = row["pk" if self._level is Level.STUDY else "study_id"]
            values[SOP_CLASSES] = tuple(sorted(self._classes.get(study, ())))
        if INSTANCE_AVAILABILITY in self.wanted and self._level in (Level.STUDY, Level.SERIES):
            state = row["state"] if self._level is Level.STUDY else row["study__state"]
            values[INSTANCE_AVAILABILITY] = availability(gone=state == StudyState.DELETED or row["pk"] in self._gone)


def who_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Who a study is of, as far as can be told: by ID and its issuer; without an ID by name and birth date."""
    return patient_of(*(row[column] for column in WHO))


def patient_of(patient_id: str, issuer: str, name: str, birth_date: Any) -> tuple[Any, ...]:
    """The same from the values of `WHO`."""
    return (patient_id, issuer) if patient_id else ("", issuer, name, birth_date)
