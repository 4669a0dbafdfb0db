"""What the services of studies refuse, with a stable code and words free of PHI that say what to do."""


class ReceiveError(Exception):
    """Why an object was not taken in. `busy`: not its fault, the sender may try again later.

    `mismatch`: command and data set do not belong together (PS3.4 B.2.3, A900); otherwise it cannot be understood
    (Cxxx).
    """

    def __init__(self, message: str, *, code: str, busy: bool = False, mismatch: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.busy = busy
        self.mismatch = mismatch


class QuarantineError(Exception):
    """Why a quarantined object could not be accepted or discarded; it stays as it was."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
