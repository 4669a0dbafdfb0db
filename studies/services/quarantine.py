"""Quarantine: what could not be taken in is kept once, with the reason, for a person to decide."""

import logging
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Protocol

from django.db import transaction
from django.db.models import Sum
from django.utils.timezone import now as time_now

from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from studies.dicom.spool import Store
from studies.errors import QuarantineError
from studies.models import QuarantinedObject, QuarantineState
from studies.options import GB

logger = logging.getLogger(__name__)

SWEEP_FILES = 200
ALERT = "quarantine"
ALERT_FULL = "quarantine:full"
LINK = "/quarantine/"


class Origin(Protocol):
    """Where refused bytes came from (studies.services.receive.Arrival has all of it)."""

    @property
    def source_ae_title(self) -> str: ...
    @property
    def receiving_ae_title(self) -> str: ...
    @property
    def peer_address(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def sop_class_uid(self) -> str: ...


def quarantine_take(
    store: Store,
    path: Path,
    origin: Origin,
    *,
    sha256: str,
    size_bytes: int,
    code: str,
    reason: str,
    now: datetime | None = None,
) -> QuarantinedObject | None:
    """On return the refused bytes at `path` are counted, and kept durably unless STORAGE.QUARANTINE_GB is used up.

    One row and one file for each content. Everything beyond the quota is counted all the same, with an alert: what was
    kept before is never thrown away for it. Beyond STORAGE.QUARANTINE_OBJECTS a new content gets no row either (None),
    so that no peer can fill the database. May be repeated after a crash; then it is counted once more.
    Raises SpoolError, and the database's errors: the caller keeps the bytes where they are.
    """
    moment = now or time_now()
    if _is_one_too_many(sha256):
        _tell_full()
        logger.warning("object refused and not recorded", extra={"code": code, "bytes": size_bytes})
        return None
    with transaction.atomic():
        row = _row(origin, sha256=sha256, size_bytes=size_bytes, code=code, reason=reason, moment=moment)
        full = row.state == QuarantineState.OPEN and not _keep(store, path, row)
        row.save()
        audit_record(
            AuditEventType.DATA_IMPORT,
            actor=f"ae:{_printable(origin.source_ae_title[:16])}",
            subject=f"quarantine:{row.pk}",
            detail={"code": code, "bytes": size_bytes, "kept": row.kept},
            outcome="refused",
        )
    if row.state == QuarantineState.OPEN:
        _tell()
    if full:
        _tell_full()
    logger.warning(
        "object quarantined",
        extra={"quarantine_id": row.pk, "code": code, "bytes": size_bytes, "kept": row.kept},
    )
    return row


def _is_one_too_many(sha256: str) -> bool:
    if QuarantinedObject.objects.filter(sha256=sha256).exists():
        return False
    return _open_count() >= option("STORAGE.QUARANTINE_OBJECTS")


def _open_count() -> int:
    return QuarantinedObject.objects.filter(state=QuarantineState.OPEN).count()


def _tell_full() -> None:
    alert_open(
        ALERT_FULL,
        code="quarantine-full",
        words="The quarantine is full: more refused objects are not kept. Decide about those that are there, or raise "
        "STORAGE.QUARANTINE_GB or STORAGE.QUARANTINE_OBJECTS.",
        link=LINK,
    )


def _tell() -> None:
    alert_open(
        ALERT, code="quarantined", words="Objects were refused and wait in quarantine for a decision.", link=LINK
    )


def _row(
    origin: Origin, *, sha256: str, size_bytes: int, code: str, reason: str, moment: datetime
) -> QuarantinedObject:
    """The locked row of this content: a new one, or the known one counted up; open again if it was discarded."""
    values = {
        "size_bytes": size_bytes,
        "code": code,
        "reason": reason[:400],
        "kept": False,
        "source_ae_title": _printable(origin.source_ae_title[:16]),
        "receiving_ae_title": _printable(origin.receiving_ae_title[:16]),
        "peer_address": origin.peer_address[:64],
        "transfer_syntax_uid": _printable(origin.transfer_syntax_uid[:64]),
        "sop_class_uid": _printable(origin.sop_class_uid[:64]),
        "first_at": moment,
        "latest_at": moment,
    }
    row, created = QuarantinedObject.objects.select_for_update().get_or_create(sha256=sha256, defaults=values)
    if not created:
        row.count, row.latest_at = row.count + 1, moment
        if row.state == QuarantineState.DISCARDED:
            row.state, row.decided_by, row.decided_at = QuarantineState.OPEN, "", None
    return row


def _printable(text: str) -> str:
    """What was refused may say anything, NUL too, which PostgreSQL takes in no text: "?" stands for such characters."""
    return "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "?" for c in text)


def _keep(store: Store, path: Path, row: QuarantinedObject) -> bool:
    """Under the row's lock, so that no discarding of the same content removes the file again."""
    if not row.kept and quarantine_bytes() + row.size_bytes > option("STORAGE.QUARANTINE_GB") * GB:
        return False
    store.quarantine(path, sha256=row.sha256)
    failpoint("receive.quarantined")
    row.kept = True
    return True


def quarantine_bytes() -> int:
    """Bytes of all quarantined objects that are kept."""
    kept = QuarantinedObject.objects.filter(kept=True).aggregate(total=Sum("size_bytes"))
    return int(kept["total"] or 0)


def quarantine_discard(row: QuarantinedObject, *, actor: str, store: Store, now: datetime | None = None) -> None:
    """The object is not wanted: its file goes, after the row says so; row and audit stay. May be repeated.

    Raises QuarantineError "quarantine-decided" when it was accepted.
    """
    with transaction.atomic():
        locked = QuarantinedObject.objects.select_for_update().get(pk=row.pk)
        if locked.state == QuarantineState.ACCEPTED:
            raise QuarantineError("It was accepted already; nothing is discarded.", code="quarantine-decided")
        if locked.state == QuarantineState.OPEN:
            quarantine_decided(locked, QuarantineState.DISCARDED, actor=actor, detail={}, now=now)
    quarantine_file_remove(row, store)
    quarantine_alerts_heal()


def quarantine_decided(
    row: QuarantinedObject, state: QuarantineState, *, actor: str, detail: dict[str, object], now: datetime | None
) -> None:
    """Writes a decision and its audit record, in the caller's transaction."""
    row.state, row.kept, row.decided_by, row.decided_at = state, False, actor[:150], now or time_now()
    row.save()
    audit_record(
        AuditEventType.DATA_IMPORT,
        actor=actor,
        subject=f"quarantine:{row.pk}",
        detail={"action": QuarantineState(state).label, "code": row.code, "bytes": row.size_bytes, **detail},
    )


def quarantine_file_remove(row: QuarantinedObject, store: Store) -> None:
    """The file goes if the row still says so: the same content may have come again meanwhile."""
    with transaction.atomic():
        if not QuarantinedObject.objects.select_for_update().get(pk=row.pk).kept:
            store.remove(store.quarantine_name(row.sha256))


def quarantine_sweep(store: Store) -> int:
    """Removes files that a crash left after their row said that they go; answers how many. May be repeated and race.

    A file without any row stays: it lies in `incoming` too, and recovery makes its row.
    """
    removed = 0
    names = store.quarantined()
    while chunk := list(islice(names, SWEEP_FILES)):
        for row in QuarantinedObject.objects.filter(sha256__in=chunk, kept=False):
            quarantine_file_remove(row, store)
            removed += 1
    return removed


def quarantine_alerts_heal() -> None:
    """The alert ends with the last open object; that of the full quarantine when there is room again."""
    if not _any_open():
        alert_heal(ALERT)
        if _any_open():  # one came between the two
            _tell()
    room = quarantine_bytes() < option("STORAGE.QUARANTINE_GB") * GB
    if room and _open_count() < option("STORAGE.QUARANTINE_OBJECTS"):
        alert_heal(ALERT_FULL)


def _any_open() -> bool:
    return QuarantinedObject.objects.filter(state=QuarantineState.OPEN).exists()
