"""Quarantine: what was refused and why, its beginning in words, and deciding about many at once."""

import re
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway_project.core.models import AuditEvent
from studies.dicom.first_bytes import first_bytes_words
from studies.models import QuarantinedObject
from studies.selectors import store_open
from tests.web.panel_rows import SCRIPT, quarantined_make, store_empty

pytestmark = pytest.mark.django_db
PAGE, DECIDE = "/quarantine/", "/quarantine/decide/"


@pytest.fixture(autouse=True)
def store() -> Iterator[None]:
    yield
    store_empty()


def page(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


def said(client: Client, **fields: object) -> str:
    answer = client.post(DECIDE, fields, follow=True)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


def states() -> list[str]:
    return list(QuarantinedObject.objects.order_by("pk").values_list("state", flat=True))


@pytest.mark.parametrize("path", [PAGE, "/quarantine/live/", "/quarantine/{pk}/"])
@pytest.mark.parametrize(("role", "status"), [("viewer", 200), ("operator", 200), ("integration", 403), ("", 403)])
def test_staff_sees_it(client_as, path: str, role: str, status: int) -> None:
    assert client_as(role).get(path.format(pk=quarantined_make().pk)).status_code == status


def test_only_an_operator_decides(client_as) -> None:
    row = quarantined_make()
    assert client_as("viewer").post(DECIDE, {"decision": "discard", "object": row.pk}).status_code == 403
    assert DECIDE not in page(client_as("viewer"), f"{PAGE}{row.pk}/")
    assert "Discard …" not in page(client_as("viewer"))
    operator = client_as("operator")
    assert "Discard …" in page(operator)
    assert operator.get(DECIDE).status_code == 405
    assert client_as("operator", enforce_csrf_checks=True).post(DECIDE, {"decision": "discard"}).status_code == 403
    assert states() == ["open"]


def test_empty_and_not_empty_say_so_in_words(viewer) -> None:
    assert "Nothing waits in quarantine." in page(viewer)
    quarantined_make()
    quarantined_make(state="accepted")
    html = page(viewer)
    assert "1 refused object waits for a decision." in html
    assert "The dataset ends in the middle of an element" in html
    assert html.count("data-row") == 1
    assert page(viewer, f"{PAGE}?state=all").count("data-row") == 2


def test_discarding_many_says_first_what_it_does_to_how_many(operator) -> None:
    rows = [quarantined_make(source_ae_title=f"CT_{number}") for number in range(3)]
    quarantined_make()
    chosen = {"decision": "discard", "object": [row.pk for row in rows], "next": "/quarantine/?state=open"}
    html = said(operator, **chosen)
    assert "Discard 3 objects?" in html
    assert "removed for good and cannot be had back" in html
    assert states() == ["open"] * 4
    assert "3 objects discarded." in said(operator, **chosen, confirmed="yes")
    assert states() == ["discarded"] * 3 + ["open"]
    assert not list(store_open().quarantined()) or len(list(store_open().quarantined())) == 1
    decided = AuditEvent.objects.filter(detail__action="discarded")
    assert decided.count() == 3
    assert all(event.actor.startswith("user:operator") for event in decided)


def test_everything_that_the_filter_shows(operator) -> None:
    for _ in range(4):
        quarantined_make(code="uid-invalid")
    quarantined_make(code="dataset-truncated")
    html = said(operator, decision="discard", scope="all", state="open", code="uid-invalid", source="")
    assert "Discard 4 objects?" in html
    assert html.count('name="object"') == 4


def test_as_many_as_are_offered_at_once_fit_into_the_form_that_confirms_it(operator) -> None:
    now = timezone.now()
    QuarantinedObject.objects.bulk_create(
        QuarantinedObject(sha256=f"{number:064x}", size_bytes=1, code="x", reason="x", first_at=now, latest_at=now)
        for number in range(510)
    )
    html = said(operator, decision="discard", scope="all", state="open", code="", source="")
    offered = re.findall(r'name="object" value="(\d+)"', html)
    assert f"{510 - len(offered)} more objects match" in html
    html = said(operator, decision="discard", confirmed="yes", object=offered, next=PAGE)
    assert f"{len(offered)} objects discarded." in html


def test_accepting_what_has_no_identity_says_why_it_stays(operator) -> None:
    row = quarantined_make(b"\x08\x00\x05\x00", transfer_syntax_uid="1.2.840.10008.1.2")
    html = said(operator, decision="accept", object=row.pk)
    assert "Accept 1 object anyway?" in html
    assert "flagged accepted-anyway" in html
    html = said(operator, decision="accept", object=row.pk, confirmed="yes")
    assert "1 object stayed: It does not say which study" in html
    assert states() == ["open"]


def test_decided_or_unknown_objects_are_left_alone(operator) -> None:
    row = quarantined_make(state="accepted", instance=None)
    assert "Nothing was chosen" in said(operator, decision="discard", object=row.pk, confirmed="yes")
    assert "Nothing was chosen" in said(operator, decision="discard", object=row.pk + 999, confirmed="yes")
    assert "Nothing was chosen" in said(operator, decision="discard")
    assert states() == ["accepted"]


@pytest.mark.parametrize(
    "fields",
    [
        {"decision": "burn"},
        {},
        {"decision": "discard", "object": "1 OR 1"},
        {"decision": "accept", "scope": "all", "state": "x"},
    ],
)
def test_nonsense_in_the_form_is_refused(operator, fields: dict) -> None:
    assert operator.post(DECIDE, fields).status_code == 400


@pytest.mark.parametrize("query", ["state=x", "code=nothing", "source=nobody", "before=1", "after=1-x"])
def test_nonsense_in_the_address_is_refused(viewer, query: str) -> None:
    assert viewer.get(f"{PAGE}?{query}").status_code == 400


def test_way_back_never_leads_elsewhere(operator) -> None:
    row = quarantined_make()
    for evil in ("javascript:alert(1)", "//evil.example/", "https://evil.example/", "/\\evil.example"):
        assert "evil" not in said(operator, decision="discard", object=row.pk, next=evil)
        assert "javascript:" not in said(operator, decision="discard", object=row.pk, next=evil)


def test_object_is_described_and_never_shown(viewer) -> None:
    decided = {"state": "discarded", "decided_by": "user:anna", "decided_at": timezone.now()}
    row = quarantined_make(b"MARKED^PATIENT is written here", source_ae_title=SCRIPT[:16], reason=SCRIPT)
    html = page(viewer, f"{PAGE}{row.pk}/")
    assert "It begins like plain text; what it says is not shown here." in html
    assert "MARKED" not in html
    assert "<script>alert" not in html + page(viewer)
    lost = quarantined_make()
    store_empty()
    assert "Its file cannot be read; check the disk." in page(viewer, f"{PAGE}{lost.pk}/")
    assert "by anna</p>" in page(viewer, f"{PAGE}{quarantined_make(**decided).pk}/")
    assert "Its bytes are not here." in page(viewer, f"{PAGE}{quarantined_make(keep=False).pk}/")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "It is empty."),
        (bytes(128) + b"DICM", "like a DICOM file"),
        (bytes(200), "zeros alone"),
        (b"\xff\xd8\xff\xe0JFIF", "JPEG picture"),
        (b"%PDF-1.7", "PDF document"),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO", "little-endian byte order with explicit VR, in group 0008"),
        (b"\x08\x00\x16\x00\x1a\x00\x00\x001.2", "little-endian byte order with implicit VR"),
        (b"\x00\x08\x00\x05CS\x00\x0aISO", "big-endian byte order with explicit VR"),
        (b"\x9f\x02\xfe\x81\x00\x42", "of no kind that is known"),
    ],
)
def test_beginnings_in_words(head: bytes, words: str) -> None:
    assert words in first_bytes_words(head)


def test_paging_and_cost(viewer, django_assert_max_num_queries) -> None:
    for _ in range(55):
        quarantined_make(keep=False)
    page(viewer)  # the session is written now and then
    with django_assert_max_num_queries(11):
        html = page(viewer)
    assert "50 objects on this page" in html
    older = html.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "5 objects on this page" in page(viewer, PAGE + older)


def test_alert_of_the_quarantine_leads_to_the_page() -> None:
    from studies.services import quarantine

    assert reverse("quarantine") == quarantine.LINK
