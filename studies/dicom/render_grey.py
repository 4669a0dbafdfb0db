"""From stored grey values to 256 shades: modality LUT, VOI LUT, inversion (PS3.4 N.2, PS3.3 C.11).

Integers of at most 16 bits go through one table of what each possible value becomes; all else is calculated.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from studies.dicom.render_errors import RenderError

_WHITE: Final = 255.0
_TABLE_BYTES: Final = 2
_PERCENTILES: Final = (0.5, 99.5)
_SAMPLED: Final = 400_000
_AT_ONCE: Final = 1_000_000  # pixels

Values = NDArray[Any]


@dataclass(frozen=True)
class Window:
    """Center and width of a window in the modality's units, and its function (PS3.3 C.11.2.1.2, C.11.2.1.3)."""

    center: float
    width: float
    function: str = "LINEAR"


def shades(pixels: Values, header: Dataset, asked: Window | None = None) -> tuple[NDArray[np.uint8], Window | None]:
    """The frame in 256 shades, dark to bright, and the window that was used (None: a VOI LUT of the object's own).

    The window that was asked for, else the object's VOI LUT, else its first window, else from the 0.5th percentile to
    the 99.5th.
    Raises RenderError when the header's tables make no sense.
    """
    try:
        window = asked or _window_of(header)
        voi_lut = asked is None and bool(header.get("VOILUTSequence"))
        if window is None and not voi_lut:
            window = _window_found(_modality(_sampled(pixels), header))
        if pixels.dtype.kind == "f" or pixels.dtype.itemsize > _TABLE_BYTES:
            return _through(pixels, header, None if voi_lut else window), None if voi_lut else window
        return _looked_up(pixels, header, None if voi_lut else window), None if voi_lut else window
    except RenderError:
        raise
    except MemoryError as error:
        raise RenderError("picture-killed") from error
    except Exception as error:
        raise RenderError("picture-broken") from error


def _looked_up(pixels: Values, header: Dataset, window: Window | None) -> NDArray[np.uint8]:
    """Through a table of what each value between the smallest and the largest becomes; some rows at a time, for an
    index into the table weighs eight bytes a pixel.
    """
    first, high = min(int(pixels.min()), 0), int(pixels.max())
    table = _through(np.arange(first, high + 1, dtype=np.int32), header, window)
    shown = np.empty(pixels.shape, dtype=np.uint8)
    rows = max(_AT_ONCE // max(pixels.shape[1], 1), 1)
    for at in range(0, pixels.shape[0], rows):
        shown[at : at + rows] = table[pixels[at : at + rows].astype(np.intp) - first]
    return shown


def _through(values: Values, header: Dataset, window: Window | None) -> NDArray[np.uint8]:
    modality = _modality(values, header)
    shown = _voi_lut(modality, header) if window is None else windowed(modality, window)
    if _inverse(header):
        shown = _WHITE - shown
    return np.floor(np.nan_to_num(shown) + 0.5).astype(np.uint8)


def _modality(values: Values, header: Dataset) -> Values:
    if header.get("ModalityLUTSequence") and values.dtype.kind != "f":
        looked_up: Values = apply_modality_lut(values, header)
        return looked_up.astype(np.float64)
    slope, intercept = number_of(header.get("RescaleSlope")), number_of(header.get("RescaleIntercept"))
    scaled = values.astype(np.float64)
    if slope not in (None, 0.0, 1.0):
        scaled *= slope
    if intercept:
        scaled += intercept
    return scaled


def _voi_lut(values: Values, header: Dataset) -> Values:
    looked_up: Values = apply_voi(np.rint(values).astype(np.int64), header)
    bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
    most = float(2 ** (bits if 8 <= bits <= 16 else 16) - 1)
    if looked_up.size and float(looked_up.max()) > most:  # the descriptor says fewer bits than there are
        most = float(2**16 - 1)
    return (looked_up.astype(np.float64) * (_WHITE / most)).clip(0, _WHITE)


def windowed(values: Values, window: Window) -> NDArray[np.float64]:
    """0 to 255 by PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT)."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            curve: NDArray[np.float64] = _WHITE / (1.0 + np.exp(-4.0 * (values - center) / width))
        return curve
    if window.function == "LINEAR_EXACT":
        return np.clip(((values - center) / width + 0.5) * _WHITE, 0.0, _WHITE)
    span = max(width - 1.0, 1e-9)
    return np.clip(((values - (center - 0.5)) / span + 0.5) * _WHITE, 0.0, _WHITE)


def _window_of(header: Dataset) -> Window | None:
    center, width = number_of(header.get("WindowCenter")), number_of(header.get("WindowWidth"))
    if center is None or width is None or width <= 0:
        return None
    function = str(header.get("VOILUTFunction", "") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or (function == "LINEAR" and width < 1):
        function = "LINEAR_EXACT" if width < 1 else "LINEAR"
    return Window(center, width, function)


def _window_found(values: Values) -> Window:
    """From percentile to percentile; from the smallest to the largest where these are the same."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Window(0.0, 1.0, "LINEAR_EXACT")
    low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


def _sampled(pixels: Values) -> Values:
    step = max(math.isqrt(pixels.size // _SAMPLED), 1)
    return pixels[::step, ::step]


def _inverse(header: Dataset) -> bool:
    monochrome1 = str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    return monochrome1 or str(header.get("PresentationLUTShape", "")) == "INVERSE"


def number_of(value: Any) -> float | None:
    """The first number of a value that may have several, or none, or not be one."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        value = next(iter(value), None)
    if value is None or value == "":
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
