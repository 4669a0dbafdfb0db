"""imagecodecs as a decoder plugin of pydicom: what its own plugins cannot read without a GPL library.

pydicom's plugins are tried first where there are some; every function here takes one frame's codestream.
"""

from typing import Any, Final

import imagecodecs
import numpy as np
from pydicom.pixels import get_decoder

LABEL: Final = "imagecodecs"
_JPEG: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
_JPEG_LS: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
_JPEG_2000: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
DECODER_DEPENDENCIES: Final = dict.fromkeys(_JPEG | _JPEG_LS | _JPEG_2000, ("numpy", "imagecodecs"))
_LOSSLESS_JPEG: Final = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_COLOURS: Final = 3
_FUNCTIONS: Final = ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode")


def is_available(uid: str) -> bool:
    return str(uid) in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: Any) -> bytes:
    """The frame's samples, colour by pixel, in the container that the codec gives; the runner is told which."""
    uid = str(runner.transfer_syntax)
    frame = _jpeg(src, runner, uid) if uid in _JPEG else _other(src, runner, uid)
    runner.set_option("bits_allocated", 8 * frame.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(frame).tobytes()


def _jpeg(src: bytes, runner: Any, uid: str) -> Any:
    if runner.samples_per_pixel != _COLOURS:
        return imagecodecs.jpeg8_decode(src)
    if uid in _LOSSLESS_JPEG:  # as it is: the data set says what the samples are
        return imagecodecs.jpeg8_decode(src, colorspace="RGB", outcolorspace="RGB")
    frame = imagecodecs.jpeg8_decode(src)
    runner.set_option("photometric_interpretation", "RGB")
    return frame


def _other(src: bytes, runner: Any, uid: str) -> Any:
    if uid in _JPEG_LS:
        return imagecodecs.jpegls_decode(src)
    frame = imagecodecs.jpeg2k_decode(src)
    if runner.samples_per_pixel == _COLOURS and str(runner.photometric_interpretation) in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")
    return frame


def register() -> None:
    """Once in a process; may be repeated. The codecs are loaded now, not at the first picture that needs them."""
    for name in _FUNCTIONS:
        getattr(imagecodecs, name)
    for uid in DECODER_DEPENDENCIES:
        decoder = get_decoder(uid)
        if LABEL not in decoder.available_plugins:
            decoder.add_plugin(LABEL, (__name__, "decode_frame"))
