"""Which patients the objects of one study name, when they differ: read from the objects themselves."""

import logging
from collections import OrderedDict
from dataclasses import dataclass, field

from django.db.models import Min

from studies.dicom import tags
from studies.dicom.errors import DicomError
from studies.dicom.header import Header
from studies.dicom.part10 import file_meta_read
from studies.dicom.scan import DatasetScanner
from studies.dicom.spool import Store
from studies.models import Instance, Study
from studies.selectors import store_root

logger = logging.getLogger(__name__)

MOST_FILES = 24
HEAD_BYTES = 65_536
KEPT = 50
_known: "OrderedDict[tuple[int, int], list[PatientSeen]]" = OrderedDict()


@dataclass
class PatientSeen:
    """One patient as the objects name him or her, with whence they came and how many of those that were read say so."""

    name: str
    patient_id: str
    sources: list[str] = field(default_factory=list)
    objects: int = 0


def study_patients(study: Study) -> list[PatientSeen]:
    """The different patients of a study; at most 24 objects are read for it: one of each series and association, then
    others, the first and the last.

    Remembered until the study changes, for an open page asks every three seconds. A file that is gone is left out.
    """
    itself = (study.pk, study.instance_count)
    if itself not in _known:
        _known[itself] = _read(study)
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return _known[itself]


def _read(study: Study) -> list[PatientSeen]:
    groups = Instance.objects.filter(study=study, current=True, file_deleted_at__isnull=True).order_by()
    first = groups.values("series_id", "association_id").annotate(first=Min("pk")).values_list("first", flat=True)
    chosen = list(first[:MOST_FILES])
    others = groups.exclude(pk__in=chosen).values_list("pk", flat=True)
    each = (MOST_FILES - len(chosen)) // 2
    chosen += [*others.order_by("pk")[:each], *others.order_by("-pk")[:each]]
    store, seen = Store(store_root()), dict[tuple[str, str], PatientSeen]()
    for instance in Instance.objects.filter(pk__in=chosen).order_by("pk"):
        header = _header(store, instance)
        if header is None:
            continue
        who = header.text(tags.PATIENT_NAME), header.text(tags.PATIENT_ID)
        patient = seen.setdefault(who, PatientSeen(*who))
        patient.objects += 1
        if instance.source_ae_title and instance.source_ae_title not in patient.sources:
            patient.sources.append(instance.source_ae_title)
    return list(seen.values())


def _header(store: Store, instance: Instance) -> Header | None:
    try:
        with store.open(instance.path) as stream:
            meta = file_meta_read(stream)
            scanner = DatasetScanner(meta.transfer_syntax_uid)
            scanner.feed(stream.read(HEAD_BYTES))
            return scanner.header_so_far()
    except DicomError as error:
        logger.warning("patient not read", extra={"instance": instance.pk, "error": error.code})
        return None
