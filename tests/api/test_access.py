"""How programs are let in: the header, what becomes of bad tokens, and what is noted."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import OperationalError
from django.test import Client
from django.utils.timezone import now

from gateway_project.core.models import ApiToken, AuditEvent
from gateway_project.core.services.tokens import token_revoke
from gateway_project.wiring.api import access
from tests.api.programs import last_token, problem_of, program, token_text
from tests.web.factories import user_make

pytestmark = pytest.mark.django_db
ADDRESS = "/api/studies"


def bearer(text: str, **extra) -> Client:
    return Client(headers={"Authorization": text}, **{"REMOTE_ADDR": "10.1.2.3", **extra})


@pytest.fixture(autouse=True)
def set_up(db: None) -> None:
    cache.clear()
    user_make("administrator", username="first", superuser=True)


def test_scheme_is_read_in_any_case() -> None:
    text = token_text("viewer")
    assert bearer(f"bEaReR   {text} ").get(ADDRESS).status_code == 200


def test_garbage_expired_and_revoked_tokens_get_the_same_answer() -> None:
    expired = token_text("viewer")
    ApiToken.objects.filter(pk=last_token().pk).update(expires_at=now() - timedelta(seconds=1))
    revoked = token_text("viewer")
    token_revoke(last_token(), actor="user:anna", now=now())
    good = token_text("viewer")
    texts = [
        "",
        "garbage",
        "a.b.c",
        expired,
        revoked,
        good[:-1],
        good + " x",
        "gwt_" + "0" * 16 + "_" + "A" * 43,
        "ü" * 20,
    ]
    bodies = set()
    for text in texts:
        body = problem_of(
            bearer(f"Bearer {text}".encode().decode("latin-1")).get(ADDRESS), 401, "authentication-failed"
        )
        bodies.add(body["detail"])
    assert len(bodies) == 1


@pytest.mark.parametrize("header", ["Basic Zmlyc3Q6eA==", "Token abc", "Digest x", ""])
def test_other_schemes_are_nobody(header: str) -> None:
    problem_of(bearer(header).get(ADDRESS), 401, "not-authenticated")


def test_bad_token_is_not_helped_by_a_session() -> None:
    client = Client()
    client.force_login(user_make("administrator"))
    problem_of(client.get(ADDRESS, headers={"Authorization": "Bearer garbage"}), 401, "authentication-failed")


def test_token_in_the_address_is_none() -> None:
    client = Client(REMOTE_ADDR="10.1.2.3")
    problem_of(client.get(f"{ADDRESS}?token={token_text('viewer')}"), 401, "not-authenticated")


def test_refusals_are_limited_by_address_and_good_tokens_pass_all_the_same(monkeypatch) -> None:
    monkeypatch.setattr(access, "REFUSALS_ALLOWED", 3)
    for _try in range(3):
        problem_of(bearer("Bearer garbage").get(ADDRESS), 401, "authentication-failed")
    answer = bearer("Bearer garbage").get(ADDRESS, headers={"X-Forwarded-For": "10.9.9.9"})
    problem_of(answer, 429, "throttled")
    assert 800 <= int(answer["Retry-After"]) <= 900
    assert bearer(f"Bearer {token_text('viewer')}").get(ADDRESS).status_code == 200
    problem_of(bearer("Bearer garbage", REMOTE_ADDR="10.1.2.4").get(ADDRESS), 401, "authentication-failed")
    assert not AuditEvent.objects.exclude(subject__startswith="token:").exists()


def test_limit_ends_with_its_window(monkeypatch) -> None:
    monkeypatch.setattr(access, "REFUSALS_ALLOWED", 1)
    for status in (401, 429):
        assert bearer("Bearer garbage").get(ADDRESS).status_code == status
    later = access.time.time() + access.REFUSALS_SECONDS + 1
    monkeypatch.setattr(access.time, "time", lambda: later)
    assert bearer("Bearer garbage").get(ADDRESS).status_code == 401


def test_addresses_of_one_ipv6_network_count_together(monkeypatch) -> None:
    monkeypatch.setattr(access, "REFUSALS_ALLOWED", 1)
    assert bearer("Bearer garbage", REMOTE_ADDR="2001:db8::1").get(ADDRESS).status_code == 401
    assert bearer("Bearer garbage", REMOTE_ADDR="2001:db8::2").get(ADDRESS).status_code == 429
    assert bearer("Bearer garbage", REMOTE_ADDR="2001:db8:0:1::2").get(ADDRESS).status_code == 401


def test_use_is_noted_and_a_busy_database_shuts_nobody_out(monkeypatch) -> None:
    client = program(token=token_text("viewer"))
    client.get(ADDRESS)
    assert last_token().last_used_at is not None

    def busy(*_args: object, **_values: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(access, "token_used", busy)
    assert client.get(ADDRESS).status_code == 200


def test_token_is_let_in_with_a_handful_of_queries(django_assert_max_num_queries) -> None:
    client = program("viewer")
    client.get(ADDRESS)
    with django_assert_max_num_queries(2):
        client.get("/api/vaults")


def test_token_role_opens_no_page() -> None:
    client = program("administrator")
    for path in ("/studies/", "/admin/", "/api/docs/", "/api/redoc/"):
        answer = client.get(path)
        assert answer.status_code == 302
        assert answer["Location"].partition("?")[0].endswith("/login/")


@pytest.mark.parametrize("path", ["/api/docs/", "/api/redoc/"])
def test_docs_are_for_people_with_a_role(path: str) -> None:
    for role, status in (("viewer", 200), ("administrator", 200), ("integration", 403), ("", 403)):
        client = Client()
        client.force_login(user_make(role))
        assert client.get(path).status_code == status
