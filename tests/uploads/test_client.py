"""The vault's client against a real server that misbehaves in every way we could think of."""

import base64
import datetime as dt
import hashlib
import io
import json
import socket
import threading
from collections.abc import Callable
from email.utils import format_datetime
from typing import Any

import pytest

from tests.uploads.scripted_server import Answer, ScriptedServer, answer, scripted
from uploads.client import BLOCK_BYTES, VaultClient
from uploads.envelope.receipt import StoredFile
from uploads.ports import ArchivePort, VaultDescription, VaultError

TOKEN = "very-secret-token"
UPLOAD = "0123456789abcdef0123456789abcdef"
CONTENT = b"ciphertext" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
STORED = json.dumps({"name": "file-00001.gve", "size_bytes": len(CONTENT), "sha256": SHA256})
JWK = {"kty": "EC", "crv": "P-521", "x": "A", "y": "B"}
DESCRIPTION = {"version": 1, "vault_id": "vault-01", "receipt_jwk": JWK, "demonstration": True}
EMPTY_STATE = json.dumps({"upload_id": UPLOAD, "files": [], "receipt": None})


def _client(server: ScriptedServer, **options: Any) -> VaultClient:
    return VaultClient(server.url, token=TOKEN, **{"timeout_seconds": 5, "connect_seconds": 5, **options})


def _describe(client: ArchivePort) -> object:
    return client.describe()


def _key(client: ArchivePort) -> object:
    return client.recipient_key("kid")


def _state(client: ArchivePort) -> object:
    return client.upload_state(UPLOAD)


def _put(client: ArchivePort) -> object:
    client.put(UPLOAD, "file-00001.gve", io.BytesIO(CONTENT), size_bytes=len(CONTENT), sha256=SHA256)
    return None


def _commit(client: ArchivePort) -> object:
    return client.commit(UPLOAD, "a.b.c")


def _verify(client: ArchivePort) -> object:
    return client.verify(UPLOAD)


def _uploads(client: ArchivePort) -> object:
    return client.uploads_page()


CALLS: list[Callable[[ArchivePort], object]] = [_describe, _key, _state, _put, _commit, _verify, _uploads]


def _failure(call: Callable[[ArchivePort], object], *answers: Answer, **options: Any) -> VaultError:
    with scripted(*answers) as server, pytest.raises(VaultError) as caught:
        call(_client(server, **options))
    return caught.value


def _problem(code: str) -> bytes:
    return json.dumps({"type": "about:blank", "status": 0, "code": code}).encode()


def test_requests_carry_token_digest_and_length() -> None:
    with scripted(answer(201, STORED)) as server:
        _put(_client(server))
    (request,) = server.requests
    assert request.line == f"PUT /v1/uploads/{UPLOAD}/file-00001.gve HTTP/1.1"
    assert request.body == CONTENT
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-length"] == str(len(CONTENT))
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert request.headers["content-digest"] == f"sha-256=:{digest}:"
    assert "transfer-encoding" not in request.headers


def test_good_answers_are_read() -> None:
    state = {"upload_id": UPLOAD, "files": [json.loads(STORED)], "receipt": "a.b.c"}
    with scripted(
        answer(200, json.dumps(DESCRIPTION)),
        answer(200, json.dumps(JWK), content_type="application/jwk+json"),
        answer(200, json.dumps(state)),
        answer(200, "a.b.c\n", content_type="application/jose"),
    ) as server:
        client = _client(server)
        assert client.describe() == VaultDescription("vault-01", JWK, 1, demonstration=True)
        assert client.recipient_key("kid") == JWK
        found = client.upload_state(UPLOAD)
        assert found.files == {"file-00001.gve": StoredFile("file-00001.gve", len(CONTENT), SHA256)}
        assert found.receipt == "a.b.c"
        assert client.commit(UPLOAD, "x.y.z") == "a.b.c"
    assert server.requests[-1].body == b"x.y.z"


def test_chunked_answers_are_read() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    body = EMPTY_STATE.encode()
    chunked += b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
    with scripted(chunked) as server:
        assert _client(server).upload_state(UPLOAD).files == {}


def test_an_upload_under_another_name_is_the_studys_matter_and_not_the_lanes() -> None:
    body = json.dumps({"status": 403, "code": "foreign-upload"})
    refusal = answer(403, body, content_type="application/problem+json")
    with scripted(refusal) as server, pytest.raises(VaultError) as caught:
        _state(_client(server))
    assert (caught.value.code, caught.value.lane_fault, caught.value.permanent) == ("foreign-upload", False, True)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthorized"), (403, "forbidden"), (429, "busy"), (500, "server-error"), (502, "server-error"),
     (503, "server-error"), (507, "vault-full"), (407, "proxy-refused"), (408, "timeout")],
)  # fmt: skip
def test_c01_c02_statuses_that_are_the_lanes_fault(
    call: Callable[[ArchivePort], object], status: int, code: str
) -> None:
    error = _failure(call, answer(status, b"<html>", content_type="text/html"))
    assert (error.code, error.lane_fault, error.permanent) == (code, True, False)


def test_unknown_key_is_a_fault_of_the_lane_and_other_404s_are_the_address() -> None:
    error = _failure(_key, answer(404, _problem("key-unknown"), content_type="application/problem+json"))
    assert (error.code, error.lane_fault, error.permanent) == ("key-unknown", True, False)
    error = _failure(_put, answer(404))
    assert (error.code, error.lane_fault, error.permanent) == ("not-found", True, False)


@pytest.mark.parametrize(
    ("status", "own", "code", "permanent"),
    [
        (409, "content-conflict", "content-conflict", True),
        (409, "", "conflict", True),
        (409, "<script>", "conflict", True),
        (409, "file-missing", "file-missing", False),
        (413, "too-large", "too-large", True),
        (400, "digest-mismatch", "digest-mismatch", False),
        (400, "name-invalid", "name-invalid", True),
        (418, "", "rejected", True),
    ],
)
def test_refusals_of_this_one_request(status: int, own: str, code: str, permanent: bool) -> None:
    error = _failure(_put, answer(status, _problem(own), content_type="application/problem+json; charset=utf-8"))
    assert (error.code, error.lane_fault, error.permanent) == (code, False, permanent)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("999999999", 86400.0), ("soon", None), ("-1", None), ("", None)]
)
def test_c01_retry_after_is_honoured_and_bounded(value: str, seconds: float | None) -> None:
    for status in (429, 503):
        error = _failure(_put, answer(status, headers=f"Retry-After: {value}\r\n"))
        assert error.retry_after_seconds == seconds


def test_retry_after_as_a_date() -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3000)
    error = _failure(_put, answer(503, headers=f"Retry-After: {format_datetime(soon, usegmt=True)}\r\n"))
    assert error.retry_after_seconds is not None
    assert 2900 < error.retry_after_seconds <= 3000
    past = answer(503, headers="Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n")
    assert _failure(_put, past).retry_after_seconds == 0.0


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "bad",
    [
        answer(200, "<html>Welcome to the hotel</html>", content_type="text/html"),
        answer(200, "", content_type="application/json"),
        answer(200, "[]"),
        answer(200, "{}"),
        answer(200, "{}", content_type="application/jwk+json"),
        answer(200, "not a token", content_type="application/jose"),
        answer(200, '{"a":' * 10000),
        answer(204),
        answer(304),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
def test_c05_what_is_not_the_vaults_answer_is_never_success(call: Callable[[ArchivePort], object], bad: bytes) -> None:
    error = _failure(call, bad)
    assert error.lane_fault
    assert error.code in {"unexpected-answer", "connection-lost", "redirect"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("cut", [1, 20, 90, -1])
def test_c05_answers_cut_at_any_place_are_a_lost_connection(call: Callable[[ArchivePort], object], cut: int) -> None:
    kinds: dict[object, tuple[str, str]] = {
        _key: ("application/jwk+json", json.dumps(JWK)),
        _commit: ("application/jose", "a.b.cdef"),
    }
    kind, content = kinds.get(call, ("application/json", STORED if call is _put else json.dumps(DESCRIPTION)))
    error = _failure(call, answer(200, content, content_type=kind)[:cut])
    assert error.lane_fault
    assert error.code in {"connection-lost", "unexpected-answer"}


def test_put_answered_with_another_hash_is_no_success() -> None:
    other = json.dumps({"name": "file-00001.gve", "size_bytes": len(CONTENT), "sha256": "0" * 64})
    assert _failure(_put, answer(201, other)).code == "unexpected-answer"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", CALLS)
def test_c08_redirects_are_never_followed(call: Callable[[ArchivePort], object], status: int) -> None:
    with scripted(answer(200)) as elsewhere:
        error = _failure(call, answer(status, headers=f"Location: {elsewhere.url}/v1/\r\n"))
    assert (error.code, error.lane_fault) == ("redirect", True)
    assert elsewhere.requests == []


def test_c06_connection_cut_in_mid_body_is_the_lanes_fault() -> None:
    big = b"x" * 8_000_000
    with scripted(answer(201), body_limit=1_000_000) as server, pytest.raises(VaultError) as caught:
        _client(server).put(UPLOAD, "a", io.BytesIO(big), size_bytes=len(big), sha256=hashlib.sha256(big).hexdigest())
    assert (caught.value.code, caught.value.lane_fault) == ("connection-lost", True)


def test_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(VaultError) as caught:
        VaultClient(f"http://127.0.0.1:{port}", token=None).describe()
    assert (caught.value.code, caught.value.lane_fault) == ("connection-refused", True)


def _silent(until: threading.Event) -> Callable[[socket.socket], None]:
    def run(_connection: socket.socket) -> None:
        until.wait(10)

    return run


def _drip(start: bytes, until: threading.Event) -> Callable[[socket.socket], None]:
    """One octet every 50 ms: never silent for long, never done."""

    def run(connection: socket.socket) -> None:
        connection.sendall(start)
        while not until.wait(0.05):
            connection.sendall(b"x")

    return run


@pytest.mark.parametrize(
    "kind",
    [None, b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"],
    ids=["silent", "headers drip", "body drips"],
)
def test_c04_silent_and_dripping_servers_meet_the_deadline(kind: bytes | None) -> None:
    done = threading.Event()
    behaviour = _silent(done) if kind is None else _drip(kind, done)
    try:
        with scripted(behaviour) as server:
            with pytest.raises(VaultError) as caught:
                _client(server, timeout_seconds=0.3).describe()
            done.set()
    finally:
        done.set()
    assert (caught.value.code, caught.value.lane_fault) == ("timeout", True)


def test_endless_answer_is_bounded() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * 200_000
    assert _failure(_describe, endless).code == "answer-too-large"


def test_progress_is_told_and_its_exception_ends_the_transfer() -> None:
    big = b"y" * (BLOCK_BYTES * 3 + 5)
    digest = hashlib.sha256(big).hexdigest()
    told: list[int] = []
    with scripted(answer(201, json.dumps({"name": "a", "size_bytes": len(big), "sha256": digest}))) as server:
        _client(server).put(UPLOAD, "a", io.BytesIO(big), size_bytes=len(big), sha256=digest, on_progress=told.append)
    assert told == [BLOCK_BYTES, BLOCK_BYTES * 2, BLOCK_BYTES * 3, len(big)]

    class Stop(Exception):  # noqa: N818
        pass

    def stop(_sent: int) -> None:
        raise Stop

    with scripted(answer(201)) as server, pytest.raises(Stop):
        _client(server).put(UPLOAD, "a", io.BytesIO(big), size_bytes=len(big), sha256=digest, on_progress=stop)


class _Unreadable(io.BytesIO):
    def read(self, _size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (io.BytesIO(CONTENT[:-1]), "source-changed"),
        (io.BytesIO(b"z" * len(CONTENT)), "source-changed"),
        (_Unreadable(), "source-unreadable"),
    ],
)
def test_faults_of_our_own_staging_are_not_blamed_on_the_vault(source: io.BytesIO, code: str) -> None:
    with scripted(answer(201, STORED)) as server, pytest.raises(VaultError) as caught:
        _client(server).put(UPLOAD, "file-00001.gve", source, size_bytes=len(CONTENT), sha256=SHA256)
    assert (caught.value.code, caught.value.lane_fault, caught.value.permanent) == (code, False, False)
    assert server.requests == []


def test_bad_arguments_never_reach_the_network() -> None:
    with scripted(answer(500)) as server:
        client = _client(server)
        for call in (
            lambda: client.upload_state("../keys"),
            lambda: client.recipient_key("a/b"),
            lambda: client.put(UPLOAD, "..", io.BytesIO(b"x"), size_bytes=1, sha256=SHA256),
            lambda: client.put(UPLOAD, "a", io.BytesIO(b""), size_bytes=0, sha256=SHA256),
        ):
            with pytest.raises(VaultError) as caught:
                call()
            assert caught.value.permanent
    assert server.requests == []
