"""An index of a few studies, asked as the wire asks: an identifier in bytes, answers in bytes, read by pydicom."""

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import Any

from pydicom.dataset import Dataset

from gateway_project.core.folding import name_fold
from network.dimse.ports import Peer
from network.dimse.query.ports import EXPLICIT_LITTLE, FindRequest
from network.dimse.query.question import STUDY_ROOT_FIND
from network.dimse.rights import Rights
from network.services.query import QueryService
from network.services.query_trail import Asked
from studies.models import Instance, Series, Study
from tests.network.identifiers import decoded, encoded, question

PEER = Peer("assoc-1", "WS", "GATEWAY", "10.0.0.7", 50000, tls=False, rights=Rights(query=True))
REQUEST = ("sop_class_uid", "peer", "relational", "combined", "fuzzy")
CT_CLASS, MR_CLASS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


class TrailList:
    """Keeps what would be written."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def add(self, asked: Asked) -> None:
        self.asked.append(asked)


@dataclass
class House:
    """One service, what it told its trail, and the answers to the last question."""

    trail: TrailList = field(default_factory=TrailList)
    supported: bool = True

    def __post_init__(self) -> None:
        self.service = QueryService(self.trail)  # type: ignore[arg-type]

    def ask(self, identifier: Dataset, *, peer: Peer = PEER, **request: Any) -> list[Dataset]:
        """Every answer. Raises QueryError as the service does."""
        asked = FindRequest(
            peer, **{"sop_class_uid": STUDY_ROOT_FIND, "transfer_syntax_uid": EXPLICIT_LITTLE} | request
        )
        found: list[Dataset] = []
        for batch in self.service.find(asked, encoded(identifier, explicit=asked.explicit)):
            self.supported = batch.all_supported
            found += [decoded(one, explicit=asked.explicit) for one in batch.identifiers]
        return found

    def values(self, keyword: str, level: str = "STUDY", **keys: Any) -> list[str]:
        """The sorted values of one attribute over all answers."""
        request = {
            name: keys.pop(name)
            for name in ("sop_class_uid", "peer", "relational", "combined", "fuzzy")
            if name in keys
        }
        asked = question(level, **{keyword: None} | keys)
        return sorted(str(answer[keyword].value) for answer in self.ask(asked, **request))


def peer_with(**rights: Any) -> Peer:
    return replace(PEER, rights=Rights(query=True, **rights))


def add_study(number: int, *, series: int = 1, instances: int = 1, modality: str = "CT", **values: Any) -> Study:
    """A study with rows as receiving leaves them; UIDs are `1.2.<number>`, `1.2.<number>.<series>` and so on."""
    defaults = {
        "study_instance_uid": f"1.2.{number}",
        "key": f"study-{number}",
        "patient_name": f"Patient^Number{number}",
        "patient_id": f"ID{number}",
        "study_date": dt.date(2020, 1, number),
        "study_time": dt.time(10, number),
        "accession_number": f"A{number}",
        "study_description": "CT of the head",
        "source_ae_title": "CT_1",
        "modalities": modality,
        "series_count": series,
        "instance_count": series * instances,
    }
    row = Study(**defaults | values)
    row.patient_name_folded = name_fold(row.patient_name)[:324]
    row.save()
    for one in range(1, series + 1):
        add_series(row, one, modality=modality, instances=instances)
    return row


def add_series(study: Study, number: int, *, modality: str = "CT", instances: int = 1, **values: Any) -> Series:
    uid = f"{study.study_instance_uid}.{number}"
    row = Series.objects.create(
        study=study,
        **{
            "series_instance_uid": uid,
            "key": uid,
            "modality": modality,
            "series_number": number,
            "instance_count": instances,
            "series_date": study.study_date,
            "series_time": study.study_time,
        }
        | values,
    )
    for one in range(1, instances + 1):
        add_instance(row, one)
    return row


def add_instance(series: Series, number: int, **values: Any) -> Instance:
    uid = f"{series.series_instance_uid}.{number}"
    return Instance.objects.create(
        study=series.study,
        series=series,
        **{
            "sop_instance_uid": uid,
            "sop_class_uid": MR_CLASS if series.modality == "MR" else CT_CLASS,
            "transfer_syntax_uid": EXPLICIT_LITTLE,
            "key": uid,
            "path": f"objects/{number}.dcm",
            "size_bytes": 100,
            "sha256": "0" * 64,
            "instance_number": number,
        }
        | values,
    )
