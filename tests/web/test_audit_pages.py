"""The audit trail: for administrators; filters, the chain, the export."""

import json

import pytest
from django.db import connection
from django.test import Client

from gateway_project.core.models import Alert, AuditEvent
from gateway_project.core.services.audit import audit_record, audit_seal_due
from tests.web.panel_rows import SCRIPT, trail_make

pytestmark = pytest.mark.django_db
PAGE = "/audit/"


def page(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


def rows(html: str) -> str:
    return html.split("<tbody>")[1].split("</tbody>", maxsplit=1)[0]


@pytest.mark.parametrize("role", ["viewer", "operator", "integration", ""])
def test_only_administrators(client_as, role: str) -> None:
    client = client_as(role)
    assert client.get(PAGE).status_code == 403
    for path in ("/audit/verify/", "/audit/export/"):
        assert client.post(path).status_code == 403
    assert "/audit/" not in client.get("/studies/").content.decode()


def test_empty_trail_is_said(administrator) -> None:
    html = page(administrator)
    assert "The trail is empty" in html
    assert "No record is sealed yet" in html


def test_who_did_what_is_readable_and_sealed(administrator) -> None:
    trail_make()
    html = page(administrator)
    assert "The trail is sealed up to record 6" in html
    for words in ("user:anna", "Logged in", "address-of-another", 'href="/studies/12/"'):
        assert words in html
    assert html.count('aria-label="sealed, and holds"') == 6


def test_record_changed_behind_our_back_is_seen_on_its_page(administrator) -> None:
    trail_make()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_auditevent SET actor = 'user:nobody' WHERE subject = 'user:2'")
    html = page(administrator)
    assert "The audit trail does not hold" in html
    assert "changed</span>" in html
    answer = administrator.post("/audit/verify/", follow=True).content.decode()
    assert "does not hold from record 1 on" in answer
    assert Alert.objects.get(key="audit:chain").severity == "critical"


def test_recomputing_is_itself_recorded_and_its_result_stays(administrator) -> None:
    trail_make()
    assert "has not been recomputed" in page(administrator)
    assert "recomputed and holds" in administrator.post("/audit/verify/", follow=True).content.decode()
    assert "All 6 links were recomputed just now and held." in page(administrator)
    assert AuditEvent.objects.get(subject="audit:chain").actor.startswith("user:administrator")


@pytest.mark.parametrize(
    ("query", "there", "gone"),
    [
        ("event=Security+Alert", "CT_FREMD", "CT_NORD_1"),
        ("outcome=refused", "CT_NORD_1", "user:anna"),
        ("actor=user:eva", "STORAGE.QUOTA_GB", "CT_FREMD"),
        ("subject=study:12", "Retry", "CT_FREMD"),
        ("first=2000-01-01&last=2100-01-01", "CT_FREMD", "nothing of the kind"),
    ],
)
def test_filters(administrator, query: str, there: str, gone: str) -> None:
    trail_make()
    found = rows(page(administrator, f"{PAGE}?{query}"))
    assert there in found
    assert gone not in found
    assert "No record matches" in page(administrator, f"{PAGE}?last=2000-01-01")


def test_what_is_typed_reaches_the_address_only_when_the_trail_has_it(administrator) -> None:
    trail_make()
    answer = administrator.post(PAGE, {"actor": "anna", "subject": "12"})
    assert answer["Location"] == "/audit/?actor=user%3Aanna&subject=study%3A12"
    answer = administrator.post(PAGE, {"actor": "Muster^Anna", "subject": "P100001"}, follow=True)
    assert answer.redirect_chain == [("/audit/", 302)]
    assert "Nobody of that name is in the trail" in answer.content.decode()
    assert "Muster" not in answer.content.decode()


@pytest.mark.parametrize(
    "query", ["event=x", "outcome=x", "first=yesterday", "before=x", "after=1.5", "last=9999-12-31"]
)
def test_nonsense_in_the_address_is_refused(administrator, query: str) -> None:
    assert administrator.get(f"{PAGE}?{query}").status_code == 400


def test_day_that_is_none_is_told(administrator) -> None:
    html = administrator.post(PAGE, {"first": "yesterday", "outcome": "refused"}, follow=True).content.decode()
    assert "A day is written 2026-11-25." in html


def test_nonsense_in_the_form_is_refused(administrator) -> None:
    assert administrator.post(PAGE, {"event": "x"}).status_code == 400
    assert administrator.post("/audit/export/", {"first": "x"}).status_code == 400


def test_paging_and_cost(administrator, django_assert_max_num_queries) -> None:
    for number in range(60):
        audit_record("Query", actor="ae:X", subject=f"study:{number}", detail={"action": SCRIPT, "x": SCRIPT})
    audit_seal_due()
    page(administrator)  # the session is written now and then
    with django_assert_max_num_queries(11):
        html = page(administrator)
    assert "50 records on this page" in html
    assert "<script>alert" not in html
    older = html.split('rel="next" href="')[1].split('"')[0]
    second = page(administrator, PAGE + older)
    assert "10 records on this page" in second
    newer = second.split('rel="prev" href="')[1].split('"')[0]
    assert "study:59" in page(administrator, PAGE + newer)


def test_export_streams_what_the_filters_show_and_is_recorded(administrator) -> None:
    trail_make()
    answer = administrator.post("/audit/export/", {"outcome": "refused"})
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/x-ndjson")
    assert answer["Content-Disposition"].startswith('attachment; filename="audit-')
    lines = [json.loads(line) for line in answer.getvalue().decode().splitlines()]
    assert [line["actor"] for line in lines] == ["ae:CT_FREMD", "ae:CT_NORD_1"]
    assert all(line["sequence"] and len(line["hash"]) == 64 for line in lines)
    record = AuditEvent.objects.get(event="Data Export")
    assert record.detail["filters"] == {"outcome": "refused"}
    assert administrator.get("/audit/export/").status_code == 405


def test_export_holds_more_than_one_chunk(administrator, monkeypatch) -> None:
    from gateway_project.wiring import browse_audit

    monkeypatch.setattr(browse_audit, "EXPORT_CHUNK", 3)
    trail_make(sealed=False)
    assert len(administrator.post("/audit/export/").getvalue().decode().splitlines()) == 6
