"""Recovery: what a killed receiver left is thrown away, adopted or quarantined - never lost, never in silence."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from django.utils.timezone import now

from gateway_project.core.models import Severity
from gateway_project.core.services.alerts import alert_heal, alert_open
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from studies.dicom.part10 import FileMeta, file_meta_read
from studies.dicom.recovery import file_mark
from studies.dicom.scan import DatasetScanner
from studies.dicom.spool import Abandoned, SpooledObject, SpoolError, Store, abandoned, file_hash
from studies.models import QuarantineState
from studies.services.index import ALERT as INDEX_ALERT
from studies.services.index import index_objects
from studies.services.indexer import ALERT as INDEXER_ALERT
from studies.services.quarantine import quarantine_take
from studies.services.receive import Arrival, Indexable, identity_check

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
BATCH_OBJECTS = 200
MOST_DEATHS = 2  # over one object by itself; before them the whole batch has killed once
ALERT = "recovery"


@dataclass
class Recovered:
    """Counts of one recovery: owners whose lock was free, parts thrown away, objects adopted, quarantined, and left.

    Left is what could be neither read nor indexed now: it keeps its place, and the next recovery tries it again.
    """

    owners: int = 0
    parts: int = 0
    adopted: int = 0
    quarantined: int = 0
    left: int = 0


def spool_recover(store: Store) -> Recovered:
    """Takes over every dead receiver's incoming batches. May be repeated, may be killed anywhere, may race.

    A slot without a mark was never acknowledged and is removed. A whole object may have been: it is validated again and
    indexed (or found indexed), or quarantined with a reason. So is one that has killed three processes in a row that
    tried to take it in. Raises the database's OperationalError and InterfaceError.
    """
    result = Recovered()
    for dead in abandoned(store):
        with dead:
            result.owners += 1
            result.parts += dead.discard_parts()
            for batch in _batches(dead, 1 if dead.killed_before else BATCH_OBJECTS):
                if dead.trying(batch) < MOST_DEATHS or len(batch) > 1:
                    _adopt(dead, store, batch, result)
                else:
                    _refused(dead, store, batch[0], DatasetError("recovery-killed"), result)
    if result.owners:
        logger.warning(
            "spool recovered",
            extra={
                "owners": result.owners,
                "parts": result.parts,
                "adopted": result.adopted,
                "quarantined": result.quarantined,
                "left": result.left,
            },
        )
        _tell(result)
    return result


def _tell(result: Recovered) -> None:
    """Whoever recovers sees all that a dead receiver left, so what was told of it before is healed or told anew."""
    alert_heal(INDEX_ALERT)
    alert_heal(INDEXER_ALERT)
    if not result.left:
        alert_heal(ALERT)
        return
    alert_open(
        ALERT,
        code="recovery-left",
        words=f"{result.left} stored objects could not be read or indexed. They are kept; check the disk and the log.",
        severity=Severity.CRITICAL,
    )


def _batches(dead: Abandoned, most: int) -> Iterator[list[Path]]:
    batch: list[Path] = []
    for path in dead.objects():
        batch.append(path)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch


def _adopt(dead: Abandoned, store: Store, paths: list[Path], result: Recovered) -> None:
    items = []
    for path in paths:
        try:
            items.append(object_read(path))
        except DatasetError as error:
            _refused(dead, store, path, error, result)
        except (SpoolError, OSError) as error:  # the disk's fault, not the object's: nothing is decided about it now
            logger.error("abandoned object not readable", extra=_about(path, error))  # noqa: TRY400
            result.left += 1
    try:
        failed = index_objects(store, items).failed
    except SpoolError as error:
        logger.error("abandoned objects not placed", extra={"error": error.code, "objects": len(items)})  # noqa: TRY400
        result.left += len(items)
        return
    for item in items:
        if item.spooled.location not in failed:
            dead.release(item.spooled.path)
    result.adopted += len(items) - len(failed)
    result.left += len(failed)


def _refused(dead: Abandoned, store: Store, path: Path, error: DatasetError, result: Recovered) -> None:
    try:
        kept = _quarantine(store, path, error)
    except (SpoolError, OSError) as failed:
        logger.error("abandoned object not quarantined", extra=_about(path, failed))  # noqa: TRY400
        kept = False
    if not kept:
        result.left += 1
        return
    dead.release(path)
    result.quarantined += 1


def _about(path: Path, error: SpoolError | OSError) -> dict[str, object]:
    return {"instance_key": path.stem, "error": error.code if isinstance(error, SpoolError) else error.errno}


def object_read(path: Path) -> Indexable:
    """Everything the index needs, from the file alone: its meta tells the AE titles, its data set the rest.

    Raises DatasetError: what it says, or "object-damaged" for one that is no longer what its mark says.
    """
    with path.open("rb") as stream:
        meta = file_meta_read(stream)
        header = _scan(stream, meta)
        stream.seek(0)
        before_dataset = stream.read(meta.dataset_offset)
    identity_check(header, sop_class_uid=meta.sop_class_uid, sop_instance_uid=meta.sop_instance_uid)
    sha256, size_bytes = file_hash(path, meta.dataset_offset)
    mark = file_mark(str(path))
    if mark is not None and not mark.fits(sha256=sha256, size_bytes=size_bytes, meta=before_dataset):
        raise DatasetError("object-damaged")
    spooled = SpooledObject(
        location=str(path), instance_key=path.stem, size_bytes=size_bytes, sha256=sha256, meta_bytes=meta.dataset_offset
    )
    return Indexable(spooled, header, _arrival(meta), now())


def _arrival(meta: FileMeta) -> Arrival:
    return Arrival(
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        source_ae_title=meta.source_ae_title,
        receiving_ae_title=meta.receiving_ae_title,
        peer_address="",
        association_id="",
    )


def _scan(stream: BinaryIO, meta: FileMeta) -> Header:
    scanner = DatasetScanner(meta.transfer_syntax_uid)
    stream.seek(meta.dataset_offset)
    while chunk := stream.read(CHUNK_BYTES):
        scanner.feed(chunk)
    return scanner.finish()


def _quarantine(store: Store, path: Path, error: DatasetError) -> bool:
    """Under the hash of its data set where the file meta can be read, as a receiver would have kept it.

    False when the quarantine has no room: perhaps it was acknowledged once, so it stays where it is.
    """
    origin, offset = Arrival("", "", "", "", "", "", ""), 0
    try:
        with path.open("rb") as stream:
            meta = file_meta_read(stream)
        origin, offset = _arrival(meta), meta.dataset_offset
    except DatasetError:
        logger.warning("abandoned object has no readable file meta", extra={"instance_key": path.stem})
    sha256, size_bytes = file_hash(path, offset)
    row = quarantine_take(store, path, origin, sha256=sha256, size_bytes=size_bytes, code=error.code, reason=str(error))
    return row is not None and (row.kept or row.state != QuarantineState.OPEN)
