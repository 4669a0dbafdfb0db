"""Quarantine: what could not be taken in is kept once, with the reason, for a person to decide."""

import logging
from datetime import datetime
from typing import Protocol

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils.timezone import now as time_now

from gateway_project.core.models import AuditEventType
from gateway_project.core.services.alerts import alert_open
from gateway_project.core.services.audit import audit_record
from studies.models import QuarantinedObject

logger = logging.getLogger(__name__)


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


def quarantine_record(
    origin: Origin, *, sha256: str, size_bytes: int, code: str, reason: str, now: datetime | None = None
) -> QuarantinedObject:
    """The row for refused bytes that lie in the store's quarantine: a new one, or the known one counted up."""
    moment = now or time_now()
    with transaction.atomic():
        if not _counted_up(sha256, moment):
            _created(origin, sha256=sha256, size_bytes=size_bytes, code=code, reason=reason, moment=moment)
        row = QuarantinedObject.objects.get(sha256=sha256)
        audit_record(
            AuditEventType.DATA_IMPORT,
            actor=f"ae:{origin.source_ae_title[:16]}",
            subject=f"quarantine:{row.pk}",
            detail={"code": code, "bytes": size_bytes},
            outcome="refused",
        )
    alert_open(
        "quarantine",
        code="quarantined",
        words="Objects were refused and are kept in quarantine.",
        link="/admin/studies/quarantinedobject/",
    )
    logger.warning("object quarantined", extra={"quarantine_id": row.pk, "code": code, "bytes": size_bytes})
    return row


def _counted_up(sha256: str, moment: datetime) -> int:
    return QuarantinedObject.objects.filter(sha256=sha256).update(count=F("count") + 1, latest_at=moment)


def _created(origin: Origin, *, sha256: str, size_bytes: int, code: str, reason: str, moment: datetime) -> None:
    try:
        with transaction.atomic():
            QuarantinedObject.objects.create(
                sha256=sha256,
                size_bytes=size_bytes,
                code=code,
                reason=reason[:400],
                source_ae_title=origin.source_ae_title[:16],
                receiving_ae_title=origin.receiving_ae_title[:16],
                peer_address=origin.peer_address[:64],
                transfer_syntax_uid=origin.transfer_syntax_uid[:64],
                first_at=moment,
                latest_at=moment,
            )
    except IntegrityError:  # another receiver made the row at this moment
        _counted_up(sha256, moment)
