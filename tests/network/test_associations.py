"""The memory of associations: each once, the latest kept, rejections in the trail."""

import datetime as dt
from typing import Any

import pytest

from gateway_project.core.models import AuditEvent
from network.dimse.ports import AssociationSummary, Peer
from network.models import AssociationRecord
from network.selectors import associations_latest
from network.services.associations import association_record

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)


def ended(number: int = 1, *, seconds: float = 0, outcome: str = "released", **fields: Any) -> AssociationRecord | None:
    peer = Peer(f"assoc-{number}", fields.pop("calling", "CT_1"), "GATEWAY", "10.0.0.7", 50000 + number, tls=True)
    values = {"objects_stored": 3, "objects_refused": 1, "bytes_received": 99, "reason": ""} | fields
    closed = NOW + dt.timedelta(seconds=seconds)
    return association_record(peer, AssociationSummary(outcome=outcome, opened_at=NOW, closed_at=closed, **values))  # type: ignore[arg-type]


def test_end_is_kept_with_who_and_what() -> None:
    ended(seconds=5)
    row = AssociationRecord.objects.get()
    assert (row.association_id, row.calling_ae_title, row.called_ae_title) == ("assoc-1", "CT_1", "GATEWAY")
    assert (row.peer_address, row.peer_port, row.tls) == ("10.0.0.7", 50001, True)
    assert (row.objects_stored, row.objects_refused, row.bytes_received) == (3, 1, 99)
    assert (row.outcome, row.opened_at, row.closed_at) == ("released", NOW, NOW + dt.timedelta(seconds=5))
    assert not AuditEvent.objects.exists()


def test_end_told_twice_is_kept_once() -> None:
    ended()
    ended(outcome="aborted", reason="x" * 500)
    row = AssociationRecord.objects.get()
    assert (row.outcome, row.reason) == ("aborted", "x" * 200)


def test_rejection_is_left_to_those_who_count() -> None:
    assert ended(outcome="rejected", reason="called-ae-unknown") is None
    assert not AssociationRecord.objects.exists()
    assert not AuditEvent.objects.exists()


def test_oldest_are_forgotten_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__CONNECTION_HISTORY", "3")
    for number, seconds in enumerate((5, 1, 4, 3, 2)):
        ended(number, seconds=seconds)
    assert [row.association_id for row in associations_latest()] == ["assoc-0", "assoc-2", "assoc-3"]


def test_many_that_end_in_the_same_moment_are_not_forgotten_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__CONNECTION_HISTORY", "3")
    for number in range(6):
        ended(number)
    assert [row.association_id for row in associations_latest()] == ["assoc-5", "assoc-4", "assoc-3"]


def test_no_history_is_kept_when_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__CONNECTION_HISTORY", "0")
    ended()
    assert not AssociationRecord.objects.exists()
