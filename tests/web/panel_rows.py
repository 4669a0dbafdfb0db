"""Rows for the pages of connections, vaults, quarantine, alerts and audit."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.utils.timezone import now

from gateway_project.core.models import Alert, AlertNotice, AlertNoticeItem, JobState
from gateway_project.core.services.audit import audit_record, audit_seal_due
from network.dimse.control import ControlServer
from network.models import AssociationRecord, LocalAE
from network.selectors import control_path
from studies.models import QuarantinedObject
from studies.selectors import store_open
from tests.web.factories import number

SCRIPT = '<script>alert("x")</script>'


def record_make(outcome: str = "released", *, minutes: float = 5, **values: Any) -> AssociationRecord:
    closed = now() - timedelta(minutes=minutes)
    defaults = {
        "association_id": f"assoc-{number()}", "calling_ae_title": "CT_NORD_1", "called_ae_title": "GATEWAY",
        "peer_address": "10.3.7.21", "peer_port": 50_000, "outcome": outcome, "objects_stored": 240,
        "bytes_received": 126_000_000, "opened_at": closed - timedelta(seconds=48), "closed_at": closed,
    }  # fmt: skip
    return AssociationRecord.objects.create(**{**defaults, **values})


def live_row(**values: Any) -> dict[str, Any]:
    defaults = {
        "connection": number(), "receiver": 0, "address": "10.3.7.21", "port": 51_000,
        "connected_at": (now() - timedelta(seconds=75)).isoformat(), "endpoint": "default", "our_ae_title": "GATEWAY",
        "tls": False, "association_id": f"live-{number()}", "calling_ae_title": "CT_NORD_1",
        "called_ae_title": "GATEWAY", "admitted": True, "objects_stored": 87, "objects_refused": 0,
        "bytes_received": 45_800_000, "bytes_per_second": 14_300_000.0,
    }  # fmt: skip
    return {**defaults, **values}


@contextmanager
def listeners_answer(*rows: dict[str, Any]) -> Iterator[list[str]]:
    """Listeners that answer at the control socket as the acceptor does; the ids that were to be ended."""
    ended: list[str] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request.get("command") == "live":
            return {"associations": list(rows)}
        ended.append(str(request.get("association_id")))
        return {"found": any(row["association_id"] == request.get("association_id") for row in rows)}

    control_path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    server = ControlServer(control_path(), answer)
    server.start()
    try:
        yield ended
    finally:
        server.stop()


def endpoint_make(name: str = "default", **values: Any) -> LocalAE:
    return LocalAE.objects.create(**{"name": name, "ae_title": "GATEWAY", "port": 11_112, **values})


def quarantined_make(
    content: bytes = b"\x00" * 128 + b"DICM", *, keep: bool = True, **values: Any
) -> QuarantinedObject:
    """A refused object whose file lies where the store has it."""
    content += str(number()).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    if keep:
        store = store_open()
        path = store.root / store.quarantine_name(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    defaults = {
        "sha256": sha256, "size_bytes": len(content), "code": "dataset-truncated", "kept": keep,
        "reason": "The dataset ends in the middle of an element: ask the sender to send the object again.",
        "source_ae_title": "CT_NORD_1", "receiving_ae_title": "GATEWAY", "peer_address": "10.3.7.21",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "first_at": now() - timedelta(hours=2), "latest_at": now() - timedelta(minutes=number()),
    }  # fmt: skip
    return QuarantinedObject.objects.create(**{**defaults, **values})


def store_empty() -> None:
    shutil.rmtree(store_open().root, ignore_errors=True)


def alert_make(key: str = "", severity: str = "warning", *, minutes: float = 5, **values: Any) -> Alert:
    opened = now() - timedelta(minutes=minutes)
    defaults = {
        "key": key or f"thing:{number()}", "code": "disk-low", "severity": severity, "opened_at": opened,
        "seen_at": opened + timedelta(minutes=min(minutes, 3)),
        "words": "The store's disk runs low: 4.1 GB are left. Make room, or move STORAGE.ROOT.",
    }  # fmt: skip
    return Alert.objects.create(**{**defaults, **values})


def told_make(alert: Alert, *, way: str = "email", state: str = JobState.DONE, kind: str = "opened") -> AlertNoticeItem:
    ended = now() - timedelta(minutes=2) if state == JobState.DONE else None
    notice = AlertNotice.objects.create(queue="notices", way=way, state=state, ended_at=ended)
    Alert.objects.filter(pk=alert.pk).update(notified_at=now())
    return AlertNoticeItem.objects.create(
        notice=notice, alert=alert, kind=kind, severity=alert.severity, words=alert.words
    )


def trail_make(*, sealed: bool = True) -> None:
    """Some of everything that a day's trail holds."""
    rows: list[tuple[str, str, str, dict[str, Any], str]] = [
        ("User Authentication", "user:anna", "user:2", {"action": "logged in", "address": "10.3.1.9"}, "success"),
        ("Configuration", "user:eva", "option:STORAGE.QUOTA_GB", {"before": 0, "after": 500}, "success"),
        ("Security Alert", "ae:CT_FREMD", "association:17", {"reason": "address-of-another", "count": 4}, "refused"),
        ("Data Import", "ae:CT_NORD_1", "quarantine:3", {"code": "dataset-truncated", "bytes": 51_200}, "refused"),
        ("Study State", "user:anna", "study:12", {"action": "retry"}, "success"),
        ("DICOM Instances Transferred", "process:upload", "study:12", {"action": "uploaded", "files": 240}, "success"),
    ]
    for event, actor, subject, detail, outcome in rows:
        audit_record(event, actor=actor, subject=subject, detail=detail, outcome=outcome)
    if sealed:
        audit_seal_due()


def ago(**values: float) -> datetime:
    return now() - timedelta(**values)
