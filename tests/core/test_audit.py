"""The audit trail: append-only, in the business transaction, and every later change to it shows."""

import logging
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from gateway_project.core import tasks
from gateway_project.core.correlation import correlation_set
from gateway_project.core.models import AppendOnlyError, AuditEvent, AuditSeal
from gateway_project.core.selectors import audit_of, audit_tail_of
from gateway_project.core.services.audit import audit_record, audit_seal_due, audit_verify
from tests.core.job_rows import NOW, together

pytestmark = pytest.mark.django_db


def records(number: int, subject: str = "study:1") -> list[AuditEvent]:
    return [
        audit_record("Study State", actor="process:x", subject=subject, detail={"n": n, "of": "ä", "half": 0.5})
        for n in range(number)
    ]


def raw(statement: str) -> None:
    """What an intruder with the database's password could do, foreign keys or not."""
    with connection.cursor() as cursor, connection.constraint_checks_disabled():
        cursor.execute(statement)


def _fails_after(work: Callable[[], object]) -> None:
    work()
    raise KeyError


def test_record_stands_only_with_what_it_tells_of() -> None:
    with pytest.raises(KeyError), transaction.atomic():
        _fails_after(lambda: records(1))
    assert not AuditEvent.objects.exists()


def test_record_keeps_what_it_was_told() -> None:
    correlation_set("assoc-7")
    event = audit_record("Data Export", actor="user:anna", subject="study:3", detail={"a": 1}, outcome="refused")
    row = AuditEvent.objects.get(pk=event.pk)
    assert (row.event, row.actor, row.subject, row.detail) == ("Data Export", "user:anna", "study:3", {"a": 1})
    assert (row.outcome, row.correlation_id) == ("refused", "assoc-7")


def test_unknown_event_name_is_refused() -> None:
    with pytest.raises(ValueError, match="Nonsense"):
        audit_record("Nonsense", actor="x", subject="y")


def test_record_cannot_be_changed_or_deleted() -> None:
    (event,) = records(1)
    with pytest.raises(AppendOnlyError):
        event.save()
    with pytest.raises(AppendOnlyError):
        event.delete()
    with pytest.raises(AppendOnlyError):
        AuditEvent.objects.get().save()
    assert AuditEvent.objects.count() == 1


def test_chain_holds_and_grows_in_order() -> None:
    assert audit_verify() is None
    events = records(5)
    assert audit_seal_due(limit=3) == 3
    assert audit_seal_due(limit=3) == 2
    assert audit_seal_due() == 0
    assert list(AuditSeal.objects.order_by("sequence").values_list("sequence", "event_id")) == list(
        enumerate([event.pk for event in events], start=1)
    )
    assert audit_verify() is None


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        (
            "UPDATE core_auditevent SET actor = 'user:nobody' WHERE id = {3}",
            3,
        ),
        (
            "UPDATE core_auditevent SET detail = '[]' WHERE id = {1}",
            1,
        ),
        (
            "UPDATE core_auditevent SET outcome = 'refused' WHERE id = {5}",
            5,
        ),
        ("DELETE FROM core_auditseal WHERE sequence = 2", 2),
        ("UPDATE core_auditseal SET sequence = 9 WHERE sequence = 4", 4),
        ("UPDATE core_auditseal SET hash = 'x' WHERE sequence = 5", 5),
    ],
    ids=["actor", "detail", "outcome of the last", "link removed", "moved", "last link changed"],
)
def test_tampering_is_found_where_it_is(statement: str, broken: int) -> None:
    records(5)
    audit_seal_due()
    ids = AuditSeal.objects.order_by("sequence").values_list("event_id", flat=True)
    raw(statement.format(0, *ids))
    assert audit_verify() == broken


@pytest.mark.skipif(
    connection.vendor != "sqlite", reason="PostgreSQL lets nobody but its superuser break a foreign key"
)
@pytest.mark.parametrize(("which", "broken"), [("= 1", 1), ("= 3", 3), ("= 5", 5), (">= 1", 1)])
@pytest.mark.django_db(transaction=True)
def test_removed_record_is_found(which: str, broken: int) -> None:
    records(5)
    audit_seal_due()
    raw(f"DELETE FROM core_auditevent WHERE id IN (SELECT event_id FROM core_auditseal WHERE sequence {which})")
    assert audit_verify() == broken
    raw("DELETE FROM core_auditseal")


def test_record_and_link_removed_together_are_found() -> None:
    records(5)
    audit_seal_due()
    seal = AuditSeal.objects.get(sequence=3)
    AuditSeal.objects.filter(pk=3).delete()
    raw(f"DELETE FROM core_auditevent WHERE id = {seal.event_id}")
    assert audit_verify() == 3


def test_reordered_records_are_found() -> None:
    records(4)
    audit_seal_due()
    two, three = AuditSeal.objects.get(pk=2), AuditSeal.objects.get(pk=3)
    AuditSeal.objects.filter(pk__in=(2, 3)).delete()
    AuditSeal.objects.create(sequence=2, event_id=three.event_id, hash=two.hash)
    AuditSeal.objects.create(sequence=3, event_id=two.event_id, hash=three.hash)
    assert audit_verify() == 2


def test_head_of_the_chain_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A chain cut off at its end holds by itself; the log is the witness that it was longer."""
    records(2)
    with caplog.at_level(logging.INFO):
        audit_seal_due()
        audit_seal_due()
    (line,) = [record for record in caplog.records if record.message == "audit sealed"]
    assert (line.sequence, line.hash) == (2, AuditSeal.objects.get(pk=2).hash)  # type: ignore[attr-defined]


def test_periodic_sealing_goes_on_until_all_is_chained(monkeypatch: pytest.MonkeyPatch) -> None:
    AuditEvent.objects.bulk_create(
        AuditEvent(event="Query", actor="x", subject="y", detail={}, correlation_id="") for _ in range(1001)
    )
    tasks.audit_seal(NOW)
    assert AuditSeal.objects.count() == 1001
    assert audit_verify() is None


@pytest.mark.django_db(transaction=True)
def test_racing_sealers_make_one_chain() -> None:
    records(120)
    together(*[lambda: [audit_seal_due(limit=10) for _ in range(12)]] * 4)  # type: ignore[list-item]
    while audit_seal_due():
        pass
    assert AuditSeal.objects.count() == 120
    assert audit_verify() is None


def test_trail_of_a_subject() -> None:
    records(3)
    records(1, "study:2")
    audit_record("Query", actor="x", subject="study:1")
    assert [event.detail.get("n") for event in audit_of("study:1")] == [0, 1, 2, None]
    assert [event.detail["n"] for event in audit_tail_of("study:1", without_events=["Query"], limit=2)] == [1, 2]
