"""Alerts: open, acknowledged, healed; who was told; the test button."""

import pytest
from django.test import Client
from django.urls import reverse

from gateway_project.core.models import Alert, AuditEvent, JobState
from gateway_project.core.options import REGISTRY
from tests.core.notice_servers import mail_server, options_set
from tests.web.factories import revision_make, series_make, study_make, upload_make, vault_make
from tests.web.panel_rows import SCRIPT, ago, alert_make, told_make

pytestmark = pytest.mark.django_db
PAGE = "/alerts/"


@pytest.fixture(autouse=True)
def settings_of_this_test_alone(db: None):
    REGISTRY.invalidate()
    yield
    REGISTRY.invalidate()


def page(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


@pytest.mark.parametrize("path", [PAGE, "/alerts/live/"])
@pytest.mark.parametrize(("role", "status"), [("viewer", 200), ("operator", 200), ("integration", 403), ("", 403)])
def test_staff_sees_it(client_as, path: str, role: str, status: int) -> None:
    assert client_as(role).get(path).status_code == status


def test_nothing_wrong_is_said(viewer) -> None:
    html = page(viewer)
    assert "Nothing is wrong." in html
    assert "Nothing has healed yet." in html
    assert "Nobody outside these pages." in html


def test_most_severe_come_first_and_acknowledged_ones_stand_apart(viewer) -> None:
    alert_make(words="A look.")
    alert_make(severity="critical", words="A hand.", count=48)
    alert_make(
        words="Seen.", acknowledged_at=ago(minutes=1), acknowledged_by="user:anna", acknowledged_note="on Monday"
    )
    html = page(viewer)
    assert "1 thing needs a hand now. 1 other needs a look." in html
    assert html.index("A hand.") < html.index("A look.") < html.index("Seen.")
    assert "seen 48 times" in html
    assert "acknowledged by anna" in html
    assert "on Monday" in html
    assert "Acknowledge</button>" not in html


def test_acknowledging_one_and_all(client_as) -> None:
    one, *_others = [alert_make() for _ in range(3)]
    address = reverse("alert-acknowledge", args=(one.pk,))
    assert client_as("viewer").post(address).status_code == 403
    assert client_as("viewer").post("/alerts/acknowledge/").status_code == 403
    operator = client_as("operator")
    answer = operator.post(address, {"note": "Technician is told.", "next": PAGE}, follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    one.refresh_from_db()
    assert (one.acknowledged_note, one.healed_at) == ("Technician is told.", None)
    assert "Somebody had acknowledged it" in operator.post(address, follow=True).content.decode()
    assert "2 alerts acknowledged." in operator.post("/alerts/acknowledge/", follow=True).content.decode()
    assert "had been acknowledged already" in operator.post("/alerts/acknowledge/", follow=True).content.decode()
    assert AuditEvent.objects.filter(detail__action="alert acknowledged").count() == 3
    assert operator.get("/alerts/acknowledge/").status_code == 405


def test_alert_leads_to_what_it_is_about(viewer) -> None:
    vault = vault_make("main")
    study = study_make()
    series_make(study)
    job = upload_make(revision_make(study), vault, JobState.PARKED)
    alert_make(f"job:upload:{job.pk}")
    alert_make("lane:vault:main")
    alert_make("endpoint:default")
    alert_make("quarantine", link="/quarantine/")
    alert_make("evil", link="//evil.example/")
    html = page(viewer)
    for address in (f"/studies/{study.pk}/", f"/vaults/{vault.pk}/", "/connections/", "/quarantine/"):
        assert f'href="{address}">Go there' in html
    assert "evil.example" not in html


def test_who_was_told_is_said(viewer) -> None:
    told_make(alert_make())
    told_make(alert_make(), state=JobState.READY)
    told_make(alert_make(), way="webhook", state=JobState.PARKED)
    html = page(viewer)
    for words in ("e-mail: told of it", "e-mail: waits to be told of it", "webhook: could not be told of it"):
        assert words in html


def test_history_is_paged(viewer) -> None:
    for number in range(35):
        alert_make(minutes=500, healed_at=ago(minutes=number + 1))
    html = page(viewer)
    assert "30 alerts on this page" in html
    older = html.split('rel="next" href="')[1].split('"')[0]
    assert "5 alerts on this page" in page(viewer, PAGE + older)
    assert viewer.get(f"{PAGE}?before=x").status_code == 400


def test_test_button_is_for_administrators_and_tells_the_result_in_words(client_as) -> None:
    assert client_as("operator").post("/alerts/test/").status_code == 403
    administrator = client_as("administrator")
    assert "No way is set up yet" in administrator.post("/alerts/test/", follow=True).content.decode()
    assert "A test was sent a moment ago" in administrator.post("/alerts/test/", follow=True).content.decode()


def test_test_mail_arrives_and_a_dead_server_is_said(client_as, monkeypatch) -> None:
    from gateway_project.wiring.pages import alerts

    monkeypatch.setattr(alerts, "TEST_EVERY_SECONDS", -1.0)
    administrator = client_as("administrator")
    with mail_server() as box:
        options_set(ALERT_EMAIL_HOST="localhost", ALERT_EMAIL_PORT=box.port, ALERT_EMAIL_TLS="none",
                    ALERT_EMAIL_TO=["anna@hospital.example"])  # fmt: skip
        options_set(ALERT_WEBHOOK_URL="http://169.254.169.254/MARK-secret", ALERT_WEBHOOK_TOKEN="MARK-token")
        html = administrator.post("/alerts/test/", follow=True).content.decode()
        assert "Test by e-mail: The mail server took it" in html
        assert "Test by webhook: The address leads to this machine itself or to a link-local network" in html
        assert "1 recipient through localhost" in html
        assert "MARK" not in html
        assert len(box.mails) == 1
    html = administrator.post("/alerts/test/", follow=True).content.decode()
    assert "Test by e-mail: Nothing listens there" in html
    assert "localhost" not in page(client_as("viewer"))


def test_script_is_text_and_the_cost_is_the_same(viewer, django_assert_max_num_queries) -> None:
    for _ in range(30):
        told_make(alert_make(words=SCRIPT, acknowledged_note=SCRIPT, acknowledged_by=SCRIPT, acknowledged_at=ago()))
        told_make(alert_make(words=SCRIPT, healed_at=ago()))
    alert_make("lane:vault:x", words=SCRIPT)
    alert_make("job:upload:7", words=SCRIPT)
    page(viewer)  # the session is written now and then
    with django_assert_max_num_queries(15):
        html = page(viewer)
    assert "<script>alert" not in html


def test_flood_of_alerts_hides_neither_its_number_nor_an_old_critical_one(operator) -> None:
    first = alert_make(severity="critical", minutes=600, words="The disk is full.")
    for number in range(220):
        alert_make(f"flood:{number}")
    html = page(operator)
    assert f'id="alert-{first.pk}"' in html
    assert "221 alerts are open." in html
    assert "and 21 more alerts" in html
    assert "Acknowledge all 221" in html


def test_top_of_every_page_leads_to_the_alerts(viewer) -> None:
    alert_make()
    assert '<a class="alerts" href="/alerts/"' in page(viewer, "/studies/")
    assert Alert.objects.count() == 1
