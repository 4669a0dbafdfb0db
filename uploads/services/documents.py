"""The study map, the study info and the metadata: what the recipient learns of a study, from our rows alone."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from gateway_project import __version__
from gateway_project.core.options import option
from studies.models import Instance, Series, Study
from uploads.models import UploadJob, UploadPart
from uploads.selectors import earlier_parts, earlier_upload_ids

APP_NAME = "DICOM Gateway"
MESSAGE_LIMIT = 4096


def study_message(study: Study) -> str:
    """The study message from its template. Unknown placeholders stay as they are; cut at 4096 characters.

    One pass: what a value holds (an AE title is the peer's) is never taken for a placeholder.
    """
    values = {
        "{AppName}": APP_NAME,
        "{AppVersion}": __version__,
        "{GatewayAeTitle}": str(option("DICOM.AE_TITLE")),
        "{GatewayPort}": str(option("DICOM.PORT")),
        "{SourceAeTitle}": study.source_ae_title,
    }
    known = re.compile("|".join(map(re.escape, values)))
    return known.sub(lambda match: values[match[0]], str(option("VAULT.STUDY_MESSAGE_TEMPLATE")))[:MESSAGE_LIMIT]


def study_map(job: UploadJob, parts: Iterable[UploadPart], instances: Sequence[Instance]) -> dict[str, Any]:
    """Every file of the study up to this revision: those of this upload, and references to finished earlier ones.

    `instances` are those of `upload_study`.

    An object that came again with another content is listed with each version; the last one is marked `current`.
    `absent` names what belongs to the study but has no file in this vault: deleted here before the vault was set up.
    """
    own = {part.instance_id: part for part in parts if part.instance_id is not None}
    known = {**earlier_parts(job), **own}
    latest: dict[str, int] = {}
    for instance in instances:
        latest[instance.sop_instance_uid] = max(instance.version, latest.get(instance.sop_instance_uid, 0))
    files: list[dict[str, Any]] = []
    absent: list[dict[str, Any]] = []
    for instance in instances:
        entry = _instance_entry(instance) | {"current": instance.version == latest[instance.sop_instance_uid]}
        part = known.get(instance.pk)
        if part is None:
            absent.append(entry)
        else:
            files.append(entry | _file_entry(part))
    return {
        "version": 1,
        "upload_id": job.upload_id,
        "study_instance_uid": job.revision.study.study_instance_uid,
        "revision": job.revision.number,
        "previous": earlier_upload_ids(job),
        "files": files,
        "absent": absent,
    }


def _instance_entry(instance: Instance) -> dict[str, Any]:
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "series_instance_uid": instance.series.series_instance_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "dataset_sha256": instance.sha256,
        "dataset_size_bytes": instance.size_bytes,
        "version": instance.version,
    }


def _file_entry(part: UploadPart) -> dict[str, Any]:
    return {
        "name": part.name,
        "file_id": part.file_id,
        "run_id": part.run_id,
        "upload_id": part.job.upload_id,
        "size_bytes": part.content_size_bytes,
        "sha256": part.content_sha256,
        "sealed_size_bytes": part.size_bytes,
        "sealed_sha256": part.sha256,
    }


def study_info(job: UploadJob) -> dict[str, Any]:
    """Who and what, for the recipient's list: patient, study, counts, message."""
    study = job.revision.study
    return {
        "version": 1,
        "upload_id": job.upload_id,
        "revision": job.revision.number,
        "gateway": {"id": option("INSTANCE.ID"), "name": APP_NAME, "version": __version__},
        "patient": {
            "name": study.patient_name,
            "id": study.patient_id,
            "issuer": study.issuer_of_patient_id,
            "birth_date": _iso(study.patient_birth_date),
            "sex": study.patient_sex,
        },
        "study": {
            "study_instance_uid": study.study_instance_uid,
            "accession_number": study.accession_number,
            "study_id": study.study_id,
            "date": _iso(study.study_date),
            "time": _iso(study.study_time),
            "description": study.study_description,
            "referring_physician": study.referring_physician_name,
            "institution": study.institution_name,
            "modalities": [m for m in study.modalities.split("\\") if m],
        },
        "revision_instances": job.revision.instance_count,
        "revision_bytes": job.revision.size_bytes,
        "source_ae_title": study.source_ae_title,
        "message": study_message(study),
    }


def study_metadata(job: UploadJob, study_instances: Sequence[Instance]) -> dict[str, Any]:
    """Series and instances with the attributes of the index, without reading pixel data."""
    instances: dict[int, list[dict[str, Any]]] = {}
    series_by_id: dict[int, Series] = {}
    for instance in study_instances:
        series_by_id[instance.series_id] = instance.series
        instances.setdefault(instance.series_id, []).append(_instance_metadata(instance))
    return {
        "version": 1,
        "upload_id": job.upload_id,
        "study_instance_uid": job.revision.study.study_instance_uid,
        "series": [_series_metadata(series_by_id[pk]) | {"instances": found} for pk, found in instances.items()],
    }


def _series_metadata(series: Series) -> dict[str, Any]:
    return {
        "series_instance_uid": series.series_instance_uid,
        "modality": series.modality,
        "number": series.series_number,
        "description": series.series_description,
        "body_part_examined": series.body_part_examined,
        "protocol": series.protocol_name,
        "station": series.station_name,
        "manufacturer": series.manufacturer,
        "date": _iso(series.series_date),
        "time": _iso(series.series_time),
    }


def _instance_metadata(instance: Instance) -> dict[str, Any]:
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "number": instance.instance_number,
        "frames": instance.number_of_frames,
        "rows": instance.rows,
        "columns": instance.columns,
        "received_at": instance.received_at.isoformat(),
    }


def _iso(value: Any) -> str | None:
    return value.isoformat() if value is not None else None
