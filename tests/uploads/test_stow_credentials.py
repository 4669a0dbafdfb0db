"""OAuth client credentials: a token asked for once, kept until shortly before it expires, never shown."""

import base64
import json
import logging
import threading
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.uploads.scripted_server import ScriptedServer, answer, scripted
from uploads.ports import VaultError
from uploads.stow.credentials import ClientCredentials, Fixed

SECRET = "client secret+%/ä"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def token(value: str = "MARK-token", **members: Any) -> bytes:
    return answer(200, json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": 600, **members}))


def source(server: ScriptedServer, clock: Clock | None = None, **options: Any) -> ClientCredentials:
    options = {"client_id": "gate:way", "secret": SECRET, "scope": "dicom.write", "timeout_seconds": 5, **options}
    return ClientCredentials(f"{server.url}/token", clock=clock or Clock(), **options)


def test_request_is_the_grant_of_rfc_6749() -> None:
    with scripted(token()) as server:
        assert source(server).header() == "Bearer MARK-token"
    (request,) = server.requests
    assert request.line == "POST /token HTTP/1.1"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(request.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["dicom.write"]}
    # RFC 6749 2.3.1: id and secret are form-encoded before they are joined
    value = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
    assert value == "gate%3Away:client+secret%2B%25%2F%C3%A4"


def test_scope_may_be_left_out() -> None:
    with scripted(token()) as server:
        source(server, scope="").header()
    assert server.requests[0].body == b"grant_type=client_credentials"


@pytest.mark.parametrize(("lifetime", "kept"), [(600, 540), (3600, 3540), (100, 90), ("600", 540), (None, 270)])
def test_token_is_kept_until_shortly_before_it_expires(lifetime: object, kept: float) -> None:
    clock = Clock()
    with scripted(token("first", expires_in=lifetime), token("second")) as server:
        tokens = source(server, clock)
        assert tokens.header() == "Bearer first"
        clock.now += kept - 1
        assert tokens.header() == "Bearer first"
        clock.now += 1
        assert tokens.header() == "Bearer second"
    assert len(server.requests) == 2


def test_refused_token_is_asked_for_anew() -> None:
    with scripted(token("first"), token("second")) as server:
        tokens = source(server)
        tokens.header()
        assert tokens.renew()
        assert tokens.header() == "Bearer second"


def test_threads_share_one_request() -> None:
    with scripted(token()) as server:
        tokens = source(server)
        threads = [threading.Thread(target=tokens.header) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_refused_client_is_a_matter_for_a_person(status: int) -> None:
    problem = json.dumps({"error": "invalid_client", "error_description": "MARK"})
    with scripted(answer(status, problem)) as server, pytest.raises(VaultError) as caught:
        source(server).header()
    assert (caught.value.code, caught.value.lane_fault) == ("unauthorized", True)
    assert "token server" in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [answer(500), answer(503, headers="Retry-After: 9\r\n"), answer(302, headers="Location: http://127.0.0.1:1/\r\n"),
     answer(200, "<html>"), answer(200, "[]"), answer(200, "{}"), b"", answer(200, '{"access_token": "a\\nb"}'),
     token(token_type="mac"), answer(200, "x" * 100_000)],
)  # fmt: skip
def test_other_failures_let_the_lane_try_again(bad: bytes) -> None:
    with scripted(bad) as server, pytest.raises(VaultError) as caught:
        source(server).header()
    assert (caught.value.lane_fault, caught.value.permanent) == (True, False)
    assert caught.value.code == "oauth-failed"
    assert caught.value.retry_after_seconds == (9 if b" 503 " in bad[:20] else None)


def test_failed_request_is_not_remembered_as_a_token() -> None:
    with scripted(answer(500), token("late")) as server:
        tokens = source(server)
        with pytest.raises(VaultError):
            tokens.header()
        assert tokens.header() == "Bearer late"


def test_neither_secret_nor_token_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted(token(), answer(401), answer(500)) as server:
        tokens = source(server)
        texts = [str(tokens.header() is None), repr(tokens)]
        for _ in range(2):
            tokens.renew()
            with pytest.raises(VaultError) as caught:
                tokens.header()
            texts += [str(caught.value), repr(caught.value), str(caught.value.__dict__)]
    seen = "".join(texts) + caplog.text
    assert "MARK" not in seen
    assert SECRET not in seen


@pytest.mark.parametrize("address", ["http://login.example.org/token", "ftp://x", "https://u:p@login/token"])
def test_token_server_beyond_this_machine_needs_https(address: str) -> None:
    with pytest.raises(VaultError):
        ClientCredentials(address, client_id="a", secret="b")


@pytest.mark.parametrize("bad", ["", "a b", "a\nb", "ä"])
def test_token_that_no_header_can_carry_is_refused(bad: str) -> None:
    with pytest.raises(VaultError) as caught:
        Fixed.bearer(bad)
    assert caught.value.code == "token-invalid"


def test_user_with_a_colon_is_refused() -> None:
    with pytest.raises(VaultError):
        Fixed.basic("a:b", "c")
