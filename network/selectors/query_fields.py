"""Which attributes the index answers from which column, and how a match narrows a column. Pure translation, no query.

What narrows never leaves out what matches; what is not exact the match itself decides, row by row. So SQLite and
PostgreSQL, whose ideas of case and order differ, answer alike.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, models
from django.db.models import Q
from django.db.models.lookups import BuiltinLookup
from pydicom.datadict import tag_for_keyword

from gateway_project.core.folding import text_fold
from network.dimse.query.matching import (
    Glob,
    Match,
    NameMatch,
    NoMatch,
    NumberMatch,
    RangeMatch,
    TextMatch,
    UidMatch,
    name_tail_strip,
)
from network.dimse.query.question import Level

NOTHING: Final = Q(pk__in=())
_TOP: Final = "\U0010ffff"
_INTEGERS: Final = range(-(2**31), 2**31)


@dataclass(frozen=True, slots=True)
class Field:
    """An attribute's level and column; `folded`: the column with the folded name."""

    level: Level
    column: str
    folded: str = ""


def _fields() -> dict[int, Field]:
    columns = {
        Level.PATIENT: {
            "PatientName": "patient_name",
            "PatientID": "patient_id",
            "IssuerOfPatientID": "issuer_of_patient_id",
            "PatientBirthDate": "patient_birth_date",
            "PatientSex": "patient_sex",
        },
        Level.STUDY: {
            "StudyInstanceUID": "study_instance_uid",
            "StudyDate": "study_date",
            "StudyTime": "study_time",
            "AccessionNumber": "accession_number",
            "StudyID": "study_id",
            "StudyDescription": "study_description",
            "ReferringPhysicianName": "referring_physician_name",
            "InstitutionName": "institution_name",
            "ModalitiesInStudy": "modalities",
            "NumberOfStudyRelatedSeries": "series_count",
            "NumberOfStudyRelatedInstances": "instance_count",
        },
        Level.SERIES: {
            "SeriesInstanceUID": "series_instance_uid",
            "Modality": "modality",
            "SeriesNumber": "series_number",
            "SeriesDescription": "series_description",
            "BodyPartExamined": "body_part_examined",
            "ProtocolName": "protocol_name",
            "StationName": "station_name",
            "Manufacturer": "manufacturer",
            "SeriesDate": "series_date",
            "SeriesTime": "series_time",
            "NumberOfSeriesRelatedInstances": "instance_count",
        },
        Level.IMAGE: {
            "SOPInstanceUID": "sop_instance_uid",
            "SOPClassUID": "sop_class_uid",
            "InstanceNumber": "instance_number",
            "NumberOfFrames": "number_of_frames",
            "Rows": "rows",
            "Columns": "columns",
            "AvailableTransferSyntaxUID": "transfer_syntax_uid",
        },
    }
    found = {}
    for level, keywords in columns.items():
        for keyword, column in keywords.items():
            folded = "patient_name_folded" if column == "patient_name" else ""
            found[tag(keyword)] = Field(level, column, folded)
    return found


def tag(keyword: str) -> int:
    """0xGGGGEEEE of a keyword of PS3.6."""
    number = tag_for_keyword(keyword)
    if number is None:
        raise LookupError(keyword)
    return int(number)


FIELDS: Final = _fields()
MODALITIES: Final = tag("ModalitiesInStudy")
SOP_CLASSES: Final = tag("SOPClassesInStudy")
PATIENT_COUNTS: Final = {
    tag("NumberOfPatientRelatedStudies"): 0,
    tag("NumberOfPatientRelatedSeries"): 1,
    tag("NumberOfPatientRelatedInstances"): 2,
}
PAIRS: Final = ((tag("StudyDate"), tag("StudyTime")), (tag("SeriesDate"), tag("SeriesTime")))
"""Dates and times that may be asked for as moments."""


@models.CharField.register_lookup
class LikeAnyCase(BuiltinLookup):  # type: ignore[type-arg]
    """`column LIKE pattern` without the difference of ASCII's cases; the pattern is escaped already."""

    lookup_name = "like_any_case"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        left, parameters = self.process_lhs(compiler, connection)
        right, more = self.process_rhs(compiler, connection)
        word = "ILIKE" if connection.vendor == "postgresql" else "LIKE"
        return f"{left} {word} {right} ESCAPE '\\'", (*parameters, *more)


@models.CharField.register_lookup
class BeyondAscii(BuiltinLookup):  # type: ignore[type-arg]
    """Whether a text holds anything but printable ASCII: what LIKE may judge otherwise than we do."""

    lookup_name = "beyond_ascii"
    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        left, parameters = self.process_lhs(compiler, connection)
        test = f"{left} ~ '[^ -~]'" if connection.vendor == "postgresql" else f"{left} GLOB '*[^ -~]*'"
        return test, tuple(parameters)


def narrow(column: str, match: Match, *, folded: str = "") -> tuple[Q, bool]:
    """A condition on the column that holds for all that the match accepts, and whether for nothing else."""
    if isinstance(match, NoMatch):
        return NOTHING, True
    if isinstance(match, UidMatch):
        return Q(**{f"{column}__in": match.uids}), True
    if isinstance(match, NumberMatch):
        return Q(**{f"{column}__in": [number for number in match.numbers if number in _INTEGERS]}), True
    if isinstance(match, RangeMatch):
        return _range(column, match), True
    if isinstance(match, NameMatch):
        return (_folded_name(folded, match) if folded else _name(column, match)), False
    if isinstance(match, TextMatch):
        return _text(column, match)
    return Q(), False


def empty(path: str, column: str, model: type[models.Model]) -> Q:
    """The column of the model that `path` leads to says nothing."""
    is_null = getattr(model._meta.get_field(column), "null", False)
    return Q(**{f"{path}{column}__isnull": True}) if is_null else Q(**{path + column: ""})


def _range(column: str, match: RangeMatch) -> Q:
    found = Q()
    if match.low is not None:
        found &= Q(**{f"{column}__gte": match.low})
    if match.high is not None:
        found &= Q(**{f"{column}__lte": match.high})
    return found


def combined(date_column: str, time_column: str, match: RangeMatch) -> Q:
    """A range of moments on two columns. What has a date and no time counts as of its midnight."""
    found = Q(**{f"{date_column}__isnull": False})
    if isinstance(match.low, dt.datetime):
        day, time = match.low.date(), match.low.time()
        later = Q(**{f"{date_column}__gt": day}) | Q(**{date_column: day, f"{time_column}__gte": time})
        if time == dt.time.min:
            later |= Q(**{date_column: day})
        found &= later & Q(**{f"{date_column}__gte": day})
    if isinstance(match.high, dt.datetime):
        day, time = match.high.date(), match.high.time()
        earlier = Q(**{f"{date_column}__lt": day}) | Q(**{date_column: day, f"{time_column}__lte": time})
        earlier |= Q(**{date_column: day, f"{time_column}__isnull": True})
        found &= earlier & Q(**{f"{date_column}__lte": day})
    return found


def _text(column: str, match: TextMatch) -> tuple[Q, bool]:
    if match.folding is None and all(glob.is_literal for glob in match.globs):
        return Q(**{f"{column}__in": [glob.pattern for glob in match.globs]}), True
    found = Q()
    for glob in match.globs:
        one = Q(**{f"{column}__like_any_case": _like(glob.pattern)})
        found |= one if match.folding is not None else one & _prefix(column, glob)
    if match.folding is not None:
        found |= Q(**{f"{column}__beyond_ascii": True})
    return found, False


def _name(column: str, match: NameMatch) -> Q:
    """A person name in a column that holds it as it came."""
    found = Q(**{f"{column}__beyond_ascii": True})
    for glob in match.globs:
        pieces = "%".join(_like(piece) for piece in _name_pieces(glob.pattern)).replace("^", "%^%")
        found |= Q(**{f"{column}__like_any_case": f"%{pieces}%"})
    return found | _words(column, match)


def _folded_name(column: str, match: NameMatch) -> Q:
    """A person name in a column that holds it trimmed and folded, over an index where the pattern has a beginning.

    What `?` stands for may be two letters there: æ is ae.
    """
    found = Q()
    for glob in match.globs:
        pieces = _name_pieces(text_fold(glob.pattern).replace("?", "*"))
        like = "%".join(map(_like, pieces)) + "%"
        if glob.pattern.isascii() and "=" not in glob.pattern:
            found |= Q(**{f"{column}__like_any_case": like}) & _prefix(column, Glob(pieces[0]))
        else:
            found |= Q(**{f"{column}__like_any_case": f"%{like}"})
    return found | _words(column, match)


def _name_pieces(pattern: str) -> list[str]:
    """What a name that the pattern matches has for certain, in this order: of each group what is not left open."""
    return [name_tail_strip(group) for group in pattern.split("=")]


def _words(column: str, match: NameMatch) -> Q:
    found = Q()
    if match.folding.fuzzy:
        for words in match.words:
            every = Q()
            for word in words:
                every &= Q(**{f"{column}__like_any_case": f"%{_like(text_fold(word))}%"})
            found |= every
    return found


def _prefix(column: str, glob: Glob) -> Q:
    """What the matches begin with, as an index can look it up."""
    prefix = glob.prefix
    if not prefix:
        return Q()
    if connection.vendor == "postgresql":
        return Q(**{f"{column}__startswith": prefix})
    return Q(**{f"{column}__gte": prefix, f"{column}__lt": prefix + _TOP})


def _like(pattern: str) -> str:
    """LIKE's pattern for a glob: its own special characters escaped."""
    for character in "\\%_":
        pattern = pattern.replace(character, "\\" + character)
    return pattern.replace("*", "%").replace("?", "_")
