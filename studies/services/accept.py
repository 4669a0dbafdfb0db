"""Accept anyway: a person wants a refused object all the same, and it is taken in as far as it can be read."""

import hashlib
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import BinaryIO, NamedTuple

from django.db import transaction
from django.utils.timezone import now as time_now

from gateway_project.core.failpoint import failpoint
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from studies.dicom.part10 import file_meta, file_meta_read
from studies.dicom.scan import DatasetScanner
from studies.dicom.spool import Intake, SpooledObject, Store
from studies.errors import QuarantineError
from studies.models import Instance, QuarantinedObject, QuarantineState
from studies.services.index import index_objects
from studies.services.quarantine import quarantine_alerts_heal, quarantine_decided, quarantine_file_remove
from studies.services.receive import Arrival, Indexable

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
FLAG = "accepted-anyway"
_WHY_NOT = {
    "identity-missing": "It does not say which study, series and instance it is: without that it has no place here. "
    "Correct it at its source, or discard it.",
    "uid-invalid": "A UID that identifies it is unreadable: without it the object has no place here. Correct it at its "
    "source, or discard it.",
    "file-meta-no-transfer-syntax": "Nothing says in which transfer syntax it is encoded. Ask for it again, or discard "
    "it.",
}


class _Found(NamedTuple):
    """What can be read of a quarantined file. `problem`: why it was refused once more, empty if it would not be."""

    header: Header
    transfer_syntax_uid: str
    offset: int
    problem: str


def quarantine_accept(
    row: QuarantinedObject, *, actor: str, store: Store, now: datetime | None = None
) -> QuarantinedObject:
    """The object is placed and indexed as if it had been received, flagged "accepted-anyway" and with its fault.

    Its data set stays byte for byte; the file meta is written anew. Without a readable identity, or if its file is not
    what came, it stays in quarantine: QuarantineError, with words that say why. Killed anywhere it may be repeated:
    the copy is recovered (and refused) or indexed, and what is indexed already is found by its hash.
    May raise SpoolError and the database's errors.
    """
    row = QuarantinedObject.objects.get(pk=row.pk)
    _check_open(row)
    try:
        found = _found(store, row)
        identity = found.header.identity()
    except DatasetError as error:
        words = _WHY_NOT.get(error.code, str(error))
        raise QuarantineError(f"{words} ({error.detail})" if error.detail else words, code=error.code) from error
    arrival = Arrival(
        sop_class_uid=identity.sop_class_uid,
        sop_instance_uid=identity.sop_instance_uid,
        transfer_syntax_uid=found.transfer_syntax_uid,
        source_ae_title=row.source_ae_title,
        receiving_ae_title=row.receiving_ae_title,
        peer_address=row.peer_address,
        association_id="",
    )
    instance = _take_in(store, row, found, arrival, now or time_now())
    _decided(row, instance, found, actor=actor, now=now)
    quarantine_file_remove(row, store)
    quarantine_alerts_heal()
    logger.info("quarantined object accepted", extra={"quarantine_id": row.pk, "instance": instance.pk})
    return QuarantinedObject.objects.get(pk=row.pk)


def _check_open(row: QuarantinedObject) -> None:
    if row.state != QuarantineState.OPEN:
        raise QuarantineError("Someone has decided about it already.", code="quarantine-decided")
    if not row.kept:
        raise QuarantineError(
            "Its bytes were not kept, because the quarantine was full: ask the sender to send it again.",
            code="quarantine-not-kept",
        )


def _found(store: Store, row: QuarantinedObject) -> _Found:
    with store.open(store.quarantine_name(row.sha256)) as stream:
        try:
            meta = file_meta_read(stream)
            syntax, offset = meta.transfer_syntax_uid, meta.dataset_offset
        except DatasetError:  # it was refused before it had any: what came begins at the first byte
            syntax, offset = row.transfer_syntax_uid, 0
        if not syntax:
            raise DatasetError("file-meta-no-transfer-syntax")
        scanner = DatasetScanner(syntax)
        try:
            for chunk in _chunks(stream, offset):
                scanner.feed(chunk)
            header, problem = scanner.finish(), row.code
        except DatasetError as error:
            header, problem = scanner.header_so_far(), error.code
    return _Found(header, syntax, offset, problem)


def _chunks(stream: BinaryIO, offset: int) -> Iterator[bytes]:
    stream.seek(offset)
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _take_in(store: Store, row: QuarantinedObject, found: _Found, arrival: Arrival, now: datetime) -> Instance:
    """Through an intake of this process's own, as if it came over the wire: a crash leaves what recovery knows."""
    intake = Intake(store, owner="quarantine")
    try:
        spooled = _copied(store, intake, row, found, arrival)
        failpoint("accept.copied")
        flags = (*found.header.flags, FLAG, found.problem)
        header = Header(found.header.values, flags, found.header.big_endian)
        result = index_objects(store, [Indexable(spooled, header, arrival, now)])
        if result.failed:
            raise QuarantineError("It could not be indexed; the log tells why.", code="index-failed")
        failpoint("accept.indexed")
        intake.release(spooled.path)
    finally:
        intake.close()
    known = Instance.objects.filter(sop_instance_uid=arrival.sop_instance_uid, sha256=spooled.sha256)
    instance = known.filter(study_id__in=result.study_ids).order_by("-version").first()
    if instance is None:  # another encoding of the same content is there
        uids = {"study_id__in": result.study_ids, "sop_instance_uid": arrival.sop_instance_uid}
        instance = Instance.objects.get(current=True, **uids)
    return instance


def _copied(store: Store, intake: Intake, row: QuarantinedObject, found: _Found, arrival: Arrival) -> SpooledObject:
    meta = file_meta(
        sop_class_uid=arrival.sop_class_uid,
        sop_instance_uid=arrival.sop_instance_uid,
        transfer_syntax_uid=arrival.transfer_syntax_uid,
        source_ae_title=arrival.source_ae_title,
        receiving_ae_title=arrival.receiving_ae_title,
    )
    digest = hashlib.sha256()
    with intake.begin() as part, store.open(store.quarantine_name(row.sha256)) as stream:
        part.write_meta(meta)
        for chunk in _chunks(stream, found.offset):
            digest.update(chunk)
            part.write(chunk)
        if digest.hexdigest() != row.sha256:
            raise QuarantineError(
                "Its file is no longer what came: the disk has harmed it. Discard it and ask the sender for it again.",
                code="quarantine-harmed",
            )
        return part.commit()


def _decided(row: QuarantinedObject, instance: Instance, found: _Found, *, actor: str, now: datetime | None) -> None:
    """It is in the index, so it is accepted, whatever another person has decided meanwhile; the trail has both."""
    with transaction.atomic():
        locked = QuarantinedObject.objects.select_for_update().get(pk=row.pk)
        locked.instance = instance
        detail: dict[str, object] = {"study": instance.study_id, "instance": instance.pk, "problem": found.problem}
        quarantine_decided(locked, QuarantineState.ACCEPTED, actor=actor, detail=detail, now=now)
