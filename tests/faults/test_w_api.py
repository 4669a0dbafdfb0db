"""FAULTS: what strangers and broken programs send to the API."""

import json
import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client

from gateway_project.core.models import AuditEvent, JobState
from studies.models import Study
from tests.api.conftest import as_role
from tests.api.programs import post, problem_of, program, token_text
from tests.web.factories import (
    attempt_make,
    lane_make,
    revision_make,
    series_make,
    study_make,
    upload_make,
    user_make,
    vault_make,
)
from uploads.models import UploadJob

__all__ = ["as_role"]

SEARCH = "/api/studies/search"
NOT_JSON = {
    "depth 1,000": "[" * 1000 + "]" * 1000,
    "objects 1,000 deep": '{"a":' * 1000 + "1" + "}" * 1000,
    "depth 100,000": "[" * 30_000,
    "depth 9": json.dumps({"state": [[[[[[[[]]]]]]]]}),
    "a key twice": '{"patientId": "P1", "patientId": "P2"}',
    "a key twice, within": '{"state": [{"a": 1, "a": 2}]}',
    "NaN": '{"limit": NaN}',
    "Infinity": '{"limit": -Infinity}',
    "1e400": '{"limit": 1e400}',
    "a number of 5,000 digits": '{"limit": ' + "9" * 5000 + "}",
    "cut off": '{"patientId": "P1"',
    "two values": "{}{}",
    "a list": "[]",
    "a text": '"x"',
    "null": "null",
    "UTF-16": '{"patientId": "P1"}'.encode("utf-16"),
    "Latin-1": '{"patientName": "M\xfcller"}'.encode("latin-1"),
    "half a surrogate, raw": b'{"patientName": "\xed\xa0\x80"}',
    "with a BOM": b"\xef\xbb\xbf{}",
}


def raw(client: Client, body: str | bytes, content_type: str = "application/json") -> Any:
    return client.generic("POST", SEARCH, body, content_type=content_type)


@pytest.mark.django_db
@pytest.mark.parametrize("name", NOT_JSON)
def test_w22_json_that_means_two_things_or_nothing(as_role, name: str) -> None:
    problem_of(raw(as_role("viewer"), NOT_JSON[name]), 400, "parse-error")


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "a\\u0000b"])
def test_w22_text_that_no_database_takes(as_role, text: str) -> None:
    problem_of(raw(as_role("viewer"), f'{{"patientName": "{text}"}}'), 400, "invalid")


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                                  "application/xml", "application/json+x", ""])  # fmt: skip
def test_w22_other_media_types_are_not_read(as_role, kind: str) -> None:
    problem_of(raw(as_role("viewer"), "{}", kind), 415, "unsupported-media-type")


@pytest.mark.django_db
def test_w16_large_bodies_are_refused_and_not_read_whole(as_role) -> None:
    client = as_role("viewer")
    large = json.dumps({"patientName": "x" * 70_000})
    problem_of(raw(client, large), 413, "body-too-large")
    assert raw(client, " " * 65_000 + "{}").status_code == 200


@pytest.mark.django_db
def test_w16_chunks_are_not_taken_for_an_empty_search(as_role) -> None:
    answer = as_role("viewer").generic(
        "POST", SEARCH, "", content_type="application/json", headers={"Transfer-Encoding": "chunked"}
    )
    problem_of(answer, 411, "length-required")


@pytest.mark.django_db
def test_w09_no_field_beyond_the_declared_is_ever_set(as_role) -> None:
    study = study_make(open_since=None, state="failed_permanent")
    before = Study.objects.filter(pk=study.pk).values().get()
    client = as_role("administrator")
    for action in ("settle", "retry"):
        address = f"/api/studies/{study.study_instance_uid}/{action}"
        for body in ({"state": "uploaded"}, {"is_superuser": True}, {"actor": "user:anna"}, {"pk": 1}):
            problem_of(post(client, address, body), 400, "invalid")
    assert Study.objects.filter(pk=study.pk).values().get() == before
    assert not User.objects.filter(is_superuser=True).exclude(username="first").exists()


@pytest.mark.django_db
def test_w10_objects_are_guarded_by_the_role_whoever_guesses_their_number(as_role) -> None:
    vault = vault_make("hidden")
    for role in ("integration",):
        client = as_role(role)
        for path in (f"lanes/{vault.lane.pk}", "vaults", "alerts", "quarantine", "quarantine/1", "system/diagnostics"):
            problem_of(client.get(f"/api/{path}"), 403, "forbidden")
    # there or not: the role is judged first, so that nobody learns which numbers exist
    for pk in (vault.lane.pk, 987_654):
        problem_of(post(as_role("viewer"), f"/api/lanes/{pk}/pause"), 403, "forbidden")


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_w24_method_overrides_are_ignored(as_role, header: str) -> None:
    lane = lane_make()
    address = f"/api/lanes/{lane.pk}"
    client = as_role("administrator")
    assert client.get(address, headers={header: "DELETE"}).status_code == 200
    problem_of(post(client, address, headers={header: "GET"}), 405, "method-not-allowed")
    problem_of(client.get(f"{address}/pause", headers={header: "POST"}), 405, "method-not-allowed")
    lane.refresh_from_db()
    assert lane.paused is False


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "DELETE", "PUT", "PATCH", "QUERY", "LINK"])
def test_w24_other_methods_are_405(as_role, method: str) -> None:
    answer = as_role("administrator").generic(method, "/api/studies")
    problem_of(answer, 405, "method-not-allowed")


@pytest.mark.django_db
def test_w25_no_other_site_is_let_read(as_role) -> None:
    client = as_role("viewer")
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization"}  # fmt: skip
    for answer in (client.get("/api/studies", headers=asked), client.options("/api/studies", headers=asked)):
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.django_db
def test_w26_unsigned_foreign_and_stale_tokens(as_role) -> None:
    good = token_text("administrator")
    unsigned = "eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW5pc3RyYXRvciJ9."
    for text in (unsigned, good.swapcase(), good[:21] + "A" * 43, f"{good}\\n", "null", "undefined", "gwt_" + "é" * 60):
        header = f"Bearer {text}".encode().decode("latin-1")
        answer = Client(REMOTE_ADDR="10.1.2.3").get("/api/studies", headers={"Authorization": header})
        problem_of(answer, 401, "authentication-failed")


@pytest.mark.django_db(transaction=True)
def test_w28_many_clicks_at_once_do_it_once() -> None:
    user_make("administrator", username="first", superuser=True)
    vault = vault_make()
    study = study_make(state="receiving", open_since=None)
    series_make(study)
    settle, token = f"/api/studies/{study.study_instance_uid}/settle", token_text("operator")
    answers = at_once(lambda: post(program(token=token), settle).json()["settled"])
    assert sorted(answers) == [False] * 5 + [True]
    assert (study.revisions.count(), UploadJob.objects.count()) == (1, 1)

    failed = study_make(state="failed_permanent")
    series_make(failed)
    job = upload_make(revision_make(failed), vault, JobState.PARKED, error_code="x", error_words="Damaged.")
    attempt_make(job, "failed")
    retry = f"/api/studies/{failed.study_instance_uid}/retry"
    assert at_once(lambda: post(program(token=token), retry).status_code) == [200] * 6
    assert UploadJob.objects.get(pk=job.pk).state == JobState.READY
    assert UploadJob.objects.filter(revision__study=failed).count() == 1

    pause = f"/api/lanes/{vault.lane.pk}/pause"
    assert at_once(lambda: post(program(token=token), pause).json()["state"]) == ["paused"] * 6
    assert AuditEvent.objects.filter(subject=f"lane:{vault.lane.name}", detail__action="pause").count() == 1


def at_once(ask: Any) -> list[Any]:
    """Six clients that begin together."""
    barrier, answers = threading.Barrier(6), []

    def click() -> None:
        barrier.wait(20)
        try:
            answers.append(ask())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    connection.close()
    return answers
