"""`manage.py auditverify`."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import QuerySet

from gateway_project.core.models import AuditEvent, AuditEventType
from gateway_project.core.services.audit import audit_record, audit_seal_due

pytestmark = pytest.mark.django_db


def verified() -> str:
    out = StringIO()
    call_command("auditverify", stdout=out)
    return out.getvalue()


def test_whole_chain_is_counted_with_what_waits() -> None:
    for number in range(3):
        audit_record(AuditEventType.CONFIGURATION, actor="user:a", subject=f"option:{number}")
    audit_seal_due()
    audit_record(AuditEventType.CONFIGURATION, actor="user:a", subject="option:later")
    assert "3 records, 1 more" in verified()


def test_changed_record_is_named_and_ends_with_an_error() -> None:
    for number in range(3):
        audit_record(AuditEventType.CONFIGURATION, actor="user:a", subject=f"option:{number}")
    audit_seal_due()
    QuerySet(AuditEvent).filter(subject="option:1").update(actor="user:b")  # as somebody with the database could
    with pytest.raises(CommandError, match="link 2"):
        verified()


def test_empty_trail_is_whole() -> None:
    assert "0 records" in verified()
