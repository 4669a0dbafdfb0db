"""The data sets of performed procedure steps, read within bounds (PS3.4 F.7.2)."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from network.dimse import statuses
from network.dimse.commitment import MAX_ELEMENTS, REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID, Reference
from network.dimse.errors import DimseError
from network.dimse.query.dataset import Element, Elements, elements_read, vr_of
from network.dimse.query.errors import QueryError
from network.dimse.query.text import SPECIFIC_CHARACTER_SET, codecs_of, text_decode
from network.dimse.query.times import date_of, time_of

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
NO_LONGER_UPDATED: Final = 0xA506
"""Error ID of a step in a final state (PS3.4 table F.7.2-2)."""

_STATUS: Final = 0x00400252
_STEP_ID: Final = 0x00400253
_DESCRIPTION: Final = 0x00400254
_STATION_AE_TITLE: Final = 0x00400241
_STATION_NAME: Final = 0x00400242
_START: Final = (0x00400244, 0x00400245)
_END: Final = (0x00400250, 0x00400251)
_MODALITY: Final = 0x00080060
_SCHEDULED: Final = 0x00400270
_SCHEDULED_STEP_ID: Final = 0x00400009
_ACCESSION_NUMBER: Final = 0x00080050
_STUDY_INSTANCE_UID: Final = 0x0020000D
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_SERIES: Final = 0x00400340
_SERIES_INSTANCE_UID: Final = 0x0020000E
_IMAGES: Final = 0x00081140
_OTHERS: Final = 0x00400220
_UID_CHARACTERS: Final = 64
_MAX_STUDIES: Final = 100
_FIRST_YEAR, _LAST_YEAR = 1970, 2200


class StepError(DimseError):
    """A request that is not taken; `status`, and `error_id` beside it, go to the peer with the words, which are free of
    PHI. Codes: `step-unreadable`, `step-invalid` (0106), `step-missing` (0120), `step-empty` (0121),
    `step-uid` (0117), `step-duplicate` (0111), `step-unknown` (0112), `step-final` (0110), `step-too-long` (0213),
    `step-forbidden`, `step-foreign` (0124).
    """

    def __init__(self, words: str, *, code: str, status: int, error_id: int = 0) -> None:
        super().__init__(words, code=code, permanent=True)
        self.status, self.error_id = status, error_id


@dataclass(frozen=True, slots=True)
class PerformedSeries:
    series_instance_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class StepChange:
    """What an N-SET says; None where it says nothing. Times are local ones of the modality."""

    status: str | None
    ended: dt.datetime | None
    series: tuple[PerformedSeries, ...] | None
    description: str | None


@dataclass(frozen=True, slots=True)
class NewStep:
    """What an N-CREATE says. Text is as it was sent, not longer than its VR allows."""

    step_id: str
    description: str
    modality: str
    station_ae_title: str
    station_name: str
    started: dt.datetime
    study_instance_uids: tuple[str, ...]
    accession_number: str
    scheduled_step_id: str
    patient_name: str
    patient_id: str
    series: tuple[PerformedSeries, ...]


def create_read(data: bytes, *, explicit: bool) -> NewStep:
    """An N-CREATE's data set. Raises StepError: status other than IN PROGRESS, type 1 attributes missing or empty, UIDs
    and times that are none. What is of type 2 may be missing.
    """
    reader = _Reader(data, explicit=explicit)
    if reader.needed(_STATUS) != IN_PROGRESS:
        raise _invalid("a new step is IN PROGRESS")
    scheduled = reader.items(_SCHEDULED)
    if not scheduled:
        raise _missing("Scheduled Step Attributes Sequence", reader.has(_SCHEDULED))
    studies = dict.fromkeys(reader.uid(item, _STUDY_INSTANCE_UID, "Study Instance UID") for item in scheduled)
    if len(studies) > _MAX_STUDIES:
        raise _invalid("too many studies")
    started = reader.moment(_START)
    if started is None:
        raise _missing("Performed Procedure Step Start Date", reader.has(_START[0]))
    return NewStep(
        step_id=reader.needed(_STEP_ID)[:64],
        description=reader.text(_DESCRIPTION)[:64],
        modality=reader.needed(_MODALITY)[:16],
        station_ae_title=reader.needed(_STATION_AE_TITLE)[:16],
        station_name=reader.text(_STATION_NAME)[:16],
        started=started,
        study_instance_uids=tuple(studies),
        accession_number=reader.first(scheduled, _ACCESSION_NUMBER)[:16],
        scheduled_step_id=reader.first(scheduled, _SCHEDULED_STEP_ID)[:16],
        patient_name=reader.text(_PATIENT_NAME)[:324],
        patient_id=reader.text(_PATIENT_ID)[:64],
        series=reader.series() or (),
    )


def change_read(data: bytes, *, explicit: bool) -> StepChange:
    """An N-SET's data set: attributes that it may not change are passed over. Raises StepError."""
    reader = _Reader(data, explicit=explicit)
    status = reader.needed(_STATUS) if reader.has(_STATUS) else None
    if status not in (None, IN_PROGRESS, COMPLETED, DISCONTINUED):
        raise _invalid("no such Performed Procedure Step Status")
    description = reader.text(_DESCRIPTION)[:64] if reader.has(_DESCRIPTION) else None
    return StepChange(status, reader.moment(_END), reader.series(), description)


def instance_uid_check(uid: str) -> str:
    """The SOP Instance UID that an SCU gives a step. Raises StepError (0117)."""
    if not _is_uid(uid):
        raise StepError("no SOP Instance UID", code="step-uid", status=statuses.INVALID_OBJECT_INSTANCE)
    return uid


class _Reader:
    """One data set, asked attribute by attribute."""

    def __init__(self, data: bytes, *, explicit: bool) -> None:
        try:
            self._elements = elements_read(data, explicit=explicit, max_elements=MAX_ELEMENTS)
        except QueryError as error:
            status = statuses.INVALID_ATTRIBUTE_VALUE
            raise StepError("the data set cannot be read", code="step-unreadable", status=status) from error
        declared = self._elements.get(SPECIFIC_CHARACTER_SET)
        terms = declared.value.decode("latin-1").split("\\") if declared is not None else []
        self._codecs = codecs_of(tuple(term.strip(" \0") for term in terms[:16]))

    def has(self, tag: int) -> bool:
        return tag in self._elements

    def items(self, tag: int, elements: Elements | None = None) -> Sequence[Elements]:
        found = (self._elements if elements is None else elements).get(tag)
        return found.items if found is not None else ()

    def text(self, tag: int, elements: Elements | None = None) -> str:
        """The value on one line, empty when there is none: no text of a peer's brings its own control characters."""
        found = (self._elements if elements is None else elements).get(tag)
        if found is None:
            return ""
        decoded = text_decode(found.value[:2048], _vr(found, tag), self._codecs)
        return "".join(character if character.isprintable() else " " for character in decoded).strip()

    def needed(self, tag: int) -> str:
        found = self.text(tag)
        if not found:
            raise _missing(f"({tag >> 16:04X},{tag & 0xFFFF:04X})", self.has(tag))
        return found

    def first(self, items: Iterable[Elements], tag: int) -> str:
        return next((text for item in items if (text := self.text(tag, item))), "")

    def uid(self, elements: Elements, tag: int, name: str) -> str:
        found = elements.get(tag)
        text = found.value.rstrip(b"\0 ").decode("latin-1") if found is not None else ""
        if not text:
            raise _missing(name, found is not None)
        if not _is_uid(text):
            raise _invalid(f"{name} is none")
        return text

    def moment(self, tags: tuple[int, int]) -> dt.datetime | None:
        """Date and time of two attributes; None without the date."""
        day, clock = (self.text(tag) for tag in tags)
        if not day:
            return None
        date, time = date_of(day), time_of(clock) if clock else dt.time()
        if date is None or time is None or not _FIRST_YEAR <= date.year <= _LAST_YEAR:
            raise _invalid("no date or no time")
        return dt.datetime.combine(date, time)

    def series(self) -> tuple[PerformedSeries, ...] | None:
        """The Performed Series Sequence, every reference once; None when it is not there."""
        if not self.has(_SERIES):
            return None
        return tuple(self._one_series(item) for item in self.items(_SERIES))

    def _one_series(self, item: Elements) -> PerformedSeries:
        references = (
            Reference(
                self.uid(one, REFERENCED_SOP_CLASS_UID, "Referenced SOP Class UID"),
                self.uid(one, REFERENCED_SOP_INSTANCE_UID, "Referenced SOP Instance UID"),
            )
            for tag in (_IMAGES, _OTHERS)
            for one in self.items(tag, item)
        )
        uid = self.uid(item, _SERIES_INSTANCE_UID, "Series Instance UID")
        return PerformedSeries(uid, tuple(dict.fromkeys(references)))


def _vr(found: Element, tag: int) -> str:
    return found.vr if found.vr != "UN" else vr_of(tag)


def _is_uid(text: str) -> bool:
    return 0 < len(text) <= _UID_CHARACTERS and text.isascii() and text.replace(".", "").isdigit()


def _invalid(words: str) -> StepError:
    return StepError(words, code="step-invalid", status=statuses.INVALID_ATTRIBUTE_VALUE)


def _missing(name: str, is_there: bool) -> StepError:
    if is_there:
        return StepError(f"{name} is empty", code="step-empty", status=statuses.MISSING_ATTRIBUTE_VALUE)
    return StepError(f"{name} is missing", code="step-missing", status=statuses.MISSING_ATTRIBUTE)
