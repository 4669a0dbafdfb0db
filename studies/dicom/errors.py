"""What can be wrong with DICOM bytes: one base, stable codes, messages without patient data."""

_ADVICE = {
    "ae-title-invalid": (
        "An AE title must be 1 to 16 printable ASCII characters without a backslash: correct it in the configuration."
    ),
    "class-uid-differs": "The SOP Class UID of the data set differs from the command's: check the sender.",
    "dataset-empty": "The dataset holds no element: ask the sender to send the object again.",
    "dataset-forbidden-group": (
        "A command or file meta element stands inside the dataset: the sender wrote it wrongly."
    ),
    "dataset-malformed": "The bytes do not follow the encoding rules of PS3.5: check the sender.",
    "dataset-too-deep": "Sequences are nested deeper than the limit: raise the limit if it is genuine.",
    "dataset-too-many-elements": "There are more elements than the limit: raise the limit if it is genuine.",
    "dataset-too-many-items": "There are more items than the limit: raise the limit if it is genuine.",
    "dataset-truncated": "The dataset ends in the middle of an element: ask the sender to send the object again.",
    "deflate-invalid": (
        "The deflated dataset cannot be inflated: ask the sender to send the object again, or uncompressed."
    ),
    "deflate-too-large": "The deflated dataset inflates beyond the limit: raise the limit if it is genuine.",
    "encapsulation-invalid": "The encapsulated Pixel Data has no offset table item: check the sender.",
    "file-meta-malformed": "The File Meta Information cannot be read: export it again from its source.",
    "file-meta-no-transfer-syntax": "The File Meta Information names no Transfer Syntax: export it again.",
    "identity-missing": "A UID that identifies the instance is absent: check the sender.",
    "instance-uid-differs": "The SOP Instance UID of the data set differs from the command's: check the sender.",
    "not-part10": (
        "The file is not a DICOM Part 10 file: remove it from the import, or export it again from its source."
    ),
    "object-damaged": (
        "The stored bytes are not what came over the wire: check the disk, and ask the sender to send the object again."
    ),
    "recovery-killed": (
        "Whoever took this object in after a crash was killed over it, again and again: keep it for those who can tell "
        "why, and ask the sender to send it again."
    ),
    "source-strict": (
        "The object has flaws that are not accepted of this source: correct the sender, or make its policy lenient."
    ),
    "transfer-syntax-mismatch": (
        "The bytes are not in the Transfer Syntax they are declared in: check the sender's settings."
    ),
    "uid-invalid": "A UID holds something else than digits and dots, or over 64 of them: check the sender.",
}


class DicomError(Exception):
    """Says by a stable `code` what is wrong and by its message what to do, never with a value from a dataset.

    `permanent` means that trying the same again will fail again.
    """

    def __init__(self, message: str, *, code: str, permanent: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.permanent = permanent


class DatasetError(DicomError):
    """Unreadable, truncated, mismatched or unidentified bytes: to be refused or quarantined, never acknowledged.

    The message belongs to the code; `detail` adds tags, counts and limits, nothing else.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.detail = detail
        advice = _ADVICE.get(code, "The object cannot be accepted: quarantine it and check the sender.")
        super().__init__(f"{advice} ({detail})" if detail else advice, code=code)

    def copy(self) -> "DatasetError":
        """The same error without the traceback, and so without a hold on the buffers of whoever raised it."""
        return DatasetError(self.code, self.detail)
