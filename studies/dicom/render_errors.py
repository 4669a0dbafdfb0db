"""Why there is no picture: stable codes, and words for whoever looks for one."""

from typing import Final

from studies.dicom.errors import DicomError

_WORDS: Final = {
    "picture-none": "This object holds no picture.",
    "picture-frame-missing": "The object has no such frame.",
    "picture-too-large": "The picture is larger than the gateway decodes for a page.",
    "picture-unsupported": "The gateway cannot decode this kind of compression; the object itself is whole.",
    "picture-broken": "The picture's data is damaged, or not what its header says. The object is kept as it came.",
    "picture-file-damaged": "The stored file is not what was received: its hash differs.",
    "picture-file-missing": "The file is not there any more.",
    "picture-slow": "Decoding the picture took too long and was ended.",
    "picture-killed": "Decoding the picture needed too much memory, or its process died over it.",
    "picture-off": "Pictures are switched off (PICTURES.PROCESSES).",
    "picture-busy": "Too many pictures are being made at this moment. Try again in a few seconds.",
}
CODES: Final = tuple(_WORDS)


class RenderError(DicomError):
    """No picture, by a stable `code`; `detail` says more in words that hold nothing of a dataset."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail or _WORDS[code], code=code, permanent=code != "picture-busy")


# Objects that are no pictures though some hold pixels, by SOP class; what each is, for a person.
NO_PICTURES: Final = {
    "1.2.840.10008.5.1.4.1.1.66.4": "A segmentation: it marks regions of other images and is no picture by itself.",
    "1.2.840.10008.5.1.4.1.1.66.7": "A segmentation: it marks regions of other images and is no picture by itself.",
    "1.2.840.10008.5.1.4.1.1.66.5": "A surface segmentation: it holds shapes, no picture.",
    "1.2.840.10008.5.1.4.1.1.481.3": "A radiotherapy structure set: it holds contours, no picture.",
    "1.2.840.10008.5.1.4.1.1.481.5": "A radiotherapy plan: it holds no picture.",
    "1.2.840.10008.5.1.4.1.1.481.8": "A radiotherapy plan: it holds no picture.",
    "1.2.840.10008.5.1.4.1.1.66": "Raw data of a device: it holds no picture.",
}
_NO_PICTURE_FAMILIES: Final = (
    ("1.2.840.10008.5.1.4.1.1.88.", "A structured report: it holds text, no picture."),
    ("1.2.840.10008.5.1.4.1.1.104.", "A document (PDF or the like) within DICOM: it holds no picture."),
    ("1.2.840.10008.5.1.4.1.1.11.", "A presentation state: it says how to show other images."),
    ("1.2.840.10008.5.1.4.1.1.9.", "A waveform (ECG or the like): it holds curves, no picture."),
    ("1.2.840.10008.5.1.4.1.1.481.", "A radiotherapy object without a picture."),
    ("1.2.840.10008.5.1.4.1.1.66.", "A registration or fiducials: it holds no picture."),
)
VIDEO_FAMILIES: Final = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.4.11")


def without_pixels(sop_class_uid: str) -> str:
    """What an object without Pixel Data is, by its SOP class; for one that is known to have none."""
    known = NO_PICTURES.get(sop_class_uid)
    if known:
        return known
    for prefix, words in _NO_PICTURE_FAMILIES:
        if sop_class_uid.startswith(prefix):
            return words
    return ""
