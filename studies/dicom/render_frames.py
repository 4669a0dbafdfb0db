"""One decoded frame of a stored object, with what is needed to show it. Runs only where it may be killed.

Bounds are checked from the header before anything is decoded: a peer's Rows and Columns allocate nothing by themselves.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.processing import apply_color_lut

from studies.dicom import render_codecs
from studies.dicom.render_errors import NO_PICTURES, VIDEO_FAMILIES, RenderError, without_pixels

MAX_SAMPLES: Final = 100_000_000
MAX_SIDE: Final = 65_535
MAX_FRAMES: Final = 2**31 - 1
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
# Retired (JPEG Full Progression): the codestream says itself what it is.
_DECODED_AS: Final = {"1.2.840.10008.1.2.4.55": "1.2.840.10008.1.2.4.51"}
_COLOURS: Final = 3
_PIXEL_KEYWORDS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Frame:
    """One frame: grey values as stored (sign extended), or RGB of 8 bits; `header` with its own functional groups."""

    pixels: Pixels
    header: Dataset
    number: int
    frames: int

    @property
    def colour(self) -> bool:
        return self.pixels.ndim == _COLOURS


def frame_read(stream: BinaryIO, number: int = 0) -> Frame:
    """Frame `number` (from 1; 0 for the representative one, else the middle). Raises RenderError."""
    try:
        header, source = _header(stream)
    except RenderError:
        raise
    except Exception as error:
        raise RenderError("picture-broken") from error
    frames = _checked(header)
    number = number or _representative(header, frames)
    if not 1 <= number <= frames:
        raise RenderError("picture-frame-missing")
    pixels = _decoded(source, header, number - 1)
    return Frame(_shown(pixels, header), _with_groups(header, number - 1), number, frames)


def _header(stream: BinaryIO) -> tuple[Dataset, Any]:
    """The header, and what its frames are decoded from: the stream, or a whole data set where that was deflated."""
    render_codecs.register()
    header = dcmread(stream, stop_before_pixels=True)
    syntax = str(header.file_meta.TransferSyntaxUID)
    sop_class = str(header.get("SOPClassUID", ""))
    words = NO_PICTURES.get(sop_class) or ("" if "Rows" in header else without_pixels(sop_class))
    if words:
        raise RenderError("picture-none", words)
    if syntax.startswith(VIDEO_FAMILIES) and syntax != "1.2.840.10008.1.2.4.110":
        raise RenderError("picture-unsupported", "A video: it plays in a viewer, not on this page.")
    try:
        get_decoder(_DECODED_AS.get(syntax, syntax))
    except NotImplementedError as error:
        raise RenderError("picture-unsupported") from error
    stream.seek(0)
    if syntax == _DEFLATED:
        whole = dcmread(stream)
        return whole, whole
    return header, stream


def _checked(header: Dataset) -> int:
    """How many frames; RenderError unless the header describes pixels that this process may allocate."""
    if "Rows" not in header or "Columns" not in header:
        raise RenderError("picture-none")
    rows, columns = _integer(header, "Rows"), _integer(header, "Columns")
    samples, bits = _integer(header, "SamplesPerPixel", 1), _integer(header, "BitsAllocated", 0)
    frames = _integer(header, "NumberOfFrames", 1) or 1
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE and samples in (1, _COLOURS)):
        raise RenderError("picture-broken")
    if bits not in (1, 8, 16, 32, 64) or not 1 <= frames <= MAX_FRAMES:
        raise RenderError("picture-broken")
    if rows * columns * samples > MAX_SAMPLES:
        raise RenderError("picture-too-large")
    return frames


def _integer(header: Dataset, keyword: str, otherwise: int = -1) -> int:
    value = header.get(keyword)
    if value is None or value == "":
        return otherwise
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RenderError("picture-broken") from error


def _representative(header: Dataset, frames: int) -> int:
    chosen = _integer(header, "RepresentativeFrameNumber", 0)
    return chosen if 1 <= chosen <= frames else (frames + 1) // 2


def _decoded(source: Any, header: Dataset, index: int) -> Pixels:
    syntax = str(header.file_meta.TransferSyntaxUID)
    options: dict[str, Any] = {}
    if syntax in _DECODED_AS:
        options["transfer_syntax_uid"] = _DECODED_AS[syntax]
    try:
        pixels: Pixels = pixel_array(source, index=index, **options)
    except NotImplementedError as error:
        raise RenderError("picture-unsupported") from error
    except MemoryError as error:
        raise RenderError("picture-killed") from error
    except AttributeError as error:
        missing = "no 'Pixel Data'" in str(error) or "no pixel data" in str(error)
        raise RenderError("picture-none" if missing else "picture-broken") from error
    except Exception as error:
        raise RenderError("picture-broken") from error
    if pixels.shape[:2] != (header.Rows, header.Columns):
        raise RenderError("picture-broken")
    return pixels


def _shown(pixels: Pixels, header: Dataset) -> Pixels:
    """Grey values without foreign bits and with their sign, or RGB in 8 bits."""
    photometric = str(header.get("PhotometricInterpretation", ""))
    if pixels.ndim == _COLOURS:
        return _eight_bits(pixels, header)
    if photometric == "PALETTE COLOR":
        try:
            return _palette(pixels, header)
        except Exception as error:
            raise RenderError("picture-broken") from error
    if pixels.dtype.kind == "f":
        return pixels
    return _stored_values(pixels, header)


def _palette(pixels: Pixels, header: Dataset) -> Pixels:
    coloured: Pixels = apply_color_lut(_stored_values(pixels, header), header)
    if coloured.dtype.itemsize == 1:
        return coloured[..., :_COLOURS]
    # the tables may say 16 bits and hold 8 (PS3.3 C.7.6.3.1.6 allows it)
    shift = 8 if int(coloured.max(initial=0)) > 255 else 0
    return (coloured[..., :_COLOURS] >> shift).astype(np.uint8)


def _eight_bits(pixels: Pixels, header: Dataset) -> Pixels:
    if pixels.dtype.itemsize == 1:
        return pixels.astype(np.uint8)
    stored = int(header.get("BitsStored", 8 * pixels.dtype.itemsize))
    return (pixels >> max(stored - 8, 0)).clip(0, 255).astype(np.uint8)


def _stored_values(pixels: Pixels, header: Dataset) -> Pixels:
    """Bits outside of Bits Stored may hold an old overlay, and a codec need not extend the sign."""
    size = 8 * pixels.dtype.itemsize
    stored = min(int(header.get("BitsStored") or size), size)
    high = int(header.get("HighBit", stored - 1) or stored - 1)
    if stored == size or header.file_meta.TransferSyntaxUID.is_encapsulated:
        high = stored - 1
    left = size - 1 - high
    if not 0 <= left <= size - stored:
        raise RenderError("picture-broken")
    if stored == size:
        return pixels
    return (pixels << left) >> (size - stored)  # arithmetic for signed, logical for unsigned values


def _with_groups(header: Dataset, index: int) -> Dataset:
    """The header with the frame's own functional groups on its top level (PS3.3 C.7.6.16)."""
    shared, each = header.get("SharedFunctionalGroupsSequence"), header.get("PerFrameFunctionalGroupsSequence")
    groups = ([shared[0]] if shared else []) + ([each[index]] if each and index < len(each) else [])
    if not groups:
        return header
    flat = Dataset()
    flat.update(header)
    flat.file_meta = header.file_meta
    for group in groups:
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence"):
            found = group.get(keyword)
            if found:
                flat.update(found[0])
    return flat
