"""Unique Identifiers: the strict rule, and what is tolerated of a peer's (PS3.5 9.1)."""

import re
from functools import lru_cache

from studies.dicom.errors import DatasetError

_STRICT = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_TOLERATED = re.compile(r"(?=\.*[0-9])[0-9.]{1,64}")  # dots alone name nothing, but a directory: ".."
_MAX_LENGTH = 64


def uid_is_valid(uid: str) -> bool:
    """True only for a UID as PS3.5 9.1 has it: 1 to 64 characters, components of digits without leading zeros."""
    return len(uid) <= _MAX_LENGTH and _STRICT.fullmatch(uid) is not None


@lru_cache(maxsize=4096)
def uid_clean(raw: bytes | str) -> str:
    """The UID without its padding (trailing NULs and spaces), made of 1 to 64 digits and dots, and not of dots alone.

    Leading zeros and empty components are tolerated, for such objects exist and must not be lost: see `uid_flaw`.
    Raises DatasetError "uid-invalid".
    """
    text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    text = text.rstrip("\0 ")
    if _TOLERATED.fullmatch(text) is None:
        raise DatasetError("uid-invalid")
    return text


@lru_cache(maxsize=4096)
def uid_flaw(uid: str) -> str:
    """The flag that a cleaned UID deserves: "" when strict, else "uid-leading-zero" or "uid-malformed"."""
    if uid_is_valid(uid):
        return ""
    return "uid-leading-zero" if all(uid.split(".")) else "uid-malformed"
