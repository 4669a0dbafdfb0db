"""The study map as the recipient's tool believes it: every member checked before anything is done by it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from uploads.envelope.encoding import FILE_NAME, RANDOM_ID, SHA256_HEX
from uploads.vault.errors import VaultStoreError

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_UID = re.compile(r"[0-9.]{1,64}")
_TEXTS = {
    "name": FILE_NAME,
    "file_id": RANDOM_ID,
    "run_id": RANDOM_ID,
    "upload_id": _UPLOAD_ID,
    "sop_instance_uid": _UID,
    "sop_class_uid": _UID,
    "series_instance_uid": _UID,
    "transfer_syntax_uid": _UID,
    "sha256": SHA256_HEX,
    "dataset_sha256": SHA256_HEX,
    "sealed_sha256": SHA256_HEX,
}


@dataclass(frozen=True)
class MapFile:
    """One instance of the study: where its sealed file lies, and what comes out of it."""

    name: str
    file_id: str
    run_id: str
    upload_id: str
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    size_bytes: int
    sha256: str
    dataset_sha256: str
    sealed_size_bytes: int
    sealed_sha256: str


@dataclass(frozen=True)
class StudyMap:
    """A whole study at one revision; `files` may lie in this upload and in those of `previous`, and nowhere else."""

    upload_id: str
    study_instance_uid: str
    revision: int
    previous: tuple[str, ...]
    files: tuple[MapFile, ...]


def study_map_parse(document: Mapping[str, object], *, upload_id: str) -> StudyMap:
    """Returns the map of this upload; `map-invalid` for a missing, malformed or contradictory member, `canary`.

    Members that are not known are ignored, so that a later gateway can add some.
    """
    if "canary" in document:
        raise VaultStoreError("canary")
    study_uid, previous = document.get("study_instance_uid"), document.get("previous")
    if document.get("version") != 1 or document.get("upload_id") != upload_id:
        raise VaultStoreError("map-invalid")
    if not isinstance(study_uid, str) or not _UID.fullmatch(study_uid) or not isinstance(previous, list):
        raise VaultStoreError("map-invalid")
    if not all(isinstance(each, str) and _UPLOAD_ID.fullmatch(each) for each in previous):
        raise VaultStoreError("map-invalid")
    entries = document.get("files")
    if not isinstance(entries, list):
        raise VaultStoreError("map-invalid")
    files = tuple(_file(entry) for entry in entries)
    places = {(file.upload_id, file.name) for file in files}
    if len(places) != len(files) or not {place[0] for place in places} <= {upload_id, *previous}:
        raise VaultStoreError("map-invalid")
    return StudyMap(upload_id, study_uid, _count(document.get("revision")), tuple(previous), files)


def _file(entry: object) -> MapFile:
    if not isinstance(entry, dict):
        raise VaultStoreError("map-invalid")
    for name, pattern in _TEXTS.items():
        value = entry.get(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise VaultStoreError("map-invalid")
    _count(entry.get("size_bytes"))
    _count(entry.get("sealed_size_bytes"))
    return MapFile(**{field.name: entry[field.name] for field in fields(MapFile)})


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise VaultStoreError("map-invalid")
    return value
