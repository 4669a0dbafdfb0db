"""The ingress filter: objects that nobody here wants are answered with Success and not kept.

Such an object was never acknowledged in the sense of the crash table: the gateway says openly, in its settings and its
audit trail, that it keeps none of them.
"""

import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, connection, transaction
from pydicom.datadict import dictionary_VR

from gateway_project.core.models import AuditEventType, Severity
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from studies.dicom import tags
from studies.dicom.charset import text_decode
from studies.dicom.header import Header

logger = logging.getLogger(__name__)

ALERT = "ingress-filters"
TALLY_SECONDS = 10.0
REFRESH_SECONDS = 0.2
VALUE_CHARACTERS = 256
_ELEMENT = re.compile(r"\(?([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)?")
_FIRST_GROUP, _LAST_TAG = 0x0008, tags.PIXEL_DATA - 1
_TEXT_VRS = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
_NO_CHARSET_VRS = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"])


class FilterError(ValueError):
    """Why the setting cannot be used; the message names the entry by its number."""


@dataclass(frozen=True)
class Filter:
    """One entry. An `evaluation` other than == and != never filters. `vr` as PS3.6 has it, "" for a private element."""

    tag: int
    vr: str
    evaluation: str
    value: str

    def matches(self, header: Header) -> bool:
        if self.evaluation not in ("==", "!="):
            return False
        return (_value(header, self.tag, self.vr) == self.value) == (self.evaluation == "==")


def filters_parse(setting: Any) -> tuple[Filter, ...]:
    """The entries of INGRESS.FILTERS, a list or the DG gateway's {"filters": [...]}. Raises FilterError for any fault.

    An attribute that the object does not have counts as empty.
    """
    entries = setting.get("filters") if isinstance(setting, dict) else setting
    if not isinstance(entries, list):
        raise FilterError("INGRESS.FILTERS must be a list of entries.")
    return tuple(_entry(number, entry) for number, entry in enumerate(entries, start=1))


def _entry(number: int, entry: Any) -> Filter:
    parts = [entry.get(name) if isinstance(entry, dict) else None for name in ("groupElement", "evaluation", "value")]
    if not all(isinstance(part, str) for part in parts):
        raise FilterError(f"Entry {number} needs groupElement, evaluation and value, all of them texts.")
    element, evaluation, value = (str(part) for part in parts)
    match = _ELEMENT.fullmatch(element.strip())
    tag = int(match[1] + match[2], 16) if match else 0
    if not _FIRST_GROUP << 16 <= tag <= _LAST_TAG:
        raise FilterError(f"Entry {number}: groupElement must be of the form gggg,eeee and name a data element.")
    vr = _vr(tag)
    if vr not in (*_TEXT_VRS, "US", "") or len(value) > VALUE_CHARACTERS:
        raise FilterError(f"Entry {number}: the element must hold a text or a US, and value at most 256 characters.")
    return Filter(tag, vr, evaluation, value.strip())


def _vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _value(header: Header, tag: int, vr: str) -> str:
    raw = header.values.get(tag, b"")
    if vr == "US":
        return str(int.from_bytes(raw, "big" if header.big_endian else "little")) if len(raw) == 2 else ""
    declared = b"ISO_IR 192" if vr in _NO_CHARSET_VRS else header.values.get(tags.SPECIFIC_CHARACTER_SET, b"")
    return text_decode(raw.rstrip(b"\0"), declared=declared, person_name=vr == "PN").strip()


class Ingress:
    """The filters of one receiver process, and its count of what they kept out. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._setting: Any = []
        self._asked_until = 0.0
        self._filters: tuple[Filter, ...] = ()
        self._keep: Mapping[int, bytes] = tags.INDEX_VRS
        self._tally: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        self._timer: threading.Timer | None = None

    def keep(self) -> Mapping[int, bytes]:
        """What the scanner must keep of a header: the index's attributes, and those that a filter looks at."""
        self._refresh()
        return self._keep

    def filters(self, header: Header, *, source: str, size_bytes: int) -> bool:
        """Whether the object is not wanted; then it is counted, and audited with others of its kind within 10 s."""
        for number, entry in enumerate(self._filters, start=1):
            if entry.matches(header):
                self._count(source, number, size_bytes)
                return True
        return False

    def close(self) -> None:
        """What is counted is audited now."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._write()

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._asked_until:
            return
        self._asked_until = now + REFRESH_SECONDS
        setting = option("INGRESS.FILTERS")
        if setting == self._setting:
            return
        try:
            filters = filters_parse(setting)
        except FilterError as error:
            logger.error("ingress filters disabled", extra={"reason": str(error)})  # noqa: TRY400
            filters = ()
        extra = {entry.tag: b"" for entry in filters if entry.tag not in tags.INDEX_VRS}
        with self._lock:
            self._keep, self._filters, self._setting = {**tags.INDEX_VRS, **extra}, filters, setting

    def _count(self, source: str, number: int, size_bytes: int) -> None:
        with self._lock:
            counted = self._tally[source, number]
            counted[0] += 1
            counted[1] += size_bytes
            if self._timer is None:
                self._timer = threading.Timer(TALLY_SECONDS, self._due)
                self._timer.daemon = True
                self._timer.start()

    def _due(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self._write()
        finally:
            connection.close()

    def _write(self) -> None:
        with self._lock:
            tally, self._tally = self._tally, defaultdict(lambda: [0, 0])
        try:
            with transaction.atomic():
                for (source, number), (objects, size_bytes) in tally.items():
                    _audit(source, number, objects, size_bytes)
        except DatabaseError:
            logger.exception("filtered objects not audited", extra={"objects": sum(n for n, _size in tally.values())})


def _audit(source: str, number: int, objects: int, size_bytes: int) -> None:
    detail = {"action": "filtered", "filter": number, "objects": objects, "bytes": size_bytes}
    audit_record(
        AuditEventType.DATA_IMPORT, actor=f"ae:{source[:16]}", subject="ingress", detail=detail, outcome="refused"
    )
    logger.info("objects filtered", extra={**detail, "calling": source[:16]})


def ingress_watch(_now: datetime) -> None:
    """One alert while the setting cannot be used, healed when it can."""
    try:
        filters_parse(option("INGRESS.FILTERS"))
    except FilterError as error:
        alert_open(
            ALERT,
            code="ingress-filters-invalid",
            words=f"No ingress filter works, so everything is kept: {error}",
            severity=Severity.WARNING,
        )
    else:
        alert_heal(ALERT)
