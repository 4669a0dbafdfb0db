"""What has changed when an object comes again under a known UID: looked at before the index's transaction, never in it.

Only objects whose UID is known with another hash are read, which happens when someone corrects or re-encodes a study.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from studies.dicom.durable import open_regular
from studies.dicom.errors import DicomError
from studies.dicom.header import Identity
from studies.dicom.normalise import Content, content_read
from studies.dicom.spool import Store
from studies.models import Instance
from studies.services.receive import Indexable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """How an object differs from the one that was current before it, whose data set has the hash `against`.

    `encoding_only`: the content is the same, and the other's file is there. `alarming`: other pixels or another
    patient - or it could not be told.
    """

    against: str
    encoding_only: bool
    alarming: bool


@dataclass(frozen=True)
class _Known:
    sha256: str
    file: Path | str | None  # an incoming path, a name in the store, or deleted


def contents_compare(store: Store, objects: Iterable[tuple[Indexable, Identity]]) -> dict[str, Change]:
    """The changes by instance key, for those objects that are known with another hash; one query for the batch.

    Reads whole files, in flat memory. What the index finds otherwise afterwards (a sibling was faster) it takes for an
    alarming change. Never raises for an object's sake; the database's errors it does.
    """
    batch = list(objects)
    latest = _known({identity.sop_instance_uid for _item, identity in batch})
    changes: dict[str, Change] = {}
    for item, identity in batch:
        place = (identity.study_instance_uid, identity.sop_instance_uid)
        known = latest.get(place)
        new = _Known(item.spooled.sha256, item.spooled.path)
        if known is None or known.sha256 == new.sha256:
            latest.setdefault(place, new)
            continue
        change = changes[item.spooled.instance_key] = _change(store, known, new)
        if not change.encoding_only:
            latest[place] = new
    return changes


def _known(uids: set[str]) -> dict[tuple[str, str], _Known]:
    rows = Instance.objects.filter(sop_instance_uid__in=uids, current=True).values_list(
        "study__study_instance_uid", "sop_instance_uid", "sha256", "path", "file_deleted_at"
    )
    return {(study, uid): _Known(sha256, None if deleted else path) for study, uid, sha256, path, deleted in rows}


def _change(store: Store, known: _Known, new: _Known) -> Change:
    before, after = _content(store, known.file), _content(store, new.file)
    if before is None or after is None:
        return Change(known.sha256, encoding_only=False, alarming=True)
    same = before.sha256 == after.sha256
    alarming = (before.pixel_sha256, before.patient_sha256) != (after.pixel_sha256, after.patient_sha256)
    return Change(known.sha256, encoding_only=same, alarming=alarming)


def _content(store: Store, file: Path | str | None) -> Content | None:
    if file is None:
        return None
    try:
        with store.open(file) if isinstance(file, str) else open_regular(file) as stream:
            return content_read(stream)
    except (DicomError, OSError) as error:
        logger.warning("content not compared", extra={"error": getattr(error, "code", type(error).__name__)})
        return None
