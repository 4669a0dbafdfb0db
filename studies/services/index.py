"""The index: durable objects become rows, in batches. Whatever is wrong with one object never holds up the others."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import InterfaceError, OperationalError, connection, models, transaction

from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import AuditEventType, Severity
from gateway_project.core.services.alerts import alert_open
from gateway_project.core.services.audit import audit_record
from studies.dicom.header import Identity
from studies.dicom.spool import SpoolError, Store
from studies.models import Instance, Series, Study, StudyState
from studies.services.compare import Change, contents_compare
from studies.services.describe import instance_attributes, series_attributes, study_describe
from studies.services.receive import Indexable

logger = logging.getLogger(__name__)

ALERT = "index"
SENT_AGAIN = "Sent again after its files were deleted: they are kept again, nothing is uploaded anew."
TRANSIENT = (OperationalError, InterfaceError)
Changes = Mapping[str, Change]  # by instance key


@dataclass
class Indexed:
    """What a batch did: studies touched, rows made, repeats, names of files that no row needs, and what failed.

    `failed` holds the incoming locations of objects that no row could be made for: they must not be released.
    """

    study_ids: set[int] = field(default_factory=set)
    created: int = 0
    repeated: int = 0
    surplus: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    def add(self, other: "Indexed") -> None:
        self.study_ids |= other.study_ids
        self.created += other.created
        self.repeated += other.repeated
        self.surplus += other.surplus
        self.failed |= other.failed


@dataclass(frozen=True)
class _Entry:
    """One object of a batch, with what is asked of it again and again."""

    item: Indexable
    identity: Identity
    name: str

    @property
    def incoming(self) -> str:
        return self.item.spooled.location


def key_of(*uids: str) -> str:
    """A folder name of ours for a UID of theirs: never the UID itself, always the same one."""
    return hashlib.blake2b("\n".join(uids).encode(), digest_size=16).hexdigest()


def object_name(item: Indexable) -> str:
    return _entry(item).name


def _entry(item: Indexable) -> _Entry:
    identity = item.header.identity()
    study, series = identity.study_instance_uid, identity.series_instance_uid
    return _Entry(item, identity, Store.object_name(key_of(study), key_of(study, series), item.spooled.instance_key))


def index_objects(store: Store, items: Sequence[Indexable]) -> Indexed:
    """Makes rows for durable objects; on return every one has its row and its place, is a repeat of one that has, or is
    named in `failed`, with an alert: those keep their incoming name, all others may be released.

    Order: link into place, fsync the folders, commit the rows. A crash in between leaves the incoming name, from which
    the same is done again: the names and keys come out the same. A row without a file cannot come to be.
    Raises OperationalError, InterfaceError (the database cannot be reached) or a SpoolError that is not permanent (the
    disk is full or fails): all may be repeated then, whatever was done already.
    """
    result = Indexed()
    placed = _placed(store, [_entry(item) for item in items], result)
    if placed:
        store.sync([entry.name for entry in placed])
        failpoint("index.placed")
        changes = contents_compare(store, [(entry.item, entry.identity) for entry in placed])
        result.add(_index_bisecting(store, placed, changes))
        failpoint("index.committed")
    for name in result.surplus:
        store.remove(name)
    if result.failed:
        alert_open(
            ALERT,
            code="index-failed",
            words="Stored objects could not be indexed. They are kept as they came; the next restart tries them again.",
            severity=Severity.CRITICAL,
        )
    return result


def _placed(store: Store, entries: list[_Entry], result: Indexed) -> list[_Entry]:
    """Those whose file has its place; one whose own file is at fault is put aside and does not hold up the others."""
    placed = []
    for entry in entries:
        try:
            store.place(entry.incoming, entry.name)
        except SpoolError as error:
            if not error.permanent:
                raise
            logger.error("object not placed", extra=_about(entry, error.code))  # noqa: TRY400 - the code says it all
            result.failed.add(entry.incoming)
        else:
            placed.append(entry)
    return placed


def _about(entry: _Entry, error: str) -> dict[str, object]:
    return {"error": error, "instance_key": entry.item.spooled.instance_key}


def _index_bisecting(store: Store, batch: list[_Entry], changes: Changes, *, minimal: bool = False) -> Indexed:
    """All of the batch in one transaction; if that fails for an object's sake, in halves, down to the one at fault."""
    try:
        with transaction.atomic():
            return _index_batch(store, batch, changes, minimal=minimal)
    except TRANSIENT:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong is isolated and told, below
        if len(batch) == 1:
            return _index_minimal(store, batch[0], changes, error, minimal=minimal)
        middle = len(batch) // 2
        result = _index_bisecting(store, batch[:middle], changes)
        result.add(_index_bisecting(store, batch[middle:], changes))
        return result


def _index_minimal(store: Store, entry: _Entry, changes: Changes, error: Exception, *, minimal: bool) -> Indexed:
    """An object whose attributes break the index gets a row with its identity only; at worst none. Either is told."""
    if minimal:
        logger.error("object not indexed", extra=_about(entry, type(error).__name__))
        return Indexed(failed={entry.incoming})
    logger.error("object indexed minimally", extra=_about(entry, type(error).__name__))
    result = _index_bisecting(store, [entry], changes, minimal=True)
    for study_id in result.study_ids:
        alert_open(
            f"study:{study_id}:minimal",
            code="index-minimal",
            words="An object's attributes could not be indexed; it is kept, with its identity only.",
            link=f"/studies/{study_id}/",
        )
    return result


def _index_batch(store: Store, batch: list[_Entry], changes: Changes, *, minimal: bool) -> Indexed:
    by_study: dict[str, list[_Entry]] = defaultdict(list)
    for entry in batch:
        by_study[entry.identity.study_instance_uid].append(entry)
    result = Indexed()
    # always in the same order, so that two receivers never wait for each other in a ring
    for study_uid in sorted(by_study):
        _index_study(store, study_uid, by_study[study_uid], changes, result, minimal=minimal)
    return result


def _index_study(
    store: Store, study_uid: str, batch: list[_Entry], changes: Changes, result: Indexed, *, minimal: bool
) -> None:
    """The Study row is locked first and its instances stay unstamped: settling sees all of them or none."""
    _study, new = Study.objects.get_or_create(study_instance_uid=study_uid, defaults={"key": key_of(study_uid)})
    study = Study.objects.select_for_update(no_key=True).get(study_instance_uid=study_uid)
    result.study_ids.add(study.pk)
    by_key, current = ({}, {}) if new else _known(study, batch)
    series = _series_for(study, batch, minimal=minimal)
    fresh: list[tuple[Indexable, Instance]] = []
    superseded: list[Instance] = []
    alarming = restored = False
    for entry in batch:
        known = current.get(entry.identity.sop_instance_uid)
        change = _change_from(known, entry, changes)
        same = by_key.get(entry.item.spooled.instance_key)
        if same is None and known is not None and known.sha256 == entry.item.spooled.sha256:
            same = known
        if same is not None:
            restored |= _repeat(store, same, entry, result)
            continue
        if known is not None and change.encoding_only and _file_there(store, known):
            result.repeated += 1
            result.surplus.append(entry.name)
            continue
        instance = _instance_new(study, series[entry.identity.series_instance_uid], entry, minimal=minimal)
        if known is not None:
            instance.version = known.version + 1
            known.current = False
            superseded.append(known)
            alarming |= change.alarming
        current[instance.sop_instance_uid] = instance
        fresh.append((entry.item, instance))
    if superseded:
        _supersede(study, superseded, alarming=alarming)
    if fresh:
        _instances_insert([instance for _item, instance in fresh])
        result.created += len(fresh)
        _series_count([instance for _item, instance in fresh])
        _study_update(study, fresh, minimal=minimal)
    elif restored and study.state == StudyState.DELETED:
        study.state, study.state_since, study.reason = StudyState.SETTLED, batch[-1].item.received_at, SENT_AGAIN
        study.save(update_fields=["state", "state_since", "reason"])


def _change_from(known: Instance | None, entry: _Entry, changes: Changes) -> Change:
    """What was found about this object, if it was compared with the very version that is current now."""
    change = changes.get(entry.item.spooled.instance_key)
    against = known.sha256 if known is not None else ""
    if change is None or change.against != against:
        return Change(against, encoding_only=False, alarming=True)
    return change


def _file_there(store: Store, known: Instance) -> bool:
    """A re-encoding does not stand in for a file that is gone: the receipt and the manifest name the other's hash."""
    if known.pk is None:
        return True
    return known.file_deleted_at is None and _file_whole(store, known)


def _known(study: Study, batch: list[_Entry]) -> tuple[dict[str, Instance], dict[str, Instance]]:
    """Rows that these very objects have already (indexed before a crash could release them), by their key, and the
    current versions of the instances they are of, by UID."""
    keys = {entry.item.spooled.instance_key for entry in batch}
    uids = {entry.identity.sop_instance_uid for entry in batch}
    # two questions: with an OR the database would read all of the study's instances, for every batch
    by_key = {row.key: row for row in Instance.objects.filter(key__in=keys)}
    current = Instance.objects.filter(study=study, current=True, sop_instance_uid__in=uids)
    return by_key, {row.sop_instance_uid: by_key.get(row.key, row) for row in current}


def _repeat(store: Store, known: Instance, entry: _Entry, result: Indexed) -> bool:
    """The same content again: no new row and nothing to upload. A file that was deleted, or is lost, is made good.

    Answers whether a deleted file is there again.
    """
    result.repeated += 1
    itself = known.path == entry.name  # this very object: its file has just been given its place again
    if not itself and known.file_deleted_at is None and (known.pk is None or _file_whole(store, known)):
        result.surplus.append(entry.name)
        return False
    deleted = known.file_deleted_at is not None
    if not itself or deleted:
        known.path, known.key, known.file_deleted_at = entry.name, entry.item.spooled.instance_key, None
        known.save(update_fields=["path", "key", "file_deleted_at"])
    return deleted


def _file_whole(store: Store, known: Instance) -> bool:
    """Whether the file that the row names is there, and not shorter than its data set. One system call."""
    try:
        if store.size(known.path) >= known.size_bytes:
            return True
    except SpoolError as error:
        if not error.permanent:
            raise
    alert_open(
        f"instance:{known.pk}:lost",
        code="file-lost",
        words="A stored object's file was missing or cut short; the object came again, and its file was made good.",
        severity=Severity.CRITICAL,
        link=f"/studies/{known.study_id}/",
    )
    return False


def _supersede(study: Study, superseded: Sequence[Instance], *, alarming: bool) -> None:
    """Another content under a known SOP Instance UID: the newest is current, the older one is kept as it is.

    Corrections of demographics keep the UID: they are noted. Other pixels or another patient under it are told.
    """
    known = [instance.pk for instance in superseded if instance.pk is not None]
    if known:
        Instance.objects.filter(pk__in=known).update(current=False)
    logger.info("instances superseded", extra={"study": study.pk, "instances": len(superseded), "alarming": alarming})
    if alarming:
        alert_open(
            f"study:{study.pk}:changed",
            code="instance-changed",
            words="An object came again with other pixels or another patient, or too different to tell. Both are kept; "
            "the newest is current.",
            link=f"/studies/{study.pk}/",
        )


def _series_for(study: Study, batch: Sequence[_Entry], *, minimal: bool) -> dict[str, Series]:
    """The series of a batch by UID, made where they are not there; the Study row's lock makes this ours alone."""
    first = {entry.identity.series_instance_uid: entry.item.header for entry in reversed(batch)}
    found = {s.series_instance_uid: s for s in Series.objects.filter(study=study, series_instance_uid__in=first)}
    for uid, header in first.items():
        if uid not in found:
            attributes = {} if minimal else series_attributes(header)
            key = key_of(study.study_instance_uid, uid)
            found[uid] = Series.objects.create(study=study, series_instance_uid=uid, key=key, **attributes)
    return found


def _instance_new(study: Study, series: Series, entry: _Entry, *, minimal: bool) -> Instance:
    spooled, arrival = entry.item.spooled, entry.item.arrival
    return Instance(
        study=study,
        series=series,
        sop_instance_uid=entry.identity.sop_instance_uid,
        sop_class_uid=entry.identity.sop_class_uid,
        transfer_syntax_uid=arrival.transfer_syntax_uid[:64],
        key=spooled.instance_key,
        path=entry.name,
        size_bytes=spooled.size_bytes,
        sha256=spooled.sha256,
        source_ae_title=arrival.source_ae_title[:16],
        receiving_ae_title=arrival.receiving_ae_title[:16],
        association_id=arrival.association_id[:40],
        received_at=entry.item.received_at,
        **({} if minimal else instance_attributes(entry.item.header)),
    )


def _instances_insert(instances: Sequence[Instance]) -> None:
    """Rows as `bulk_create` makes them, for a third of its time: it prepares each value of each row by itself, while
    the receiving threads wait for the interpreter. Their primary keys are not asked for.
    """
    columns = [field for field in Instance._meta.concrete_fields if not field.primary_key]
    names = ", ".join(connection.ops.quote_name(str(field.column)) for field in columns)
    places = ", ".join(["%s"] * len(columns))
    moments = [isinstance(field, models.DateTimeField) for field in columns]
    adapt = connection.ops.adapt_datetimefield_value
    rows = [
        [
            adapt(getattr(instance, field.attname)) if moment else getattr(instance, field.attname)
            for field, moment in zip(columns, moments, strict=True)
        ]
        for instance in instances
    ]
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(Instance._meta.db_table)
        cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", rows)  # noqa: S608 - names of our own


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
    conflict = study.conflict
    latest = [study.received_at] if study.instance_count else []
    study.instance_count += sum(instance.version == 1 for _item, instance in fresh)
    study.size_bytes += sum(instance.size_bytes for _item, instance in fresh)
    study.series_count = study.series.count()
    study.received_at = max([*received, *latest])
    study.open_since = min([*received, *([study.open_since] if study.open_since else [])])
    study.source_ae_title = fresh[-1][1].source_ae_title
    if not minimal:
        study_describe(study, (item.header for item, _instance in fresh))
        _conflict_tell(study, known_before=conflict)
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


def _conflict_tell(study: Study, *, known_before: bool) -> None:
    if study.conflict and not known_before:
        alert_open(
            f"study:{study.pk}:conflict",
            code="patient-conflict",
            words="The instances of one study name different patients. Nothing was merged or changed.",
            link=f"/studies/{study.pk}/",
        )
