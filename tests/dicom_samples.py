"""Objects to send: pydicom's bundled files, and small studies made of them."""

import copy
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from studies.dicom.part10 import file_meta_read

# What every sender writes in the same way, dcmjs-dimse too: no numbers as text, no sequences, nothing private.
PLAIN = {
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "PatientName",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
}


def bundled_root() -> Path:
    return Path(str(get_testdata_file("CT_small.dcm"))).parent


def study_files(
    folder: Path,
    *,
    count: int = 4,
    patient_name: str = "Doe^Judge",
    patient_id: str = "J1",
    side: int = 128,
    plain: bool = False,
) -> list[Path]:
    """One study of `count` CT instances of `side` by `side` pixels in two series, under new UIDs."""
    template = dcmread(bundled_root() / "CT_small.dcm")
    template.pop("DataSetTrailingPadding")  # which DCMTK would drop: what is sent is to be what lies on disk
    template.PixelData = (template.PixelData * (1 + side * side // 128**2))[: 2 * side**2]
    template.Rows = template.Columns = side
    if plain:
        make_plain(template)
    study_uid, series = generate_uid(), [generate_uid(), generate_uid()]
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(count):
        dataset: FileDataset = copy.deepcopy(template)
        dataset.PatientName, dataset.PatientID = patient_name, patient_id
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series[number % 2]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber = number + 1
        path = folder / f"{number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def make_plain(dataset: FileDataset) -> None:
    """Drops the elements that some sender writes in another way than pydicom does."""
    for element in list(dataset):
        if element.keyword not in PLAIN:
            del dataset[element.tag]
    dataset.SpecificCharacterSet = "ISO_IR 192"


def uid_of(path: Path) -> str:
    return str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def dataset_of(path: Path) -> bytes:
    """The encoded data set of a Part 10 file."""
    with path.open("rb") as stream:
        offset = file_meta_read(stream).dataset_offset
        stream.seek(offset)
        return stream.read()
