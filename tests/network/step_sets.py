"""Data sets of performed procedure steps, and a house that takes them as the wire gives them."""

from typing import Any

from pydicom.dataset import Dataset

from network.dimse.normalized.ports import PERFORMED_PROCEDURE_STEP, NormalizedReply, NormalizedRequest
from network.dimse.ports import Peer
from network.dimse.query.ports import EXPLICIT_LITTLE
from network.dimse.rights import Rights
from network.services.normalized import NormalizedServices
from tests.network.query_house import CT_CLASS, encoded

STEP_UID = "1.2.826.0.1.3680043.10.88.1"
STUDY_UID = "1.2.826.0.1.3680043.10.77.1"
MODALITY = Peer("assoc-5", "CT_NORD_1", "GATEWAY", "10.0.0.7", 50000, tls=False, rights=Rights())


class Flushed:
    """An indexer that has nothing to do, and counts how often it was asked."""

    times = 0

    def flush(self) -> None:
        self.times += 1


def item(**values: Any) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def step_begun(**changes: Any) -> Dataset:
    """As a CT writes it; a change to None leaves the attribute out."""
    scheduled = item(
        StudyInstanceUID=STUDY_UID, AccessionNumber="ACC7", ScheduledProcedureStepID="SPS7", RequestedProcedureID="RP7"
    )
    values = {
        "Modality": "CT",
        "PatientName": "Marked^Patient",
        "PatientID": "MARK7",
        "PerformedStationAETitle": "CT_NORD_1",
        "PerformedStationName": "Room 4",
        "PerformedProcedureStepStartDate": "20261125",
        "PerformedProcedureStepStartTime": "091500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepID": "PPS7",
        "PerformedProcedureStepDescription": "Thorax",
        "ScheduledStepAttributesSequence": [scheduled],
        "PerformedSeriesSequence": [],
    } | changes
    return item(**{keyword: value for keyword, value in values.items() if value is not None})


def series_of(*uids: str, series: str = "1.2.826.0.1.3680043.10.77.1.1") -> Dataset:
    images = [item(ReferencedSOPClassUID=CT_CLASS, ReferencedSOPInstanceUID=uid) for uid in uids]
    return item(
        SeriesInstanceUID=series, ReferencedImageSequence=images, ReferencedNonImageCompositeSOPInstanceSequence=[]
    )


def step_ended(*uids: str, status: str = "COMPLETED", **changes: Any) -> Dataset:
    values = {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": "20261125",
        "PerformedProcedureStepEndTime": "093000",
        "PerformedSeriesSequence": [series_of(*uids)] if uids else [],
    } | changes
    return item(**{keyword: value for keyword, value in values.items() if value is not None})


def ask(
    operation: Any,
    data: Dataset | bytes,
    *,
    uid: str = STEP_UID,
    peer: Peer = MODALITY,
    services: NormalizedServices | None = None,
) -> NormalizedReply:
    request = NormalizedRequest(peer, operation, PERFORMED_PROCEDURE_STEP, uid, EXPLICIT_LITTLE)
    served = services or NormalizedServices(Flushed())  # type: ignore[arg-type]
    return served.serve(request, data if isinstance(data, bytes) else encoded(data))
