"""Logging in and out."""

import logging
import time

import pytest
from django.test import Client

from gateway_project.core.models import AuditEvent
from tests.web.factories import PASSWORD, user_make

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def set_up() -> None:
    user_make(username="first", superuser=True)


def log_in(client: Client, **values: str) -> object:
    return client.post("/login/", {"username": "anna", "password": PASSWORD, **values})


def test_login_leads_to_the_first_page_and_is_audited() -> None:
    user = user_make("viewer", username="anna")
    answer = log_in(Client())
    assert (answer.status_code, answer["Location"]) == (302, "/")
    event = AuditEvent.objects.get(event="User Authentication")
    assert (event.actor, event.subject) == ("user:anna", f"user:{user.pk}")


def test_session_key_is_new_after_login() -> None:
    user_make("viewer", username="anna")
    client = Client()
    session = client.session
    session["planted"] = 1
    session.save()
    before = session.session_key
    log_in(client)
    assert client.session.session_key != before


def test_session_ends_with_a_new_password() -> None:
    user = user_make("viewer", username="anna")
    client = Client()
    log_in(client)
    user.set_password("another long one 8")
    user.save()
    assert client.get("/studies/").status_code == 302


@pytest.mark.parametrize(
    "values", [{"password": "wrong"}, {"username": "nobody"}, {"username": "<b>x"}, {"password": ""}]
)
def test_every_failure_says_the_same(values: dict[str, str], caplog) -> None:
    user_make("viewer", username="anna")
    with caplog.at_level(logging.WARNING):
        answer = log_in(Client(), **values)
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "User name and password do not belong together." in html
    assert "<b>x" not in html
    assert all(record.message == "login refused" for record in caplog.records)


def test_switched_off_account_gets_the_same_answer() -> None:
    user = user_make("viewer", username="anna")
    user.is_active = False
    user.save()
    assert "do not belong together" in log_in(Client()).content.decode()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_login_never_leads_elsewhere(target: str) -> None:
    user_make("viewer", username="anna")
    assert log_in(Client(), next=target)["Location"] == "/"


def test_login_leads_back_to_the_page_asked_for() -> None:
    user_make("viewer", username="anna")
    assert log_in(Client(), next="/studies/?state=failed")["Location"] == "/studies/?state=failed"


def test_login_needs_the_form_token() -> None:
    user_make("viewer", username="anna")
    assert log_in(Client(enforce_csrf_checks=True)).status_code == 403


def test_logout_ends_the_session_and_takes_a_post() -> None:
    user_make("viewer", username="anna")
    client = Client()
    log_in(client)
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/")["Location"] == "/login/"
    assert client.get("/studies/").status_code == 302


def test_front_door_leads_a_stranger_to_the_login() -> None:
    assert Client().get("/")["Location"] == "/login/?next=/"


SLIDE = "gateway_project.wiring.middleware.SessionSlideMiddleware"


def test_session_slides_when_a_person_acts_and_not_when_a_page_refreshes_itself(settings) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = False
    settings.MIDDLEWARE = [*(name for name in settings.MIDDLEWARE if name != SLIDE), SLIDE]
    user_make("viewer", username="anna")
    client = Client()
    log_in(client)
    hour_ago = int(time.time()) - 3600
    session = client.session
    session["slid_at"] = hour_ago
    session.save()
    client.get("/studies/live/", headers={"X-Gateway-Live": "1"})
    assert client.session["slid_at"] == hour_ago
    client.get("/studies/")
    slid = client.session["slid_at"]
    assert slid > hour_ago
    answer = client.get("/studies/")
    assert client.session["slid_at"] == slid
    assert "gateway_session" not in answer.cookies
