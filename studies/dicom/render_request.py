"""What a picture is asked with. Light: the web imports this, and neither numpy nor a codec."""

from dataclasses import dataclass
from typing import Final

RENDERER_VERSION: Final = 1  # part of every cache name: another look, other names
FORMATS: Final = {"png": "image/png", "jpeg": "image/jpeg"}
MAX_SIZE: Final = 4096


@dataclass(frozen=True)
class Request:
    """What is wanted. `frame` from 1, 0 for the one that stands for all. `size`: the longer side at most.

    `sha256`: of the data set, when the file is to be checked first.
    """

    frame: int = 0
    center: float | None = None
    width: float | None = None
    size: int = MAX_SIZE
    format: str = "png"
    sha256: str = ""
