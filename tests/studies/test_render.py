"""The renderer by itself: windows, tables, syntaxes that no bundled file has, shapes, and what is no picture."""

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from studies.dicom.render import render
from studies.dicom.render_errors import RenderError
from studies.dicom.render_frames import frame_read
from studies.dicom.render_grey import Window, windowed
from studies.dicom.render_request import Request

CT = "1.2.840.10008.5.1.4.1.1.2"
RAMP = np.arange(0, 4096, dtype=np.uint16).reshape(64, 64)


def part10(
    pixels: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, frames: list[bytes] | None = None, **values: Any
) -> io.BytesIO:
    """One object as a file; `frames` are codestreams. `values` by keyword, None removes."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, CT
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
    shape = pixels.shape[:-1] if colour else pixels.shape
    dataset.Rows, dataset.Columns = shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = values.pop("BitsStored", dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if len(shape) == 3:
        dataset.NumberOfFrames = shape[0]
    for keyword, value in values.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.PixelData = encapsulate(frames) if frames else pixels.tobytes()
    dataset["PixelData"].VR = "OB" if frames or pixels.dtype.itemsize == 1 else "OW"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return file


def picture(file: io.BytesIO, **request: Any) -> tuple[Any, np.ndarray]:
    facts, data = render(file, Request(**request))
    return facts, np.asarray(Image.open(io.BytesIO(data)))


def code_of(file: io.BytesIO, **request: Any) -> str:
    with pytest.raises(RenderError) as caught:
        render(file, Request(**request))
    return caught.value.code


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(100, 50), [0, 0, 0, 132.7, 255, 255]),  # by hand from PS3.3 C.11.2.1.2.1
        (Window(100, 50, "LINEAR_EXACT"), [0, 0, 0, 127.5, 255, 255]),
        (Window(100, 50, "SIGMOID"), [0.085, 0.1, 30.4, 127.5, 224.6, 254.9]),
        (Window(100, 1), [0, 0, 0, 255, 255, 255]),
    ],
)
def test_windows_are_those_of_the_standard(window: Window, expected: list[float]) -> None:
    values = np.array([0, 2, 75, 100, 125, 200], dtype=float)
    if window.function == "LINEAR" and window.width > 1:
        values[2], values[4] = 75, 125
    np.testing.assert_allclose(windowed(values, window), expected, atol=2.7)


def test_asked_window_goes_before_all_others() -> None:
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 8], bytes(4096)
    file = part10(RAMP, WindowCenter=1, WindowWidth=2, VOILUTSequence=Sequence([lut]))
    facts, shown = picture(file, center=2048, width=4096)
    assert (facts.center, facts.width) == (2048, 4096)
    assert (shown[0, 0], shown[63, 63]) == (0, 255)


def test_voi_lut_goes_before_the_window() -> None:
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 12], (4095 - np.arange(4096, dtype=np.uint16)).tobytes()
    file = part10(RAMP, WindowCenter=1, WindowWidth=2, VOILUTSequence=Sequence([lut]))
    facts, shown = picture(file)
    assert facts.center is None
    assert (shown[0, 0], shown[63, 63]) == (255, 0)


def test_first_of_several_windows_and_modality_rescale() -> None:
    file = part10(RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[0, 5], WindowWidth=[2000, 7])
    facts, shown = picture(file)
    assert (facts.center, facts.width) == (0, 2000)
    assert abs(int(shown.reshape(-1)[500]) - 128) <= 1


def test_modality_lut_is_looked_up() -> None:
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 16], (np.arange(4096, dtype=np.uint16) // 2).tobytes()
    lut.ModalityLUTType = "US"
    _facts, shown = picture(part10(RAMP, ModalityLUTSequence=Sequence([lut]), WindowCenter=1024, WindowWidth=2048))
    assert abs(int(shown.reshape(-1)[2048]) - 128) <= 1


def test_without_a_window_the_percentiles_are_taken() -> None:
    pixels = RAMP.copy()
    pixels[0, 0] = 65535  # one hot pixel does not make the rest black
    _facts, shown = picture(part10(pixels))
    assert shown.max() == 255
    assert 110 < np.median(shown) < 145


@pytest.mark.parametrize(
    "more",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_inverse_objects_are_shown_the_right_way_once(more: dict[str, str]) -> None:
    _facts, shown = picture(part10(RAMP, WindowCenter=2048, WindowWidth=4096, **more))
    assert (shown[0, 0], shown[63, 63]) == (255, 0)


def test_foreign_bits_are_cut_and_signs_extended() -> None:
    stored = (np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64) & 0x0FFF).astype(np.uint16) | 0x3000
    file = part10(stored.view(np.int16), BitsStored=12)
    assert frame_read(file).pixels.reshape(-1).tolist() == list(range(-2048, 2048))


def test_functional_groups_of_the_frame_count() -> None:
    def group(center: float, slope: float) -> Dataset:
        voi, transform, both = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 100
        transform.RescaleSlope, transform.RescaleIntercept = slope, 0
        both.FrameVOILUTSequence = Sequence([voi])
        both.PixelValueTransformationSequence = Sequence([transform])
        return both

    pixels = np.stack([np.full((8, 8), 100, np.uint16)] * 2)
    file = part10(pixels, PerFrameFunctionalGroupsSequence=Sequence([group(100, 1), group(300, 3)]))
    assert picture(file, frame=1)[0].center == 100
    file.seek(0)
    facts, shown = picture(file, frame=2)
    assert (facts.frame, facts.frames, facts.center) == (2, 2, 300)
    assert abs(int(shown[0, 0]) - 128) <= 2


@pytest.mark.parametrize(
    ("values", "chosen"), [({}, 2), ({"RepresentativeFrameNumber": 3}, 3), ({"RepresentativeFrameNumber": 9}, 2)]
)
def test_frame_that_stands_for_all_is_the_representative_one_or_the_middle(values, chosen) -> None:
    pixels = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 30)])
    assert picture(part10(pixels, **values))[0].frame == chosen


@pytest.mark.parametrize("frame", [4, 1000])
def test_frame_that_is_not_there(frame: int) -> None:
    assert code_of(part10(np.zeros((3, 4, 4), np.uint8)), frame=frame) == "picture-frame-missing"


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"PixelSpacing": [2, 1]}, (64, 128)),
        ({"PixelSpacing": [1, 2]}, (128, 64)),
        ({"PixelAspectRatio": [1, 2]}, (128, 64)),
        ({"PixelSpacing": [1.001, 1]}, (64, 64)),
        ({"PixelSpacing": [1, 0]}, (64, 64)),
        ({"PixelSpacing": [1e9, 1]}, (64, 64)),
    ],
)
def test_pixels_are_made_square_within_reason(values: dict[str, Any], size: tuple[int, int]) -> None:
    _facts, shown = picture(part10(RAMP, **values))
    assert shown.shape[::-1] == size


def test_size_bounds_the_longer_side_and_never_enlarges() -> None:
    wide = np.tile(RAMP, (1, 4))
    assert picture(part10(wide), size=64)[1].shape == (16, 64)
    assert picture(part10(np.tile(RAMP, (9, 36))), size=64)[1].shape == (16, 64)
    assert picture(part10(wide), size=4000)[1].shape == (64, 256)
    assert picture(part10(RAMP, PixelSpacing=[9, 1]), size=300)[1].shape == (300, 33)


JPEG_2000 = {
    "1.2.840.10008.1.2.4.201": imagecodecs.htj2k_encode,
    "1.2.840.10008.1.2.4.202": imagecodecs.htj2k_encode,
    "1.2.840.10008.1.2.4.57": lambda frame: imagecodecs.jpeg8_encode(frame, lossless=True, predictor=4),
    "1.2.840.10008.1.2.4.70": lambda frame: imagecodecs.jpeg8_encode(frame, lossless=True, predictor=1),
    "1.2.840.10008.1.2.4.90": lambda frame: imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k"),
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_encode,
}


@pytest.mark.parametrize("syntax", JPEG_2000)
@pytest.mark.parametrize("pixels", [RAMP, RAMP.astype(np.uint8), np.stack([RAMP.astype(np.uint8)] * 3, axis=-1)],
                         ids=["grey16", "grey8", "rgb"])  # fmt: skip
def test_lossless_syntaxes_give_the_pixels_that_were_encoded(syntax: str, pixels: np.ndarray) -> None:
    file = part10(pixels, syntax=syntax, frames=[JPEG_2000[syntax](pixels)])
    np.testing.assert_array_equal(frame_read(file).pixels, pixels)


def test_progressive_jpeg_of_the_retired_syntax_is_read() -> None:
    smooth = np.linspace(0, 255, 4096).reshape(64, 64).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=95, progressive=True)
    stream = buffer.getvalue()
    frame = frame_read(part10(smooth, syntax="1.2.840.10008.1.2.4.55", frames=[stream + bytes(len(stream) % 2)]))
    assert np.abs(frame.pixels.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.58", "1.2.3"]
)
def test_compression_that_is_not_read_is_said(syntax: str) -> None:
    assert code_of(part10(RAMP, syntax=syntax, frames=[bytes(16)])) == "picture-unsupported"


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.104.1",
                                       "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"])  # fmt: skip
def test_objects_that_are_no_pictures_say_what_they_are(sop_class: str) -> None:
    keywords = {} if sop_class.endswith("66.4") else {"Rows": None, "Columns": None}
    with pytest.raises(RenderError, match=r"report|document|structure set|segmentation") as caught:
        render(part10(RAMP, SOPClassUID=sop_class, **keywords), Request())
    assert caught.value.code == "picture-none"


def test_file_is_checked_before_it_is_decoded() -> None:
    assert code_of(part10(RAMP), sha256="0" * 64) == "picture-file-damaged"
    assert code_of(io.BytesIO(b"not DICOM"), sha256="0" * 64) == "picture-file-damaged"


def test_the_same_picture_every_time() -> None:
    first, second = part10(RAMP), part10(RAMP)
    assert render(first, Request(format="jpeg"))[1] == render(second, Request(format="jpeg"))[1]
