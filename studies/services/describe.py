"""What the index says of an object: columns of study, series and instance, from a header that is not to be trusted."""

import re
from collections.abc import Iterable
from typing import Any

from django.db import models

from gateway_project.core.folding import name_fold
from studies.dicom import tags
from studies.dicom.header import Header
from studies.models import Instance, Series, Study

STUDY_TEXTS = {
    "patient_name": tags.PATIENT_NAME,
    "patient_id": tags.PATIENT_ID,
    "issuer_of_patient_id": tags.ISSUER_OF_PATIENT_ID,
    "patient_sex": tags.PATIENT_SEX,
    "accession_number": tags.ACCESSION_NUMBER,
    "study_id": tags.STUDY_ID,
    "study_description": tags.STUDY_DESCRIPTION,
    "referring_physician_name": tags.REFERRING_PHYSICIAN_NAME,
    "institution_name": tags.INSTITUTION_NAME,
}


_OFFSET = re.compile(r"[+-](0[0-9]|1[0-4])[0-5][0-9]", re.ASCII)

STUDY_DATES = {"study_date": tags.STUDY_DATE, "patient_birth_date": tags.PATIENT_BIRTH_DATE}


STUDY_TAGS = (
    tags.SPECIFIC_CHARACTER_SET,
    tags.MODALITY,
    tags.STUDY_TIME,
    tags.TIMEZONE_OFFSET_FROM_UTC,
    *STUDY_TEXTS.values(),
    *STUDY_DATES.values(),
)


def study_describe(study: Study, headers: Iterable[Header]) -> None:
    """Fills what is still empty: the first instance that tells something is believed; another patient is flagged.

    Changes the object only. What several instances say in the same bytes is read once, and only what is empty.
    """
    said = set()
    for header in headers:
        raw = tuple(map(header.values.get, STUDY_TAGS))
        if raw not in said:
            said.add(raw)
            _describe(study, header)


def _describe(study: Study, header: Header) -> None:
    patient_id = header.text(tags.PATIENT_ID)
    if study.patient_id and patient_id and _cut(Study, "patient_id", patient_id) != study.patient_id:
        study.conflict = True
    for name, tag in STUDY_TEXTS.items():
        if not getattr(study, name):
            setattr(study, name, _cut(Study, name, header.text(tag)))
    if study.patient_name and not study.patient_name_folded:
        study.patient_name_folded = _cut(Study, "patient_name_folded", name_fold(study.patient_name))
    for name, tag in STUDY_DATES.items():
        if getattr(study, name) is None:
            setattr(study, name, header.date(tag))
    if study.study_time is None:
        study.study_time = header.time(tags.STUDY_TIME)
        if study.study_time is not None:  # the offset is that of this time, and no other instance's
            study.timezone_offset = timezone_offset(header)
    _modality_add(study, header.text(tags.MODALITY))


def _modality_add(study: Study, modality: str) -> None:
    known = [m for m in study.modalities.split("\\") if m]
    together = "\\".join([*known, modality])
    if modality and modality not in known and len(together) <= _limit(Study, "modalities"):
        study.modalities = together


def timezone_offset(header: Header) -> str:
    """Timezone Offset From UTC as PS3.3 C.12.1.1.8 writes it; empty for all else."""
    text = header.text(tags.TIMEZONE_OFFSET_FROM_UTC)
    return text if _OFFSET.fullmatch(text) else ""


def series_attributes(header: Header) -> dict[str, Any]:
    attributes = {
        "modality": header.text(tags.MODALITY),
        "series_number": _small(header.integer(tags.SERIES_NUMBER)),
        "series_description": header.text(tags.SERIES_DESCRIPTION),
        "body_part_examined": header.text(tags.BODY_PART_EXAMINED),
        "protocol_name": header.text(tags.PROTOCOL_NAME),
        "station_name": header.text(tags.STATION_NAME),
        "manufacturer": header.text(tags.MANUFACTURER),
        "series_date": header.date(tags.SERIES_DATE),
        "series_time": header.time(tags.SERIES_TIME),
        "timezone_offset": timezone_offset(header),
    }
    return _fit(Series, attributes)


def instance_attributes(header: Header) -> dict[str, Any]:
    attributes = {
        "instance_number": _small(header.integer(tags.INSTANCE_NUMBER)),
        "number_of_frames": _small(header.integer(tags.NUMBER_OF_FRAMES)),
        "rows": _small(header.integer(tags.ROWS)),
        "columns": _small(header.integer(tags.COLUMNS)),
        "flags": ",".join(header.flags),
    }
    return _fit(Instance, attributes)


def _fit(model: type[models.Model], values: dict[str, Any]) -> dict[str, Any]:
    """Cuts texts to their columns: a value that is too long must not cost the object its row."""
    return {name: _cut(model, name, value) if isinstance(value, str) else value for name, value in values.items()}


def _cut(model: type[models.Model], name: str, text: str) -> str:
    return text[: _limit(model, name)]


def _limit(model: type[models.Model], name: str) -> int:
    limit: int = getattr(model._meta.get_field(name), "max_length", None) or 0
    return limit


def _small(value: int | None) -> int | None:
    return value if value is not None and -(2**31) <= value < 2**31 else None
