"""Real objects in a store, with their rows: what pages with pictures need."""

import copy
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from studies.models import Instance, Series, Study
from tests.dicom_samples import bundled_root, dataset_of
from tests.studies.house import House, arrival


def stored_make(house: House, *files: Path) -> list[Instance]:
    """Receives and indexes Part 10 files as a sender would have sent them."""
    uids = []
    for path in files:
        meta = dcmread(path, stop_before_pixels=True)
        uids.append(str(meta.SOPInstanceUID))
        house.receiver.receive(
            arrival(
                uids[-1],
                sop_class_uid=str(meta.SOPClassUID),
                transfer_syntax_uid=str(meta.file_meta.TransferSyntaxUID),
                source_ae_title="CT_NORD_1",
            ),
            [dataset_of(path)],
        )
    house.index()
    rows = {row.sop_instance_uid: row for row in Instance.objects.filter(sop_instance_uid__in=uids, current=True)}
    return [rows[uid] for uid in uids]


def slices_write(
    folder: Path, count: int, *, template: str = "CT_small.dcm", description: str = "Lunge 1,0 mm"
) -> list[Path]:
    """One CT series of `count` instances, each a little different from the one before."""
    first = dcmread(bundled_root() / template)
    first.PatientName, first.PatientID = "Lindqvist^Maja", "P4711"
    first.StudyDescription, first.SeriesDescription = "CT Thorax mit KM", description
    first.StudyInstanceUID, first.SeriesInstanceUID = generate_uid(), generate_uid()
    pixels = first.pixel_array
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(1, count + 1):
        slice_: Dataset = copy.deepcopy(first)
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.InstanceNumber = number
        slice_.PixelData = np.roll(pixels, number * 3, axis=1).tobytes()
        path = folder / f"{number:04d}.dcm"
        slice_.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def series_of(instance: Instance) -> tuple[Study, Series]:
    return instance.study, instance.series
