"""What a scan hands to the index: few raw values, and typed readings of them that never trust a peer."""

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from studies.dicom import tags
from studies.dicom.charset import text_decode
from studies.dicom.errors import DatasetError
from studies.dicom.uids import uid_clean

_TEXT_VRS: Final = frozenset({b"SH", b"LO", b"PN"})
_INTEGER_STRING: Final = re.compile(rb"[+-]?[0-9]{1,12}")
_INTEGER_RANGE: Final = range(-(2**31), 2**31)
_DATE: Final = re.compile(rb"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})")
_TIME: Final = re.compile(rb"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")
_TEXT_LIMIT: Final = 256
_PADDING: Final = b"\0 "
_US_BYTES: Final = 2
_LEAP_SECOND: Final = 60


class Identity(NamedTuple):
    """The four UIDs that give an object its place, padding removed."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass
class Header:
    """The index attributes of one dataset as its bytes have them, and what was odd about it.

    `values` maps tags (0xGGGGEEEE) to raw values, the first occurrence at top level, at most 1 KiB of each.
    `flags` are stable words, sorted: see `DatasetScanner`. `big_endian` is the byte order of the binary values.
    """

    values: dict[int, bytes] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    big_endian: bool = False

    def text(self, tag: int) -> str:
        """Text safe to show and to store: no controls, no outer padding, at most 256 characters; "" when absent.

        Names and descriptions follow Specific Character Set, all else is UTF-8, of which ASCII is a part; U+FFFD stands
        for what cannot be decoded.
        Several values stay joined by backslashes. Never raises.
        """
        raw = self.values.get(tag, b"")
        vr = tags.INDEX_VRS.get(tag, b"")
        declared = self.values.get(tags.SPECIFIC_CHARACTER_SET, b"") if vr in _TEXT_VRS else b"ISO_IR 192"
        return text_decode(raw, declared=declared, person_name=vr == b"PN")[:_TEXT_LIMIT].rstrip(" ")

    def uid(self, tag: int) -> str:
        """The UID without padding; "" when absent or empty. Raises DatasetError "uid-invalid"."""
        raw = self.values.get(tag, b"").rstrip(_PADDING)
        return uid_clean(raw) if raw else ""

    def date(self, tag: int) -> dt.date | None:
        """A date of the calendar as DA writes it (PS3.5 6.2), also with the dots of ACR-NEMA; None for all else."""
        match = _DATE.fullmatch(self._stripped(tag))
        if match is None:
            return None
        try:
            return dt.date(int(match[1]), int(match[3]), int(match[4]))
        except ValueError:
            return None

    def time(self, tag: int) -> dt.time | None:
        """A time of day as TM writes it (PS3.5 6.2), also with colons; :60 becomes :59; None for all else."""
        match = _TIME.fullmatch(self._stripped(tag))
        if match is None:
            return None
        hour, minute, second = (int(part or 0) for part in match.group(1, 2, 3))
        microsecond = int((match[4] or b"").ljust(6, b"0"))
        try:
            return dt.time(hour, minute, 59 if second == _LEAP_SECOND else second, microsecond)
        except ValueError:
            return None

    def integer(self, tag: int) -> int | None:
        """A single US of exactly two bytes, or a single IS within 32 bits (PS3.5 6.2); None for all else."""
        if tags.INDEX_VRS.get(tag) == b"US":
            raw = self.values.get(tag, b"")
            return int.from_bytes(raw, "big" if self.big_endian else "little") if len(raw) == _US_BYTES else None
        raw = self._stripped(tag)
        if _INTEGER_STRING.fullmatch(raw) is None:
            return None
        value = int(raw)
        return value if value in _INTEGER_RANGE else None

    def identity(self) -> Identity:
        """All four UIDs. Raises DatasetError "identity-missing", naming the attribute, or "uid-invalid"."""
        uids = []
        for tag, keyword in tags.IDENTITY.items():
            uid = self.uid(tag)
            if not uid:
                raise DatasetError("identity-missing", keyword)
            uids.append(uid)
        return Identity(*uids)

    def _stripped(self, tag: int) -> bytes:
        return self.values.get(tag, b"").strip(_PADDING)
