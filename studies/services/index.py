"""The index: durable objects become rows, in batches. Total: whatever is wrong with one object never holds up the others."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import InterfaceError, OperationalError, models, transaction

from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import AuditEventType, Severity
from gateway_project.core.services.alerts import alert_open
from gateway_project.core.services.audit import audit_record
from studies.dicom import tags
from studies.dicom.spool import Store
from studies.models import Instance, Series, Study, StudyState
from studies.services.receive import Indexable

logger = logging.getLogger(__name__)

TRANSIENT = (OperationalError, InterfaceError)


@dataclass
class Indexed:
    """What a batch did: studies touched, rows made, and the names of files that no row needs (repeats)."""

    study_ids: set[int] = field(default_factory=set)
    created: int = 0
    repeated: int = 0
    surplus: list[str] = field(default_factory=list)


def key_of(*uids: str) -> str:
    """A folder name of ours for a UID of theirs: never the UID itself, always the same one."""
    return hashlib.blake2b("\n".join(uids).encode(), digest_size=16).hexdigest()


def object_name(item: Indexable) -> str:
    study, series, _sop_class, _sop_instance = item.header.identity()
    return Store.object_name(key_of(study), key_of(study, series), item.spooled.instance_key)


def index_objects(store: Store, items: Sequence[Indexable]) -> Indexed:
    """Makes rows for durable objects; on return every one has its row and its place, or is a repeat of one that has.

    Order: link into place, fsync the folders, commit the rows. A crash in between leaves the incoming name, from which the
    same is done again: the names and keys come out the same. A row without a file cannot come to be.
    Raises the database's OperationalError when it cannot be reached: nothing is done then, and all may be repeated.
    """
    if not items:
        return Indexed()
    names = [object_name(item) for item in items]
    for item, name in zip(items, names, strict=True):
        store.place(item.spooled.path, name)
    store.sync(names)
    failpoint("index.placed")
    result = _index_bisecting(list(zip(items, names, strict=True)))
    failpoint("index.committed")
    for name in result.surplus:
        store.remove(name)
    return result


def _index_bisecting(batch: list[tuple[Indexable, str]], *, minimal: bool = False) -> Indexed:
    try:
        with transaction.atomic():
            return _index_batch(batch, minimal=minimal)
    except TRANSIENT:
        raise
    except Exception as error:  # isolated below by bisection; a single one that fails even as a minimal row is raised
        if len(batch) == 1:
            if minimal:
                raise
            return _index_minimal(batch, error)
        middle = len(batch) // 2
        return _merge(_index_bisecting(batch[:middle]), _index_bisecting(batch[middle:]))


def _index_minimal(batch: list[tuple[Indexable, str]], error: Exception) -> Indexed:
    """An object whose attributes break the index gets a row with its identity only, and an alert."""
    logger.error("object indexed minimally", extra={"error": type(error).__name__, "instance_key": batch[0][0].spooled.instance_key})
    result = _index_bisecting(batch, minimal=True)
    for study_id in result.study_ids:
        alert_open(
            f"study:{study_id}:minimal",
            code="index-minimal",
            words="An object's attributes could not be indexed; it is kept, with its identity only.",
            link=f"/studies/{study_id}/",
        )
    return result


def _merge(one: Indexed, other: Indexed) -> Indexed:
    return Indexed(
        one.study_ids | other.study_ids, one.created + other.created, one.repeated + other.repeated, one.surplus + other.surplus
    )


def _index_batch(batch: list[tuple[Indexable, str]], *, minimal: bool) -> Indexed:
    by_study: dict[str, list[tuple[Indexable, str]]] = defaultdict(list)
    for item, name in batch:
        by_study[item.header.identity()[0]].append((item, name))
    result = Indexed()
    for study_uid in sorted(by_study):  # always in the same order, so that two receivers never wait for each other in a ring
        _index_study(study_uid, by_study[study_uid], result, minimal=minimal)
    return result


def _index_study(study_uid: str, batch: list[tuple[Indexable, str]], result: Indexed, *, minimal: bool) -> None:
    """The Study row is locked first and its instances stay unstamped: settling sees all of them or none."""
    Study.objects.get_or_create(study_instance_uid=study_uid, defaults={"key": key_of(study_uid)})
    study = Study.objects.select_for_update().get(study_instance_uid=study_uid)
    result.study_ids.add(study.pk)
    uids = {item.header.identity()[3] for item, _name in batch}
    current = {i.sop_instance_uid: i for i in Instance.objects.filter(study=study, current=True, sop_instance_uid__in=uids)}
    series_cache: dict[str, Series] = {}
    fresh: list[tuple[Indexable, Instance]] = []
    for item, name in batch:
        known = current.get(item.header.identity()[3])
        if known is not None and known.sha256 == item.spooled.sha256:
            _repeat(known, item, name, result)
            continue
        series = _series_for(study, item, series_cache, minimal=minimal)
        instance = _instance_new(study, series, item, name, minimal=minimal)
        if known is not None:
            _supersede(study, known, instance)
        current[instance.sop_instance_uid] = instance
        fresh.append((item, instance))
    if fresh:
        Instance.objects.bulk_create([instance for _item, instance in fresh])
        result.created += len(fresh)
        _series_count([instance for _item, instance in fresh])
        _study_update(study, fresh, minimal=minimal)


def _repeat(known: Instance, item: Indexable, name: str, result: Indexed) -> None:
    """The same content again: no new row and nothing to upload; a file that was deleted since is made good."""
    result.repeated += 1
    if known.path == name:  # this very object, indexed before a crash could release its incoming name
        return
    if known.file_deleted_at is not None:
        Instance.objects.filter(pk=known.pk).update(path=name, key=item.spooled.instance_key, file_deleted_at=None)
        return
    result.surplus.append(name)


def _supersede(study: Study, known: Instance, instance: Instance) -> None:
    """Another content under a known SOP Instance UID: the newest is current, the older one is kept (never overwritten)."""
    instance.version = known.version + 1
    known.current = False
    if known.pk is not None:
        Instance.objects.filter(pk=known.pk).update(current=False)
    alert_open(
        f"study:{study.pk}:changed",
        code="instance-changed",
        words="An object came again with another content; both are kept, the newest is current.",
        severity=Severity.INFO,
        link=f"/studies/{study.pk}/",
    )


def _fit(model: type[models.Model], values: dict[str, Any]) -> dict[str, Any]:
    """Cuts texts to their columns: a value that is too long must not cost the object its row."""
    fitted = {}
    for name, value in values.items():
        limit = getattr(model._meta.get_field(name), "max_length", None)
        fitted[name] = value[:limit] if isinstance(value, str) and limit else value
    return fitted


def _small(value: int | None) -> int | None:
    return value if value is not None and -(2**31) <= value < 2**31 else None


def _series_for(study: Study, item: Indexable, cache: dict[str, Series], *, minimal: bool) -> Series:
    header = item.header
    uid = header.identity()[1]
    if uid not in cache:
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
        }
        defaults = {} if minimal else _fit(Series, attributes)
        defaults["key"] = key_of(study.study_instance_uid, uid)
        cache[uid], _created = Series.objects.get_or_create(study=study, series_instance_uid=uid, defaults=defaults)
    return cache[uid]


def _instance_new(study: Study, series: Series, item: Indexable, name: str, *, minimal: bool) -> Instance:
    header, spooled, arrival = item.header, item.spooled, item.arrival
    attributes = {
        "instance_number": _small(header.integer(tags.INSTANCE_NUMBER)),
        "number_of_frames": _small(header.integer(tags.NUMBER_OF_FRAMES)),
        "rows": _small(header.integer(tags.ROWS)),
        "columns": _small(header.integer(tags.COLUMNS)),
        "flags": ",".join(header.flags),
    }
    _study, _series, sop_class, sop_instance = header.identity()
    return Instance(
        study=study,
        series=series,
        sop_instance_uid=sop_instance,
        sop_class_uid=sop_class,
        transfer_syntax_uid=arrival.transfer_syntax_uid,
        key=spooled.instance_key,
        path=name,
        size_bytes=spooled.size_bytes,
        sha256=spooled.sha256,
        source_ae_title=arrival.source_ae_title[:16],
        receiving_ae_title=arrival.receiving_ae_title[:16],
        association_id=arrival.association_id[:40],
        received_at=item.received_at,
        **({} if minimal else _fit(Instance, attributes)),
    )


def _series_count(instances: Iterable[Instance]) -> None:
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for instance in instances:
        counts[instance.series_id][0] += instance.version == 1
        counts[instance.series_id][1] += instance.size_bytes
    for series_id, (count, size) in counts.items():
        Series.objects.filter(pk=series_id).update(
            instance_count=models.F("instance_count") + count, size_bytes=models.F("size_bytes") + size
        )


def _study_update(study: Study, fresh: Sequence[tuple[Indexable, Instance]], *, minimal: bool) -> None:
    received = [instance.received_at for _item, instance in fresh]
    study.instance_count += sum(instance.version == 1 for _item, instance in fresh)
    study.size_bytes += sum(instance.size_bytes for _item, instance in fresh)
    study.series_count = study.series.count()
    study.received_at = max(received) if study.open_since is None else max(study.received_at, *received)
    study.open_since = min([*received, *([study.open_since] if study.open_since else [])])
    study.source_ae_title = fresh[-1][1].source_ae_title
    if not minimal:
        for item, _instance in fresh:
            _study_describe(study, item)
    if study.state != StudyState.RECEIVING:
        study.state, study.state_since = StudyState.RECEIVING, min(received)
    study.reason = ""
    study.save()
    audit_record(
        AuditEventType.INSTANCES_TRANSFERRED,
        actor=f"ae:{study.source_ae_title}",
        subject=f"study:{study.pk}",
        detail={"instances": len(fresh), "bytes": sum(i.size_bytes for _item, i in fresh)},
    )


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


def _study_describe(study: Study, item: Indexable) -> None:
    """Fills what is still empty: the first instance that tells something is believed; another patient is flagged."""
    header = item.header
    patient_id = header.text(tags.PATIENT_ID)
    if study.patient_id and patient_id and patient_id[:64] != study.patient_id and not study.conflict:
        study.conflict = True
        alert_open(
            f"study:{study.pk}:conflict",
            code="patient-conflict",
            words="The instances of one study name different patients. Nothing was merged or changed.",
            link=f"/studies/{study.pk}/",
        )
    found = _fit(Study, {name: header.text(tag) for name, tag in STUDY_TEXTS.items()})
    found["study_date"] = header.date(tags.STUDY_DATE)
    found["study_time"] = header.time(tags.STUDY_TIME)
    found["patient_birth_date"] = header.date(tags.PATIENT_BIRTH_DATE)
    for name, value in found.items():
        if value and not getattr(study, name):
            setattr(study, name, value)
    modality = header.text(tags.MODALITY)
    modalities = [m for m in study.modalities.split("\\") if m]
    if modality and modality not in modalities:
        study.modalities = "\\".join([*modalities, modality])[:128]
