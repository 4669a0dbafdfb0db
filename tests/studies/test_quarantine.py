"""Quarantine: one row for each content, counted, with its reason, however many come at once."""

import datetime as dt

import pytest

from gateway_project.core.models import Alert, AuditEvent
from studies.models import QuarantinedObject
from studies.services.quarantine import quarantine_record
from tests.core.job_rows import NOW, together
from tests.studies.house import arrival

pytestmark = pytest.mark.django_db

A, B = "a" * 64, "b" * 64


def record(sha256: str = A, *, code: str = "dataset-truncated", seconds: int = 0, **fields: str) -> QuarantinedObject:
    return quarantine_record(
        arrival(**fields),
        sha256=sha256,
        size_bytes=7,
        code=code,
        reason="It ends too soon.",
        now=NOW + dt.timedelta(seconds=seconds),
    )


def test_first_refusal_makes_the_row_with_all_that_is_known() -> None:
    row = record()
    assert (row.sha256, row.size_bytes, row.code, row.reason, row.count) == (
        A,
        7,
        "dataset-truncated",
        "It ends too soon.",
        1,
    )
    assert (row.source_ae_title, row.receiving_ae_title, row.peer_address) == ("CT_1", "GATEWAY", "10.0.0.7")
    assert (row.first_at, row.latest_at) == (NOW, NOW)


def test_same_content_again_is_counted_and_keeps_its_first_reason() -> None:
    record()
    row = record(code="another", seconds=60, source_ae_title="CT_2")
    assert (row.count, row.code, row.source_ae_title) == (2, "dataset-truncated", "CT_1")
    assert (row.first_at, row.latest_at) == (NOW, NOW + dt.timedelta(seconds=60))
    record(B)
    assert QuarantinedObject.objects.count() == 2


def test_every_refusal_is_in_the_trail_and_one_alert_counts_them() -> None:
    row = record()
    record(source_ae_title="x" * 300)
    events = list(AuditEvent.objects.order_by("id").values_list("event", "actor", "subject", "outcome"))
    assert events == [
        ("Data Import", "ae:CT_1", f"quarantine:{row.pk}", "refused"),
        ("Data Import", "ae:" + "x" * 16, f"quarantine:{row.pk}", "refused"),
    ]
    assert (Alert.objects.get().code, Alert.objects.get().count) == ("quarantined", 2)


def test_what_a_peer_says_is_cut_to_its_column() -> None:
    row = record(source_ae_title="s" * 99, peer_address="p" * 99, transfer_syntax_uid="1" * 99)
    assert [len(t) for t in (row.source_ae_title, row.peer_address, row.transfer_syntax_uid)] == [16, 64, 64]


@pytest.mark.django_db(transaction=True)
def test_many_refusals_of_one_content_at_once_are_one_row() -> None:
    together(*[record] * 5)
    assert QuarantinedObject.objects.get().count == 5
    assert AuditEvent.objects.count() == 5
