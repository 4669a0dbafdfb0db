"""What can be wrong with a DICOMweb message: one base, stable codes, messages without patient data."""

_ADVICE = {
    "answer-unreadable": (
        "The server's answer is not the DICOM JSON that it was asked for, so nothing is taken as stored: "
        "check the address and what the server supports."
    ),
    "part-changed": "An object has not the length that was announced for it; nothing of the request counts as sent.",
}


class DicomwebError(Exception):
    """Says by a stable `code` what is wrong and by its message what to do, never with a value from a data set."""

    def __init__(self, code: str) -> None:
        super().__init__(_ADVICE[code])
        self.code = code
