"""/health and /version, problem details, and the error pages."""

import uuid

import pytest
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection
from django.http import Http404
from django.test import Client, RequestFactory
from rest_framework import exceptions

from gateway_project import __version__
from gateway_project.wiring import browse
from gateway_project.wiring.problems import problem_response
from tests.web.factories import user_make

PROBLEM = "application/problem+json"
MARK = "MARKED^PATIENT 4711"


@pytest.mark.django_db
def test_health_names_the_instance_and_its_times(monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_INSTANCE__ID", "haus-4")
    answer = Client().get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["instanceId"]) == ("ok", "haus-4")
    assert body["startupTime"] <= body["utcNow"]
    assert body["utcNow"].endswith("+00:00")


def test_health_says_503_while_the_database_does_not_answer(monkeypatch, db) -> None:
    def gone(*_args: object) -> None:
        raise OperationalError(MARK)

    with monkeypatch.context() as patch:
        patch.setattr(connection, "cursor", gone)
        answer = Client().get("/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "database-unavailable"
    assert MARK not in answer.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/health", "/version"])
@pytest.mark.parametrize("extra", [{"REMOTE_ADDR": "10.1.2.3"}, {"headers": {"X-Forwarded-For": "127.0.0.1"}}])
def test_from_elsewhere_an_account_is_needed(path: str, extra: dict) -> None:
    assert Client(**extra).get(path).status_code == 401
    client = Client(**extra)
    client.force_login(user_make("integration"))
    assert client.get(path).status_code == 200


@pytest.mark.django_db
def test_version_is_ours() -> None:
    assert Client().get("/version").json()["version"] == __version__


@pytest.mark.django_db
def test_api_refusal_is_a_problem_with_the_correlation_id_of_its_header() -> None:
    answer = Client(REMOTE_ADDR="10.1.2.3").get("/version", headers={"X-Correlation-ID": "from-outside-1"})
    body = answer.json()
    assert answer["Content-Type"] == PROBLEM
    assert set(body) == {"type", "title", "status", "code", "detail", "correlation_id"}
    assert (body["status"], body["code"]) == (401, "not-authenticated")
    assert body["correlation_id"] == answer["X-Correlation-ID"] == "from-outside-1"


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_api_refuses_other_methods_as_a_problem(method: str) -> None:
    answer = getattr(Client(), method)("/health")
    assert (answer.status_code, answer["Content-Type"], answer.json()["code"]) == (405, PROBLEM, "method-not-allowed")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (exceptions.ValidationError({"name": [MARK]}), 400, "invalid"),
        (exceptions.ParseError(MARK), 400, "parse-error"),
        (exceptions.NotFound(MARK), 404, "not-found"),
        (Http404(MARK), 404, "not-found"),
        (PermissionDenied(MARK), 403, "forbidden"),
        (exceptions.Throttled(wait=900, detail=MARK), 429, "throttled"),
        (exceptions.APIException(MARK), 500, "internal"),
        (OperationalError(MARK), 503, "database-unavailable"),
    ],
)
def test_no_exception_text_reaches_a_client(error: Exception, status: int, code: str) -> None:
    answer = problem_response(error, {})
    assert answer is not None
    assert (answer.status_code, answer["Content-Type"]) == (status, PROBLEM)
    assert f'"code": "{code}"' in answer.content.decode()
    assert MARK not in answer.content.decode()


def test_throttled_says_how_long_to_wait() -> None:
    answer = problem_response(exceptions.Throttled(wait=900), {})
    assert answer is not None
    assert answer["Retry-After"] == "900"


def test_what_nobody_foresaw_is_left_to_the_500() -> None:
    assert problem_response(RuntimeError(MARK), {}) is None


@pytest.mark.django_db
def test_unknown_address_gets_a_page_for_people_and_a_problem_for_programs(viewer) -> None:
    page = viewer.get("/nowhere/")
    assert page.status_code == 404
    html = page.content.decode()
    assert "Nothing is here" in html
    assert page["X-Correlation-ID"] in html
    assert "no study was lost" in html
    for path in ("/api/nowhere", "/dicom-web/nowhere"):
        assert viewer.get(path)["Content-Type"] == PROBLEM


@pytest.mark.django_db
def test_wrong_host_is_refused() -> None:
    answer = Client().get("/studies/", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "evil" not in answer.content.decode()


@pytest.mark.django_db
def test_crash_of_a_page_says_what_was_not_lost_and_nothing_else(viewer, monkeypatch) -> None:
    def crash(*_args: object, **_named: object) -> None:
        raise RuntimeError(MARK)

    monkeypatch.setattr(browse, "studies_listing", crash)
    viewer.raise_request_exception = False
    answer = viewer.get("/studies/")
    html = answer.content.decode()
    assert answer.status_code == 500
    assert "No study was lost" in html
    assert answer["X-Correlation-ID"] in html
    assert MARK not in html


def test_error_page_needs_no_database() -> None:
    """No `db` mark: pytest-django fails any query."""
    from gateway_project.wiring.problems import server_error

    answer = server_error(RequestFactory().get("/studies/"))
    assert answer.status_code == 500
    assert b"Something went wrong" in answer.content


@pytest.mark.django_db
def test_answers_carry_the_headers_that_keep_browsers_strict(viewer) -> None:
    for path in ("/studies/", "/login/", "/nowhere/"):
        headers = viewer.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.django_db
def test_pages_hold_no_inline_script_or_style(viewer, vault) -> None:
    from tests.web.factories import day_make

    studies = day_make(vault)
    for path in ["/studies/", "/login/", "/nowhere/", *(f"/studies/{study.pk}/" for study in studies)]:
        html = viewer.get(path).content.decode()
        assert "style=" not in html
        assert "<style" not in html
        assert "onclick=" not in html
        assert "javascript:" not in html
        assert html.count("<script") == html.count('.js" defer></script>')


def test_forged_correlation_ids_are_not_taken_over(db) -> None:
    answer = Client().get("/version", headers={"X-Correlation-ID": "x<script>"})
    assert "<" not in answer["X-Correlation-ID"]
    assert uuid.UUID(int=int(answer["X-Correlation-ID"], 16))
