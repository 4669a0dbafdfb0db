"""Before the first administrator: this machine only, nothing but set-up, and a link that works once."""

import stat

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from gateway_project.core.models import AuditEvent
from gateway_project.core.roles import ROLES
from gateway_project.wiring.setup import (
    SetupClosedError,
    administrator_create,
    administrator_exists,
    setup_link,
    setup_token_path,
    setup_token_remove,
)
from tests.web.factories import PASSWORD, user_make

pytestmark = pytest.mark.django_db
FORM = {"username": "eva", "password": PASSWORD, "password_again": PASSWORD}


@pytest.fixture(autouse=True)
def no_token_left() -> None:
    setup_token_remove()


def link_path() -> str:
    link = setup_link()
    assert link is not None
    return link.removeprefix("http://127.0.0.1:11113")


def test_the_four_roles_exist_after_migrate() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(ROLES)


def test_link_is_kept_over_restarts_and_only_the_owner_reads_it() -> None:
    assert setup_link() == setup_link()
    state = setup_token_path().stat()
    assert stat.S_IMODE(state.st_mode) == 0o600
    assert len(setup_token_path().read_text()) >= 43


def test_token_cut_off_by_a_crash_is_made_anew() -> None:
    setup_token_path().parent.mkdir(exist_ok=True)
    setup_token_path().write_text("")
    assert setup_link() is not None
    assert len(setup_token_path().read_text()) >= 43


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("localhost", "localhost"),
        ("pacs.example", "127.0.0.1"),
    ],
)
def test_link_leads_to_this_machine_wherever_the_web_binds(monkeypatch, host: str, shown: str) -> None:
    monkeypatch.setenv("GATEWAY_WEB__HOST", host)
    monkeypatch.setenv("GATEWAY_WEB__PORT", "8443")
    assert str(setup_link()).startswith(f"http://{shown}:8443/setup/")


@pytest.mark.parametrize("role", [None, "administrator"])
def test_no_link_once_there_is_an_administrator(role: str | None) -> None:
    setup_link()
    user_make(role or "", superuser=role is None)
    assert setup_link() is None
    assert not setup_token_path().exists()


def test_switched_off_administrator_does_not_open_set_up_again() -> None:
    user = user_make(superuser=True)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert administrator_exists()


@pytest.mark.parametrize("path", ["/", "/studies/", "/login/", "/admin/", "/nonsense"])
def test_every_page_says_how_to_finish_set_up(path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 403
    assert "make run" in answer.content.decode()


FORWARDED = [
    {"X-Forwarded-For": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"Via": "1.1 proxy"},
]


@pytest.mark.parametrize("headers", FORWARDED)
@pytest.mark.parametrize("path", ["/", "/login/", "setup"])
def test_behind_a_proxy_nothing_is_served_before_set_up(headers: dict[str, str], path: str) -> None:
    path = link_path() if path == "setup" else path
    for answer in (Client(headers=headers).get(path), Client(headers=headers).post(path, FORM)):
        assert answer.status_code == 403
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "setup-unfinished"
    assert not administrator_exists()


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.9", "::ffff:10.0.0.1", "", "nonsense"])
def test_other_machines_are_not_served_before_set_up(address: str) -> None:
    path = link_path()
    assert Client(REMOTE_ADDR=address).post(path, FORM).status_code == 403
    assert not administrator_exists()


def test_link_makes_the_administrator_logs_in_and_is_used_up() -> None:
    path = link_path()
    client = Client(REMOTE_ADDR="::1")
    assert "Who looks after this gateway?" in client.get(path).content.decode()
    answer = client.post(path, FORM)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    user = User.objects.get()
    assert (user.username, user.is_superuser, user.is_staff) == ("eva", True, True)
    assert user.check_password(PASSWORD)
    assert list(user.groups.values_list("name", flat=True)) == ["administrator"]
    assert client.get("/studies/").status_code == 200
    assert not setup_token_path().exists()
    assert Client().get(path).status_code == 404
    assert Client().post(path, {**FORM, "username": "mallory"}).status_code == 404
    assert AuditEvent.objects.filter(actor="user:eva", subject=f"user:{user.pk}").exists()


def test_wrong_token_makes_nothing() -> None:
    path = link_path()
    other = f"/setup/{'B' if path[7] == 'A' else 'A'}{path[8:]}"  # one letter of the token is another
    for wrong in ("/setup/x/", other, "/setup/%C3%A9/", "/setup/" + "a" * 43 + "/"):
        assert Client().post(wrong, FORM).status_code == 404
    setup_token_remove()
    assert Client().post(path, FORM).status_code == 404
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password_again": "something else 99"}, "The two passwords differ."),
        ({"password": "short", "password_again": "short"}, "too short"),
        ({"password": "password123", "password_again": "password123"}, "too common"),
        ({"password": "", "password_again": ""}, "required"),
        ({"username": ""}, "required"),
        ({"username": "eva<script>"}, "valid username"),
        ({"username": "longname-eva", "password": "longname-eva", "password_again": "longname-eva"}, "too similar"),
    ],
)
def test_form_refuses_weak_or_missing_values_with_a_reason(change: dict[str, str], words: str) -> None:
    path = link_path()
    answer = Client().post(path, {**FORM, **change})
    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert not User.objects.exists()


def test_form_takes_no_other_field() -> None:
    path = link_path()
    Client().post(path, {**FORM, "email": "x@example.org", "first_name": "X", "is_active": ""})
    user = User.objects.get()
    assert (user.email, user.first_name, user.is_active) == ("", "", True)


def test_set_up_needs_the_form_token() -> None:
    assert Client(enforce_csrf_checks=True).post(link_path(), FORM).status_code == 403
    assert not User.objects.exists()


def test_second_of_two_at_once_gets_nothing() -> None:
    administrator_create(username="eva", password=PASSWORD)
    with pytest.raises(SetupClosedError):
        administrator_create(username="mallory", password=PASSWORD)
    assert User.objects.count() == 1


def test_finished_set_up_costs_no_query_any_more(django_assert_num_queries) -> None:
    user_make(superuser=True)
    client = Client()
    client.get("/login/")
    with django_assert_num_queries(0):
        assert client.get("/login/").status_code == 200
