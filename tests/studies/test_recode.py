"""Re-encoding without coding pixels: every native file of pydicom's in every encoding, judged by pydicom and DCMTK."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_files
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from studies.dicom.errors import DatasetError
from studies.dicom.part10 import file_meta_read
from studies.dicom.recode import NATIVE, alternatives, recode
from studies.dicom.syntax import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE


def native_files() -> list[Path]:
    found = []
    for name in get_testdata_files("*.dcm"):
        path = Path(name)
        with path.open("rb") as stream:
            try:
                meta = file_meta_read(stream)
            except DatasetError:
                continue
        if meta.transfer_syntax_uid in NATIVE and path.stat().st_size < 2_000_000:
            found.append(path)
    return sorted(found)


FILES = native_files()


def recoded(path: Path, to_uid: str) -> tuple[str, bytes]:
    with path.open("rb") as stream:
        meta = file_meta_read(stream)
        stream.seek(meta.dataset_offset)
        out = io.BytesIO()
        size = recode(
            stream,
            path.stat().st_size - meta.dataset_offset,
            from_uid=meta.transfer_syntax_uid,
            to_uid=to_uid,
            out=out,
        )
    assert size == len(out.getvalue())
    return meta.transfer_syntax_uid, out.getvalue()


def part10(path: Path, to_uid: str, dataset: bytes) -> bytes:
    """The file with the other data set under a meta that says so."""
    meta = dcmread(path, stop_before_pixels=True, force=True).file_meta
    meta.TransferSyntaxUID = UID(to_uid)
    stream = io.BytesIO()
    write_file_meta_info(stream, meta, enforce_standard=False)
    return bytes(128) + b"DICM" + stream.getvalue() + dataset


def values(dataset: Dataset) -> dict[object, object]:
    """Every element that has the same meaning in any encoding, sequences by their items."""
    found: dict[object, object] = {}
    for element in dataset:
        if element.tag.element == 0 or element.tag.is_private or element.VR == "UN":
            continue
        if " or " in dictionary_VR(element.tag):
            continue  # without VRs pydicom may take such a value for the other; a test of its own is below
        if element.VR == "SQ":
            found[element.tag] = [values(item) for item in element.value]
        elif element.tag != 0x7FE00010 and element.VR not in ("OW", "OB"):
            found[element.tag] = element.value
    return found


def pixels(dataset: Dataset) -> object:
    try:
        return dataset.pixel_array
    except (AttributeError, ValueError, NotImplementedError, RuntimeError):
        return None


def test_there_is_something_to_try():
    kinds = set()
    for path in FILES:
        with path.open("rb") as stream:
            kinds.add(file_meta_read(stream).transfer_syntax_uid)
    assert kinds == set(NATIVE)
    assert len(FILES) > 40


@pytest.mark.parametrize("to_uid", NATIVE)
def test_every_native_file_says_the_same_in_every_encoding(to_uid: str):
    tried = 0
    for path in FILES:
        before = dcmread(path)
        if to_uid not in alternatives(before.file_meta.TransferSyntaxUID):
            continue
        try:
            _syntax, dataset = recoded(path, to_uid)
        except DatasetError as error:
            assert "truncated" in path.name or "pixels of more than 16 bits" in str(error), path.name  # noqa: PT017
            continue
        after = dcmread(io.BytesIO(part10(path, to_uid, dataset)))
        assert values(after) == values(before), path.name
        ours, theirs = pixels(after), pixels(before)
        if theirs is not None:
            assert np.array_equal(ours, theirs), path.name
        tried += 1
    assert tried > 8


@pytest.mark.parametrize("to_uid", NATIVE)
@pytest.mark.dcmtk
def test_dcmtk_reads_what_was_recoded_and_gives_the_same(tmp_path: Path, to_uid: str):
    """Back by DCMTK's dcmconv to implicit little endian, it is what dcmconv makes of the original."""
    for name in ("CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "image_dfl.dcm", "rtplan.dcm"):
        path = next(one for one in FILES if one.name == name)
        if to_uid not in alternatives(dcmread(path).file_meta.TransferSyntaxUID):
            continue
        _syntax, dataset = recoded(path, to_uid)
        (tmp_path / "ours.dcm").write_bytes(part10(path, to_uid, dataset))
        for source, target in ((tmp_path / "ours.dcm", "a.dcm"), (path, "b.dcm")):
            command = ["dcmconv", "-q", "+ti", "-g", "+e", str(source), str(tmp_path / target)]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        one, other = dcmread(tmp_path / "a.dcm"), dcmread(tmp_path / "b.dcm")
        assert values(one) == values(other), name
        assert one.get("PixelData") == other.get("PixelData"), name


def test_compressed_pixels_have_no_other_encoding():
    assert alternatives("1.2.840.10008.1.2.4.90") == ()
    with pytest.raises(DatasetError):
        recode(io.BytesIO(b""), 0, from_uid="1.2.840.10008.1.2.4.90", to_uid=EXPLICIT_LITTLE, out=io.BytesIO())


SEQUENCE = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff"


@pytest.mark.parametrize(
    "dataset",
    [
        b"\x08\0\x18\0UI\x10\0short",
        b"\x08\0",
        SEQUENCE,
        b"\x08\0\x40\x11SQ\0\0\x08\0\0\0\x08\0\x18\0\0\0\0\0",
        SEQUENCE + (b"\xfe\xff\0\xe0\xff\xff\xff\xff" + SEQUENCE) * 100,
        b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0",
    ],
)  # fmt: skip
def test_what_cannot_be_walked_is_refused(dataset: bytes):
    with pytest.raises(DatasetError):
        recode(io.BytesIO(dataset), len(dataset), from_uid=EXPLICIT_LITTLE, to_uid=IMPLICIT_LITTLE, out=io.BytesIO())


def test_signed_pixels_make_signed_elements():
    """Smallest Image Pixel Value (0028,0106) is US or SS by Pixel Representation."""
    element = b"\x28\0\x03\x01\x02\0\0\0\1\0" + b"\x28\0\x06\x01\x02\0\0\0\xfe\xff"
    out = io.BytesIO()
    recode(io.BytesIO(element), len(element), from_uid=IMPLICIT_LITTLE, to_uid=EXPLICIT_LITTLE, out=out)
    assert out.getvalue() == b"\x28\0\x03\x01US\x02\0\1\0" + b"\x28\0\x06\x01SS\x02\0\xfe\xff"


def test_value_too_long_for_its_vr_becomes_unknown():
    """70,000 bytes of an LO fit into implicit VR alone (PS3.5 6.2.2)."""
    element = b"\x08\0\x70\0" + (70_000).to_bytes(4, "little") + b"A" * 70_000
    out = io.BytesIO()
    recode(io.BytesIO(element), len(element), from_uid=IMPLICIT_LITTLE, to_uid=EXPLICIT_LITTLE, out=out)
    assert out.getvalue()[:12] == b"\x08\0\x70\0UN\0\0" + (70_000).to_bytes(4, "little")


def test_swapping_back_gives_the_same_bytes():
    (path,) = [one for one in FILES if one.name == "MR_small.dcm"]
    big = recoded(path, EXPLICIT_BIG)[1]
    out = io.BytesIO()
    recode(io.BytesIO(big), len(big), from_uid=EXPLICIT_BIG, to_uid=EXPLICIT_LITTLE, out=out)
    again = io.BytesIO()
    deflated = recoded(path, DEFLATED_LITTLE)[1]
    recode(io.BytesIO(deflated), len(deflated), from_uid=DEFLATED_LITTLE, to_uid=EXPLICIT_LITTLE, out=again)
    assert out.getvalue() == again.getvalue()
