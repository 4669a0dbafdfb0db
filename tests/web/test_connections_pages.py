"""Connections: who is connected, where we listen, who was here; and ending an association."""

import pytest
from django.test import Client
from django.urls import reverse

from gateway_project.core.models import AuditEvent
from gateway_project.core.services.alerts import alert_open
from tests.web.panel_rows import SCRIPT, endpoint_make, listeners_answer, live_row, record_make

pytestmark = pytest.mark.django_db
PAGE = "/connections/"


@pytest.fixture(autouse=True)
def endpoint(db: None) -> None:
    endpoint_make()


def page(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


@pytest.mark.parametrize("path", [PAGE, "/connections/live/"])
@pytest.mark.parametrize(("role", "status"), [("viewer", 200), ("operator", 200), ("integration", 403), ("", 403)])
def test_staff_sees_it(client_as, path: str, role: str, status: int) -> None:
    assert client_as(role).get(path).status_code == status


def test_listeners_that_do_not_answer_are_said_plainly(viewer) -> None:
    html = page(viewer)
    assert "The listeners do not answer: nothing can be received." in html
    assert "make run" in html
    assert "not known" in html


def test_nobody_and_somebody(viewer) -> None:
    with listeners_answer():
        assert "Nobody is connected; the gateway listens." in page(viewer)
    with listeners_answer(live_row(), live_row(calling_ae_title="MR_2", bytes_per_second=700_000.0)):
        html = page(viewer)
        assert "2 associations are open: CT_NORD_1, MR_2." in html
        assert "15.0\u00a0MB/s together." in html
        assert "45.8\u00a0MB" in html
        assert reverse("connection-end") not in html


def test_empty_history_says_how_to_try_it_with_our_own_title_and_port(viewer, monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__AE_TITLE", "HAUS_4")
    monkeypatch.setenv("GATEWAY_DICOM__PORT", "11119")
    assert "echoscu -aec HAUS_4 this-machine 11119" in page(viewer)


def test_endpoint_that_could_not_be_bound_says_why(viewer) -> None:
    endpoint_make("tls", ae_title="GW_TLS", port=2762)
    alert_open("endpoint:tls", code="endpoint-down", words="Endpoint tls does not listen. Another program listens.")
    with listeners_answer():
        html = page(viewer)
    assert "1 endpoint does not listen." in html
    assert "Another program listens." in html


def test_end_aborts_what_was_chosen_and_is_audited(client_as) -> None:
    row = live_row()
    with listeners_answer(row) as ended:
        assert client_as("viewer").post("/connections/end/", {"association": row["association_id"]}).status_code == 403
        operator = client_as("operator")
        assert reverse("connection-end") in page(operator)
        answer = operator.post("/connections/end/", {"association": row["association_id"]}, follow=True)
        assert "is being ended" in answer.content.decode()
        again = operator.post("/connections/end/", {"association": "nobody"}, follow=True)
        assert "had ended by itself" in again.content.decode()
    assert ended == [row["association_id"], "nobody"]
    assert AuditEvent.objects.get(subject__startswith="association:").detail == {"action": "association ended"}
    answer = operator.post("/connections/end/", {"association": "x", "next": "//evil.example/"}, follow=True)
    assert answer.redirect_chain == [("/connections/", 302)]
    assert "do not answer, so nothing was ended" in answer.content.decode()


def test_history_by_outcome_and_device_with_reasons_in_words(viewer) -> None:
    record_make(calling_ae_title="GOOD", minutes=0)
    record_make("rejected", minutes=0, calling_ae_title="FOREIGN", reason="called-ae-unknown", times=37)
    record_make("aborted", minutes=0, calling_ae_title="GARBLED", reason="pdu-garbled")
    html = page(viewer)
    assert "Correct the called AE title at the device." in html
    assert "37 times" in html
    assert "It broke a rule of the protocol: pdu garbled." in html
    with listeners_answer():
        assert "2 associations have ended today, 1 of them broken off; 37 were rejected." in page(viewer)
    rows = page(viewer, f"{PAGE}?outcome=rejected").split("<tbody>")[-1]
    assert ("FOREIGN" in rows, "GOOD" in rows) == (True, False)
    rows = page(viewer, f"{PAGE}?source=GOOD").split("<tbody>")[-1]
    assert ("FOREIGN" in rows, "GOOD" in rows) == (False, True)


def test_history_that_forgets_does_not_pretend_to_have_counted_all(viewer, monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__CONNECTION_HISTORY", "3")
    for outcome in ("released", "aborted", "released", "rejected", "rejected"):
        record_make(outcome, minutes=0)
    with listeners_answer():
        assert "At least 3 associations have ended today, 1 of the latest broken off; 2 were rejected." in page(viewer)
        record_make("rejected", minutes=0)
        assert "; at least 3 were rejected." in page(viewer)


@pytest.mark.parametrize(
    "reason", ["connection-closed", "by-peer", "send-timeout", "sub-operation-timeout", "file-vanished", "idle"]
)
def test_connection_that_is_cut_is_no_broken_rule(viewer, reason: str) -> None:
    record_make("lost", minutes=0, reason=reason)
    assert "rule of the protocol" not in page(viewer)


def test_history_is_paged_by_keyset(viewer) -> None:
    for number in range(35):
        record_make(minutes=number, calling_ae_title=f"AE{number:03}")
    first = page(viewer)
    assert "30 associations on this page" in first
    older = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = page(viewer, PAGE + older)
    assert "5 associations on this page" in second
    newer = second.split('rel="prev" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "AE000" in page(viewer, PAGE + newer)


@pytest.mark.parametrize(
    "query",
    ["outcome=x", "source=nobody", "before=1", "after=x-1", "before=99999999999999999999-1", "before=\u0661-\u0661"],
)
def test_nonsense_in_the_address_is_refused(viewer, query: str) -> None:
    assert viewer.get(f"{PAGE}?{query}").status_code == 400


def test_script_in_an_ae_title_is_text(viewer) -> None:
    record_make(calling_ae_title=SCRIPT[:16], reason=SCRIPT)
    with listeners_answer(live_row(calling_ae_title=SCRIPT, called_ae_title=SCRIPT)):
        html = page(viewer)
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


def test_page_costs_the_same_however_much_there_is(viewer, django_assert_max_num_queries) -> None:
    for number in range(40):
        record_make(minutes=number)
    page(viewer)  # the session is written now and then
    with listeners_answer(*[live_row() for _ in range(20)]), django_assert_max_num_queries(10):
        page(viewer)


@pytest.mark.parametrize("path", ["/connections/end/"])
def test_acts_are_posts_with_a_token(client_as, path: str) -> None:
    assert client_as("operator").get(path).status_code == 405
    assert client_as("operator", enforce_csrf_checks=True).post(path).status_code == 403
