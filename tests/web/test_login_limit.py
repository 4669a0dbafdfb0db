"""W06 and brute force: how often an address may fail, who is held responsible, and what an open session can do."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.db import connection
from django.test import Client
from django.utils.timezone import now

from gateway_project.core.models import Alert, AuditEvent, LoginCount
from gateway_project.core.services import logins
from gateway_project.core.services.logins import attempt_begin, attempt_succeeded, network_of
from tests.web.factories import PASSWORD, user_make

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def anna() -> None:
    user_make(username="first", superuser=True)
    user_make("viewer", username="anna")


def guess(client: Client | None = None, **extra: object) -> object:
    return (client or Client()).post("/login/", {"username": "anna", "password": "wrong"}, **extra)


def log_in(client: Client | None = None, **extra: object) -> object:
    return (client or Client()).post("/login/", {"username": "anna", "password": PASSWORD}, **extra)


def test_the_sixth_is_refused_with_the_right_password_too_and_told_how_long() -> None:
    assert [guess().status_code for _ in range(5)] == [200] * 5
    answer = log_in()
    assert (answer.status_code, answer["Retry-After"]) == (429, "900")
    html = answer.content.decode()
    assert "Too many wrong passwords from here" in html
    assert "15 min" in html
    assert 0 < int(guess()["Retry-After"]) <= 900


def test_another_address_is_not_locked_out() -> None:
    for _ in range(6):
        guess()
    assert log_in(REMOTE_ADDR="10.9.9.9").status_code == 302


def test_the_door_opens_again_after_the_time(monkeypatch) -> None:
    for _ in range(6):
        guess()
    LoginCount.objects.update(until=now() - timedelta(seconds=1))
    assert log_in().status_code == 302


def test_success_gives_back_its_own_attempt_and_no_other() -> None:
    user_make("viewer", username="mallory")
    for _ in range(4):
        guess()
    mine = {"username": "mallory", "password": PASSWORD}
    assert Client().post("/login/", mine).status_code == 302
    assert guess().status_code == 200
    assert Client().post("/login/", mine).status_code == 429


def test_limit_is_an_option(monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_WEB__LOGIN_LIMIT", "2")
    assert [guess().status_code for _ in range(3)] == [200, 200, 429]


def test_changing_the_password_counts_too_and_ends_no_session() -> None:
    client = Client()
    log_in(client)
    wrong = {"old_password": "wrong", "new_password1": "another long one 8", "new_password2": "another long one 8"}
    for _ in range(5):
        assert client.post("/account/password/", wrong).status_code == 200
    answer = client.post("/account/password/", wrong | {"old_password": PASSWORD})
    assert (answer.status_code, answer["Retry-After"]) == (429, "900")
    assert "You stay logged in" in answer.content.decode()
    assert client.get("/studies/").status_code == 200
    assert log_in().status_code == 429


def test_a_new_password_that_is_too_weak_is_no_guess() -> None:
    client = Client()
    log_in(client)
    weak = {"old_password": PASSWORD, "new_password1": "12345", "new_password2": "12345"}
    for _ in range(7):
        assert client.post("/account/password/", weak).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Client-IP"])
def test_forged_headers_give_no_new_attempts(header: str) -> None:
    answers = [guess(headers={header: f"203.0.113.{n}"}).status_code for n in range(6)]
    assert answers[-1] == 429


def test_behind_a_declared_proxy_each_client_counts_for_itself(settings) -> None:
    settings.WEB_TRUSTED_PROXIES = (ip_network("127.0.0.1"), ip_network("10.0.0.0/24"))
    for _ in range(6):
        guess(headers={"X-Forwarded-For": "203.0.113.7"})
    assert log_in(headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 429
    assert log_in(headers={"X-Forwarded-For": "203.0.113.8"}).status_code == 302
    assert not Alert.objects.filter(code="proxy-undeclared").exists()
    # What a client writes before its proxy does is hearsay.
    assert log_in(headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.7, 10.0.0.9"}).status_code == 429


def test_a_proxy_that_nobody_declared_locks_everybody_out_and_an_alert_says_so() -> None:
    for n in range(6):
        guess(headers={"X-Forwarded-For": f"203.0.113.{n}"})
    alert = Alert.objects.get(code="proxy-undeclared")
    assert "WEB.TRUSTED_PROXIES" in alert.words


def test_lock_is_audited_once_and_failures_as_a_count() -> None:
    for _ in range(9):
        guess()
    event = AuditEvent.objects.get(event="User Authentication")
    assert (event.outcome, event.actor) == ("failure", "address:127.0.0.1")
    assert event.detail == {"action": "address locked out", "failed": 5, "seconds": 900}
    assert "anna" not in str(event.detail)


def test_login_tells_how_many_had_failed_before() -> None:
    guess()
    guess()
    log_in()
    assert AuditEvent.objects.get(actor="user:anna").detail["failed_before"] == 2


def test_what_ran_out_is_forgotten_and_told_as_one_count() -> None:
    moment = now()
    for n in range(30):
        attempt_begin(f"10.1.0.{n}", limit=5, now=moment)
    attempt_begin("10.2.0.1", limit=5, now=moment + timedelta(minutes=30))
    assert LoginCount.objects.count() == 1
    event = AuditEvent.objects.get(event="User Authentication")
    assert event.detail == {"action": "logins failed", "failed": 30, "addresses": 30}


def test_rows_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(logins, "MOST_ROWS", 10)
    moment = now()
    for n in range(25):
        attempt_begin(f"10.1.0.{n}", limit=5, now=moment + timedelta(milliseconds=n))
    assert LoginCount.objects.count() == 10
    assert LoginCount.objects.filter(network="10.1.0.24").exists()


def test_a_flood_from_a_locked_address_writes_nothing(django_assert_num_queries) -> None:
    moment = now()
    for _ in range(6):
        attempt_begin("10.1.0.1", limit=5, now=moment)
    with django_assert_num_queries(1):
        assert attempt_begin("10.1.0.1", limit=5, now=moment).wait_seconds == 900


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("<script>", "unknown"),
    ],
)
def test_who_counts_as_one(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.django_db(transaction=True)
def test_many_at_once_get_no_more_than_the_limit() -> None:
    moment = now()

    def attempt(_n: int) -> bool:
        try:
            return attempt_begin("10.1.0.1", limit=5, now=moment).wait_seconds == 0
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(24))) == 5


def test_attempts_that_succeed_leave_no_row() -> None:
    attempt_succeeded(attempt_begin("10.1.0.1", limit=5, now=now()))
    assert not LoginCount.objects.exists()


@pytest.mark.parametrize("username", ["anna", "nobody", "gone"])
def test_every_name_costs_one_hash(username: str, monkeypatch) -> None:
    """Time tells nothing, because the work is the same: one hash for a right name, a wrong one, one switched off."""
    from django.contrib.auth.hashers import MD5PasswordHasher

    gone = user_make("viewer", username="gone")
    gone.is_active = False
    gone.save()
    hashed = []
    encode = MD5PasswordHasher.encode
    monkeypatch.setattr(MD5PasswordHasher, "encode", lambda self, *given: hashed.append(1) or encode(self, *given))
    Client().post("/login/", {"username": username, "password": "wrong"})
    assert len(hashed) == 1
