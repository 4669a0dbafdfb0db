"""W01, W02, W04, W06, W08, W14: script and control characters from peers on every page; what every answer carries."""

import re
from html.parser import HTMLParser
from ipaddress import ip_network

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.utils.timezone import now

from gateway_project.core.admin_site import site
from gateway_project.core.models import Alert, AuditEvent, WebSession
from gateway_project.wiring.prepare import PrepareError, web_reach_check
from gateway_project.wiring.setup import administrator_exists
from network.models import AssociationOutcome, AssociationRecord, RemoteAE
from studies.models import QuarantinedObject, SourceActivity, Study
from tests.web.factories import (
    PASSWORD,
    attempt_make,
    revision_make,
    series_make,
    study_make,
    upload_make,
    user_make,
    vault_make,
)
from tests.web.role_matrix import OPEN
from tests.web.test_role_matrix import KNOWN, address
from uploads.models import UploadPart

pytestmark = pytest.mark.django_db
SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"><img src=x onerror=alert(2)>'"
SHORT = "<b onclick=x>"  # 13 characters: it fits into an AE title
HOSTILE = (SCRIPT, "<img src=x", SHORT, "onerror=alert(2)>")


@pytest.fixture
def hostile_scene() -> dict[str, int]:
    """Every text that comes from outside, as an attacker would write it."""
    user_make(username="first", superuser=True)
    vault = vault_make("v")
    study = study_make(
        patient_name=f"{SCRIPT}^{IMAGE}", patient_id=IMAGE, accession_number=SCRIPT, study_description=SCRIPT,
        referring_physician_name=SCRIPT, institution_name=IMAGE, source_ae_title=SHORT, modalities=SHORT,
        reason=f"{SCRIPT} {IMAGE}", state="failed_permanent", study_id=SCRIPT,
    )  # fmt: skip
    series = series_make(study, instances=2, modality=SHORT, series_description=SCRIPT, protocol_name=IMAGE)
    series.instances.update(source_ae_title=SHORT, flags=SCRIPT, receiving_ae_title=SHORT)
    revision = revision_make(study, reason_words=SCRIPT, actor=f"user:{SCRIPT}")
    job = upload_make(revision, vault, "parked", error_code="vault-said-<b>", error_words=f"{SCRIPT} {IMAGE}")
    attempt_make(job, "failed", error_words=SCRIPT)
    UploadPart.objects.create(job=job, name="file-1.gve", sha256="0" * 64, size_bytes=1)
    alert = Alert.objects.create(key=SCRIPT, code=SHORT, words=f"{SCRIPT} {IMAGE}", link="javascript:alert(1)")
    AuditEvent.objects.create(
        event="Configuration",
        actor=f"user:{SCRIPT}",
        subject=f"study:{study.pk}",
        detail={"action": SCRIPT, "x": IMAGE},
    )
    quarantined = QuarantinedObject.objects.create(
        sha256="1" * 64, size_bytes=1, code=SHORT, reason=f"{SCRIPT} {IMAGE}", source_ae_title=SHORT, peer_address=SHORT
    )
    AssociationRecord.objects.create(
        association_id="a1", calling_ae_title=SHORT, called_ae_title=SHORT, reason=SCRIPT, opened_at=now(),
        outcome=AssociationOutcome.REJECTED,
    )  # fmt: skip
    remote = RemoteAE.objects.create(ae_title=SHORT, note=SCRIPT)
    person = user_make("viewer", username=f"{SHORT}x")
    WebSession.objects.create(session_key="k", session_data="", user=person, browser=SCRIPT, expire_date=now())
    source = SourceActivity.objects.create(calling_ae_title=SHORT, first_at=now(), last_at=now())
    return {
        "study": study.pk,
        "series": series.pk,
        "instance": series.instances.earliest("pk").pk,
        "source": source.pk,
        "lane": vault.lane_id,
        "alert": alert.pk,
        "vault": vault.pk,
        "user": person.pk,
        "peer": remote.pk,
        "quarantine": quarantined.pk,
    }


class Tags(HTMLParser):
    """No script or style of the page's own, no handler, no address that is a script."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given and given.get("type") != "application/json"):
            self.faults.append(f"<{tag}> with content")
        for name, value in attrs:
            scripted = (value or "").strip().lower().startswith(("javascript:", "data:", "vbscript:"))
            if name == "style" or name.startswith("on") or (scripted and name in ("href", "src", "action")):
                self.faults.append(f"<{tag} {name}={value!r}>")


def harmless(answer: HttpResponse, where: str) -> None:
    if answer.get("Content-Type", "").startswith("text/plain"):
        assert answer["X-Content-Type-Options"] == "nosniff", where
        return
    html = answer.content.decode() if not answer.streaming else ""
    for text in HOSTILE:
        assert text not in html, where
    if "text/html" not in answer.get("Content-Type", ""):
        return
    reader = Tags()
    reader.feed(html)
    assert reader.faults == [], where


def guarded(answer: HttpResponse, where: str) -> None:
    policy = answer["Content-Security-Policy"]
    assert "default-src 'self'" in policy, where
    assert "frame-ancestors 'none'" in policy, where
    assert "unsafe" not in policy, where
    assert answer["X-Frame-Options"] == "DENY", where
    assert answer["X-Content-Type-Options"] == "nosniff", where
    assert answer["Referrer-Policy"] == "same-origin", where
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin", where
    assert answer["X-Correlation-ID"], where


def test_w01_w02_w14_every_page_shows_hostile_texts_as_text(hostile_scene) -> None:
    client = Client()
    client.force_login(User.objects.get(username="first"))
    seen = 0
    for route, rule in KNOWN:
        if "GET" not in rule.methods:
            continue
        answer = client.get(address(route, rule, hostile_scene), follow=True)
        harmless(answer, route)
        guarded(answer, route)
        seen += answer.status_code == 200
    assert seen > 30


def test_w01_every_row_of_the_admin_shows_hostile_texts_as_text(hostile_scene) -> None:
    client = Client()
    client.force_login(User.objects.get(username="first"))
    shown = ""
    for model in site._registry:
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        answer = client.get(path)
        harmless(answer, path)
        shown += answer.content.decode()
        for row in site._registry[model].get_queryset(answer.wsgi_request)[:3]:
            answer = client.get(f"{path}{row.pk}/change/", follow=True)
            harmless(answer, f"{path}{row.pk}")
            shown += answer.content.decode()
    assert "&lt;script&gt;alert(1)" in shown, "they are shown, as text"


def test_w14_pages_of_a_person_are_in_no_cache(hostile_scene) -> None:
    client = Client()
    client.force_login(User.objects.get(username="first"))
    for route, rule in KNOWN:
        if rule.roles is OPEN or "GET" not in rule.methods:
            continue
        answer = client.get(address(route, rule, hostile_scene))
        if answer.status_code == 200:
            assert "no-store" in answer["Cache-Control"], route


def test_w14_error_pages_and_refusals_carry_the_same(client, hostile_scene) -> None:
    for answer in (
        client.get("/nowhere/"),
        client.get("/studies/"),
        client.get("/login/", headers={"Host": "evil.example"}),
        client.generic("BREW", "/login/"),
        Client(enforce_csrf_checks=True).post("/login/", {}),
    ):
        guarded(answer, str(answer.status_code))


def test_w14_over_tls_browsers_are_told_to_come_over_tls(settings, client, hostile_scene) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.WEB_TRUSTED_PROXIES = (ip_network("127.0.0.1"),)
    plain = client.get("/login/", headers={"X-Forwarded-Proto": "http"})
    assert (plain.status_code, plain["Location"]) == (301, "https://testserver/login/")
    secure = client.get("/login/", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"})
    assert secure.status_code == 200
    assert "max-age=31536000" in secure["Strict-Transport-Security"]
    forged = Client(REMOTE_ADDR="10.9.9.9").get("/login/", headers={"X-Forwarded-Proto": "https"})
    assert forged.status_code == 301, "a stranger's word about TLS is not taken"


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/x\r\nSet-Cookie: a=1",
     "http:evil.example", "\\\\evil.example", "/\t/evil.example"],
)  # fmt: skip
def test_w04_no_form_leads_elsewhere_or_writes_a_header(hostile_scene, target: str) -> None:
    client = Client()
    client.force_login(user_make("operator"))
    for answer in (
        client.post(f"/alerts/{hostile_scene['alert']}/acknowledge/", {"next": target}),
        Client().post("/login/", {"username": "first", "password": PASSWORD, "next": target}),
    ):
        assert answer.status_code == 302
        assert "\r" not in answer["Location"]
        assert "\n" not in answer["Location"]
        assert answer["Location"].startswith("/")
        assert not answer["Location"].startswith(("//", "/\\", "/\t"))
        assert "a" not in answer.cookies


def test_w04_names_of_downloads_hold_nothing_of_a_peer(hostile_scene) -> None:
    client = Client()
    client.force_login(user_make("operator"))
    answer = client.post(f"/studies/{hostile_scene['study']}/custody/export/")
    assert re.fullmatch(
        rf'attachment; filename="custody-study-{hostile_scene["study"]}-[0-9TZ]+\.json"', answer["Content-Disposition"]
    )


def test_w06_a_planted_session_is_not_taken_over(hostile_scene) -> None:
    client = Client()
    client.cookies["gateway_session"] = "planted0by0an0attacker0000000000"
    client.post("/login/", {"username": "first", "password": PASSWORD})
    assert client.cookies["gateway_session"].value != "planted0by0an0attacker0000000000"
    attacker = Client()
    attacker.cookies["gateway_session"] = "planted0by0an0attacker0000000000"
    assert attacker.get("/studies/").status_code == 302


def test_w06_an_ended_session_is_worth_nothing(hostile_scene) -> None:
    client = Client()
    client.post("/login/", {"username": "first", "password": PASSWORD})
    stolen = Client()
    stolen.cookies["gateway_session"] = client.cookies["gateway_session"].value
    assert stolen.get("/studies/").status_code == 200
    client.post("/logout/")
    assert stolen.get("/studies/").status_code == 302


def test_w08_nobody_has_an_account_before_set_up(db) -> None:
    assert not administrator_exists()
    assert not User.objects.exists()
    for name in ("admin", "administrator", "root", "gateway", ""):
        for password in ("admin", "password", "", "gateway"):
            answer = Client().post("/login/", {"username": name, "password": password})
            assert answer.status_code == 403
    assert Client(REMOTE_ADDR="10.0.0.9").get("/login/").status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "gateway.hospital.example"])
def test_w08_pages_are_not_served_in_clear_beyond_the_machine(host: str, monkeypatch, settings) -> None:
    monkeypatch.setenv("GATEWAY_WEB__HOST", host)
    with pytest.raises(PrepareError, match="in clear"):
        web_reach_check()
    monkeypatch.setenv("GATEWAY_WEB__ALLOW_REMOTE", "true")
    web_reach_check()
    monkeypatch.delenv("GATEWAY_WEB__ALLOW_REMOTE")
    settings.WEB_HTTPS = True
    web_reach_check()


def test_w09_forms_set_only_what_they_show(hostile_scene) -> None:
    person = user_make("viewer", username="anna")
    client = Client()
    client.force_login(person)
    forged = {
        "is_superuser": "on",
        "is_staff": "on",
        "groups": ["1", "2", "3"],
        "username": "root",
        "state": "uploaded",
    }
    new = "another long one 8"
    client.post("/account/password/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new, **forged})
    client.post("/studies/", {"query": "x", **forged})
    person.refresh_from_db()
    assert (person.username, person.is_superuser, person.is_staff) == ("anna", False, False)
    assert [group.name for group in person.groups.all()] == ["viewer"]
    assert Study.objects.get().state == "failed_permanent"
