"""A stored object as a picture: one frame decoded, windowed, fitted and encoded as PNG or JPEG.

Pure, and meant for a process that may be killed (`render_worker`): whatever a peer put into the bytes, the worst that
comes of it is a RenderError, or the end of that process. Overlays are not drawn.
"""

import hashlib
import io
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, Final

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset

from studies.dicom.errors import DatasetError
from studies.dicom.part10 import file_meta_read
from studies.dicom.render_errors import RenderError
from studies.dicom.render_frames import Frame, frame_read
from studies.dicom.render_grey import Window, number_of, shades
from studies.dicom.render_request import FORMATS, Request

_MAX_RATIO: Final = 10.0
_SQUARE: Final = 0.01
_JPEG_QUALITY: Final = 88
_FINER: Final = 4
_PIECE: Final = 1 << 20
_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True)
class Facts:
    """What the picture shows: which frame of how many, the window, whether grey, and the size in pixels as stored."""

    frame: int
    frames: int
    rows: int
    columns: int
    colour: bool
    center: float | None
    width: float | None
    format: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def render(stream: BinaryIO, request: Request) -> tuple[Facts, bytes]:
    """The picture and its facts, from a Part 10 file that can be read and sought. Raises RenderError."""
    if request.sha256:
        _check(stream, request.sha256)
    frame = frame_read(stream, request.frame)
    asked = None
    if request.center is not None and request.width is not None:
        asked = Window(request.center, request.width, "LINEAR" if request.width >= 1 else "LINEAR_EXACT")
    image, window = image_of(_decimated(frame, request.size), asked)
    rows, columns = frame.pixels.shape[:2]
    facts = Facts(
        frame=frame.number,
        frames=frame.frames,
        rows=rows,
        columns=columns,
        colour=frame.colour,
        center=window.center if window else None,
        width=window.width if window else None,
        format=request.format,
    )
    return facts, _encoded(fitted(image, frame.header, request.size), request.format)


def warm_up() -> None:
    """Loads what the first picture would load."""
    for form in FORMATS:
        _encoded(Image.fromarray(np.zeros((2, 2), np.uint8)).resize((1, 1)), form)


def _decimated(frame: Frame, size: int) -> Frame:
    """For a thumbnail of a large picture: no more pixels than a good reduction needs."""
    step = max(frame.pixels.shape[:2]) // (_FINER * size)
    return replace(frame, pixels=frame.pixels[::step, ::step]) if step > 1 else frame


def image_of(frame: Frame, asked: Window | None = None) -> tuple[Image.Image, Window | None]:
    """The frame pixel by pixel in 256 shades or in RGB, and the window that grey values were seen through."""
    if frame.colour:
        return Image.fromarray(np.ascontiguousarray(frame.pixels)), None
    grey, window = shades(frame.pixels, frame.header, asked)
    return Image.fromarray(grey), window


def fitted(image: Image.Image, header: Dataset, size: int) -> Image.Image:
    """With square pixels, and no side longer than `size`; never enlarged otherwise."""
    width, height = float(image.width), float(image.height)
    ratio = _pixel_ratio(header)
    if ratio > 1:
        height *= ratio
    else:
        width /= ratio
    shrink = min(1.0, size / max(width, height))
    wanted = (max(round(width * shrink), 1), max(round(height * shrink), 1))
    return image if wanted == image.size else image.resize(wanted, Image.Resampling.BILINEAR, reducing_gap=3.0)


def _pixel_ratio(header: Dataset) -> float:
    """Height of a pixel by its width; 1 where it is not told, nearly 1, or beyond belief."""
    for keyword in (*_SPACINGS, "PixelAspectRatio"):
        value = header.get(keyword)
        if not value or isinstance(value, str) or len(value) != 2:
            continue
        down, across = number_of(value[0]), number_of(value[1])
        if down and across and down > 0 and across > 0:
            ratio = down / across
            return ratio if abs(ratio - 1) > _SQUARE and 1 / _MAX_RATIO < ratio < _MAX_RATIO else 1.0
    return 1.0


def _encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    if form == "jpeg":
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _check(stream: BinaryIO, sha256: str) -> None:
    """The stored data set is the one that was received, or RenderError."""
    try:
        file_meta_read(stream)
    except DatasetError as error:
        raise RenderError("picture-file-damaged") from error
    digest = hashlib.sha256()
    while piece := stream.read(_PIECE):
        digest.update(piece)
    if digest.hexdigest() != sha256:
        raise RenderError("picture-file-damaged")
    stream.seek(0)
