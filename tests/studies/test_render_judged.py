"""The renderer against dcmj2pnm of DCMTK, over every picture that pydicom and pydicom-data bring, of every syntax."""

import subprocess
from collections import Counter
from pathlib import Path

import data_store
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from studies.dicom.render import image_of
from studies.dicom.render_errors import RenderError
from studies.dicom.render_frames import Frame, frame_read
from tests.dicom_samples import bundled_root

pytestmark = pytest.mark.dcmtk

ROOTS = (bundled_root(), Path(data_store.__file__).parent / "data")
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
# Pixels that DCMTK and pydicom read differently: 32 bits in big endian (DCMTK swaps 16 bits at a time).
DIFFERENT = {"rtdose_expb.dcm", "rtdose_expb_1frame.dcm"}
LEVELS = 2


def pictures() -> list[Path]:
    found = []
    for path in sorted(path for root in ROOTS for path in root.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, ValueError, EOFError, NotImplementedError, OSError):
            continue
        if "Rows" in header and "TransferSyntaxUID" in header.file_meta:
            found.append(path)
    return found


def ours(path: Path) -> tuple[Frame, np.ndarray, object]:
    with path.open("rb") as stream:
        frame = frame_read(stream, 1)
    image, window = image_of(frame)
    return frame, np.asarray(image), window


def judged(path: Path, frame: Frame, window: object, folder: Path) -> np.ndarray | None:
    """What DCMTK makes of it with the same window; None where it cannot read the file."""
    source, syntax = path, str(frame.header.file_meta.TransferSyntaxUID)
    if syntax in JPEG_LS:
        source = folder / "plain.dcm"
        if subprocess.run(["dcmdjpls", str(path), str(source)], capture_output=True, check=False).returncode:
            return None
    target = folder / "judged.pnm"
    target.unlink(missing_ok=True)
    options = ["-O", "--write-raw-pnm", "+F", "1"]
    if not frame.colour:
        options += ["+Ww", str(window.center), str(max(window.width, 1))] if window else ["+Wl", "1"]
    subprocess.run(["dcmj2pnm", *options, str(source), str(target)], capture_output=True, check=False)
    if not target.exists():
        return None
    found = np.asarray(Image.open(target))
    return found[..., 0] if found.ndim == 3 and not frame.colour else found


def test_pictures_are_those_of_dcmtk_within_two_grey_levels(tmp_path: Path) -> None:
    compared: Counter[str] = Counter()
    for path in pictures():
        try:
            frame, image, window = ours(path)
        except RenderError:
            continue
        expected = judged(path, frame, window, tmp_path)
        if expected is None or path.name in DIFFERENT:
            continue
        assert expected.shape == image.shape, path.name
        difference = int(np.abs(expected.astype(int) - image.astype(int)).max())
        assert difference <= LEVELS, (path.name, difference)
        compared[str(frame.header.file_meta.TransferSyntaxUID)] += 1
    assert sum(compared.values()) >= 120, compared
    # uncompressed in every form, RLE, and each JPEG that DCMTK knows
    assert set(compared) >= {*NATIVE, *JPEG_LS, "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50",
                             "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70"}, compared  # fmt: skip


# JPEG 2000 is unknown to DCMTK: the lossless ones are judged by the same picture in another syntax.
TWINS = [
    ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
    ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
    ("MR2_J2KR.dcm", "MR2_UNCR.dcm"),
    ("RG1_J2KR.dcm", "RG1_UNCR.dcm"),
    ("RG3_J2KR.dcm", "RG3_UNCR.dcm"),
    ("US1_J2KR.dcm", "US1_UNCR.dcm"),
    ("emri_small_jpeg_2k_lossless.dcm", "emri_small.dcm"),
]


@pytest.mark.parametrize(("packed", "plain"), TWINS)
def test_lossless_twins_look_the_same(packed: str, plain: str) -> None:
    by_name = {path.name: path for path in pictures()}
    np.testing.assert_array_equal(ours(by_name[packed])[1], ours(by_name[plain])[1])


@pytest.mark.parametrize("frame", [1, 7, 10])
def test_each_frame_is_the_one_that_is_asked_for(tmp_path: Path, frame: int) -> None:
    path = ROOTS[1] / "emri_small.dcm"
    with path.open("rb") as stream:
        image, window = image_of(frame_read(stream, frame))
    target = tmp_path / "judged.pnm"
    options = ["+F", str(frame), "+Ww", str(window.center), str(window.width)]
    subprocess.run(["dcmj2pnm", "--write-raw-pnm", *options, str(path), str(target)], check=True, capture_output=True)
    difference = np.abs(np.asarray(Image.open(target)).astype(int) - np.asarray(image).astype(int))
    assert difference.max() <= LEVELS


def test_every_syntax_of_the_bundled_files_is_read() -> None:
    syntaxes: dict[str, list[bool]] = {}
    for path in pictures():
        header: Dataset = dcmread(path, stop_before_pixels=True)
        done = syntaxes.setdefault(str(header.file_meta.TransferSyntaxUID), [])
        try:
            ours(path)
            done.append(True)
        except RenderError:
            done.append(False)
    assert len(syntaxes) >= 12
    assert {uid for uid, done in syntaxes.items() if not any(done)} == set()
