"""Every file that pydicom brings, in chunks of any size, against what pydicom itself reads."""

import datetime as dt
import io
import random
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM

from studies.dicom import tags
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from studies.dicom.part10 import file_meta_read
from studies.dicom.scan import DatasetScanner

ROOT = Path(pydicom.__file__).parent / "data"
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc", ".json", ".md", ".txt", ".dump", ".icc", ".gz")
)

REFUSED = {
    "test_files/ExplVR_BigEndNoMeta.dcm": "not-part10",
    "test_files/ExplVR_LitEndNoMeta.dcm": "not-part10",
    "test_files/no_meta.dcm": "not-part10",
    "test_files/rtstruct.dcm": "not-part10",
    "test_files/dicomdirtests/TINY_ALPHA/README": "not-part10",
    "test_files/meta_missing_tsyntax.dcm": "file-meta-no-transfer-syntax",
    "test_files/MR_truncated.dcm": "dataset-truncated",  # Pixel Data is cut
    "test_files/rtplan_truncated.dcm": "dataset-truncated",  # a sequence is cut
    "test_files/SC_rgb_jpeg.dcm": "transfer-syntax-mismatch",  # JPEG declared, implicit VR written
}
FLAGGED = {
    "palettes/winter.dcm": ("duplicate-element",),
    "test_files/image_dfl.dcm": ("deflate-trailer",),  # gzip's checksum follows the stream
    "test_files/nested_priv_SQ.dcm": ("odd-length",),
}


def scan_file(name: str) -> Header:
    stream = io.BytesIO((ROOT / name).read_bytes())
    scanner = DatasetScanner(file_meta_read(stream).transfer_syntax_uid)
    rng = random.Random(name)
    largest = (
        rng.choice((1, 7, 100, 5_000, 1_000_000))
        if len(stream.getvalue()) < 20_000
        else rng.choice((500, 5_000, 10**6))
    )
    while chunk := stream.read(rng.randint(1, largest)):
        scanner.feed(chunk)
    return scanner.finish()


def reading(header: Header, tag: int) -> object:
    """Our reading of one attribute, in the type that its VR has."""
    match tags.INDEX_VRS[tag]:
        case b"DA":
            return header.date(tag)
        case b"TM":
            return header.time(tag)
        case b"IS" | b"US":
            return header.integer(tag)
        case b"UI":
            return header.uid(tag)
        case b"PN":
            return header.text(tag).rstrip("=")  # pydicom drops empty groups
        case _:
            return header.text(tag)


def reading_of_pydicom(dataset: pydicom.Dataset, tag: int) -> object:
    value = dataset[tag].value if tag in dataset else None
    values = list(value) if isinstance(value, MultiValue) else [value or ""]
    match tags.INDEX_VRS[tag]:
        case b"DA":
            return dt.date(*DA(value).timetuple()[:3]) if value else None
        case b"TM":
            return TM(value.replace(":", "")).replace() if value else None  # it does not read the colons of old
        case b"IS" | b"US":
            return int(value) if str(value).isdigit() else None
        case _:
            return "\\".join(str(part) for part in values).strip(" \0")


@pytest.mark.parametrize("name", [name for name in FILES if name not in REFUSED])
def test_header_is_what_pydicom_reads(name):
    header = scan_file(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(ROOT / name)
        expected = {tag: reading_of_pydicom(dataset, tag) for tag in tags.INDEX_VRS}
    assert {tag: reading(header, tag) for tag in tags.INDEX_VRS} == expected
    assert header.flags == FLAGGED.get(name, ())


@pytest.mark.parametrize(("name", "code"), REFUSED.items())
def test_refused_files_say_why(name, code):
    with pytest.raises(DatasetError) as caught:
        scan_file(name)
    assert caught.value.code == code


def test_tables_name_files_that_exist():
    assert len(FILES) > 180
    assert (REFUSED.keys() | FLAGGED.keys()) <= set(FILES)
