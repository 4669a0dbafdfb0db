"""The STOW-RS client against a real server that misbehaves."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from network.dicomweb.stow import Part, StoreAnswer
from tests.uploads.scripted_server import Answer, ScriptedServer, answer, scripted
from uploads.ports import VaultError
from uploads.stow.client import RequestRefusedError, StowClient
from uploads.stow.credentials import Credentials, Fixed

TOKEN = "very-secret-token"
UID = "1.2.3"
STORED = json.dumps({"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [UID]}}]}})
JSON = "application/dicom+json"
CONTENT = b"Part 10 file" * 1000


def good(status: int = 200) -> bytes:
    return answer(status, STORED, content_type=JSON)


def _client(server: ScriptedServer, credentials: Credentials | None = None, **options: Any) -> StowClient:
    options = {"timeout_seconds": 5, "connect_seconds": 5, **options}
    return StowClient(f"{server.url}/dicom-web/", credentials=credentials or Fixed.bearer(TOKEN), **options)


def _store(client: StowClient, content: bytes = CONTENT, **options: Any) -> StoreAnswer:
    return client.store([Part(len(content), lambda: [content])], **options)


def _failure(*answers: Answer, **options: Any) -> VaultError:
    with scripted(*answers) as server, pytest.raises(VaultError) as caught:
        _store(_client(server, **options))
    return caught.value


def test_request_is_a_store_with_length_type_and_token() -> None:
    with scripted(good()) as server:
        assert _store(_client(server)) == StoreAnswer({UID: None})
    (request,) = server.requests
    assert request.line == "POST /dicom-web/studies HTTP/1.1"
    assert request.headers["accept"] == JSON
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert request.headers["content-length"] == str(len(request.body))
    assert "transfer-encoding" not in request.headers
    assert CONTENT in request.body


@pytest.mark.parametrize("status", [200, 202, 409])
def test_statuses_with_an_account_of_each_instance(status: int) -> None:
    with scripted(good(status)) as server:
        assert _store(_client(server)).stored == {UID: None}


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthorized"), (403, "forbidden"), (404, "not-found"), (405, "not-found"), (407, "proxy-refused"),
     (408, "timeout"), (429, "busy"), (500, "server-error"), (502, "server-error"), (503, "server-error"),
     (507, "vault-full")],
)  # fmt: skip
def test_statuses_that_are_the_lanes_fault(status: int, code: str) -> None:
    error = _failure(answer(status, b"<html>", content_type="text/html"))
    assert (error.code, error.lane_fault, error.permanent) == (code, True, False)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "stow-refused"), (409, "stow-refused"), (413, "stow-too-large"), (415, "stow-refused"),
     (411, "stow-refused"), (422, "stow-refused")],
)  # fmt: skip
def test_statuses_that_refuse_the_request_as_a_whole(status: int, code: str) -> None:
    error = _failure(answer(status, b"no", content_type="text/plain"))
    assert isinstance(error, RequestRefusedError)
    assert (error.code, error.lane_fault, error.permanent) == (code, False, True)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status: int) -> None:
    error = _failure(answer(status, headers="Retry-After: 17\r\n"))
    assert error.retry_after_seconds == 17


@pytest.mark.parametrize(
    "bad",
    [
        answer(200, "<html>welcome</html>", content_type="text/html"),
        answer(200, '<NativeDicomModel xmlns="x"/>', content_type="application/dicom+xml"),
        answer(200, "{", content_type=JSON),
        answer(200, "", content_type=JSON),
        answer(202, "", content_type="text/plain"),
    ],
)
def test_success_without_dicom_json_confirms_nothing(bad: bytes) -> None:
    error = _failure(bad)
    assert (error.code, error.lane_fault) == ("stow-answer-unknown", True)


def test_redirect_is_never_followed() -> None:
    with scripted(good()) as elsewhere:
        error = _failure(answer(307, headers=f"Location: {elsewhere.url}/studies\r\n"))
        assert (error.code, error.lane_fault) == ("redirect", True)
    assert elsewhere.requests == []


def test_endless_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uploads.stow.client.ANSWER_BYTES", 1000)
    error = _failure(answer(200, STORED + " " * 2000, content_type=JSON))
    assert (error.code, error.lane_fault) == ("answer-too-large", True)


def test_silence_ends_at_the_deadline_and_says_what_happens_next() -> None:
    def silent(connection: socket.socket) -> None:
        connection.recv(1)

    started = time.monotonic()
    error = _failure(silent, timeout_seconds=0.5)
    assert time.monotonic() - started < 4
    assert (error.code, error.lane_fault) == ("timeout", True)
    assert "sent again" in str(error)


@pytest.mark.parametrize("cut", [lambda c: c.close(), lambda c: c.sendall(good()[:-20])])
def test_cut_answers_are_lost_connections(cut: Callable[[socket.socket], None]) -> None:
    error = _failure(cut)
    assert (error.code, error.lane_fault) == ("connection-lost", True)
    assert "sent again" in str(error)


def test_cut_in_mid_body_is_a_lost_connection() -> None:
    content = bytes(8_000_000)
    with scripted(good(), body_limit=100_000) as server, pytest.raises(VaultError) as caught:
        _store(_client(server), content)
    assert (caught.value.code, caught.value.lane_fault) == ("connection-lost", True)


def test_refusal_before_the_body_was_read_is_heard() -> None:
    """A server may answer by the headers alone and leave the rest unread."""
    heard = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer(413))
                connection.shutdown(socket.SHUT_WR)
                heard.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        client = StowClient(f"http://127.0.0.1:{listener.getsockname()[1]}", credentials=Fixed.none(),
                            timeout_seconds=1)  # fmt: skip
        with pytest.raises(VaultError) as caught:
            _store(client, bytes(20_000_000))
        heard.set()
        thread.join()
    assert caught.value.code in ("stow-too-large", "timeout")


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(VaultError) as caught:
        _store(StowClient(f"http://127.0.0.1:{port}", credentials=Fixed.none()))
    assert (caught.value.code, caught.value.lane_fault) == ("connection-refused", True)


def test_what_progress_raises_ends_the_request_and_is_passed_on() -> None:
    class StoppedError(Exception):
        pass

    def stop(_sent: int) -> None:
        raise StoppedError

    with scripted(good()) as server, pytest.raises(StoppedError):
        _store(_client(server), on_progress=stop)


def test_part_that_changed_ends_the_request() -> None:
    with scripted(good()) as server, pytest.raises(VaultError) as caught:
        _client(server).store([Part(5, lambda: [b"1234"])])
    assert (caught.value.code, caught.value.lane_fault, caught.value.permanent) == ("part-changed", False, False)
    assert server.requests == []


class Renewable:
    """Credentials whose first value is refused."""

    def __init__(self) -> None:
        self.values = ["Bearer old", "Bearer new", "Bearer newer"]

    def header(self) -> str | None:
        return self.values[0]

    def renew(self) -> bool:
        self.values.pop(0)
        return True


def test_refused_token_is_renewed_once_and_everything_sent_again() -> None:
    with scripted(answer(401), good()) as server:
        assert _store(_client(server, Renewable())).stored == {UID: None}
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer old", "Bearer new"]
    assert server.requests[0].body.count(CONTENT) == server.requests[1].body.count(CONTENT) == 1


def test_renewed_token_that_is_refused_too_is_a_refusal() -> None:
    with scripted(answer(401)) as server, pytest.raises(VaultError) as caught:
        _store(_client(server, Renewable()))
    assert caught.value.code == "unauthorized"
    assert len(server.requests) == 2


def test_fixed_credentials_are_not_tried_again() -> None:
    with scripted(answer(401)) as server, pytest.raises(VaultError):
        _store(_client(server))
    assert len(server.requests) == 1


def test_name_and_password_travel_as_basic() -> None:
    with scripted(good()) as server:
        _store(_client(server, Fixed.basic("gateway", "pässword")))
    scheme, value = server.requests[0].headers["authorization"].split()
    assert (scheme, base64.b64decode(value).decode()) == ("Basic", "gateway:pässword")


@pytest.mark.parametrize("address", ["http://pacs.example.org/dicom-web", "http://10.0.0.1", "https://u:p@pacs/", "x"])
def test_addresses_that_would_show_patients_to_the_network_are_refused(address: str) -> None:
    with pytest.raises(VaultError) as caught:
        StowClient(address, credentials=Fixed.none())
    assert caught.value.code in ("insecure-address", "address-invalid")


def test_no_secret_is_shown() -> None:
    texts = []
    for bad in (answer(401), answer(500), b"", answer(302, headers="Location: http://127.0.0.1:1/\r\n"), answer(400)):
        with scripted(bad) as server:
            client = _client(server)
            with pytest.raises(VaultError) as caught:
                _store(client)
        texts += [str(caught.value), repr(caught.value), str(caught.value.__dict__), repr(client)]
    assert TOKEN not in "".join(texts)


def test_a_server_that_takes_the_bytes_too_slowly_is_left_however_steadily_it_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead, moment = [0.0], time.monotonic
    monkeypatch.setattr("uploads.stow.client.time.monotonic", lambda: moment() + ahead[0])

    def slowly() -> Iterator[bytes]:
        for _block in range(10):
            ahead[0] += 100
            yield b"x" * 1000

    with scripted(good()) as server:
        client = _client(server, slowest_bytes_per_second=100.0)
        with pytest.raises(VaultError) as caught:
            client.store([Part(10_000, slowly)])
        assert (caught.value.code, caught.value.lane_fault) == ("timeout", True)
        assert "too slowly" in str(caught.value)
        client = _client(server, slowest_bytes_per_second=10.0)
        assert client.store([Part(10_000, slowly)]) == StoreAnswer({UID: None})
