"""The serving process: one silent peer does not stop the others, one server per directory, a graceful stop."""

import base64
import hashlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.uploads.reference_vault import TOKEN, vault_directory, vault_served
from uploads.vault.registry import gateway_revoke

UPLOAD = "0123456789abcdef0123456789abcdef"
SERVE = """
import sys
from pathlib import Path
from uploads.vault.server import vault_serve
vault_serve(Path(sys.argv[1]), vault_id="vault-01", demonstration=True, port=0, threads=1, silence_seconds=1,
            on_ready=lambda url: print(url, flush=True))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return vault_directory(tmp_path / "vault")


def _served(directory: Path) -> AbstractContextManager[tuple[subprocess.Popen[str], int]]:
    return vault_served(directory, code=SERVE)


def _connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=20)


def test_silent_peers_free_the_only_thread(directory: Path) -> None:
    with _served(directory) as (_, port):
        for start in (b"GET /v1/ HT", f"PUT /v1/uploads/{UPLOAD}/a HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n"
                      f"Content-Length: 10\r\nContent-Digest: sha-256=:{'A' * 43}=:\r\n\r\nabc".encode()):  # fmt: skip
            with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
                silent.sendall(start)
                connection = _connect(port)
                connection.request("GET", "/v1/")  # waits until the silent one is let go
                assert connection.getresponse().status == 200
                connection.close()
    assert list((directory / "parts").iterdir()) == []


def test_second_server_on_the_same_directory_is_refused(directory: Path) -> None:
    with _served(directory):
        command = [sys.executable, "-m", "uploads.vault", "serve", "--directory", str(directory)]
        command += ["--vault-id", "vault-01", "--demonstration", "--port", "0"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "store-locked" in ended.stderr


def test_used_port_is_refused_at_once(directory: Path, tmp_path: Path) -> None:
    with _served(directory) as (_, port):
        command = [sys.executable, "-m", "uploads.vault", "serve", "--directory", str(tmp_path / "other")]
        command += ["--vault-id", "vault-02", "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "address-unusable" in ended.stderr


def test_told_to_stop_it_finishes_what_it_has_begun(directory: Path) -> None:
    content = b"x" * 1000
    with _served(directory) as (process, port):
        connection = _connect(port)
        connection.putrequest("PUT", f"/v1/uploads/{UPLOAD}/a")
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        connection.putheader("Authorization", f"Bearer {TOKEN}")
        connection.putheader("Content-Digest", f"sha-256=:{digest}:")
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content[:500])
        _wait_for(lambda: any((directory / "parts").iterdir()))
        process.terminate()
        connection.send(content[500:])
        assert connection.getresponse().status == 201
        connection.close()
        assert process.wait(timeout=25) == 0
    assert (directory / "uploads" / UPLOAD[:2] / UPLOAD / "files" / "a").read_bytes() == content


def test_start_sweeps_what_a_crash_left(directory: Path) -> None:
    (directory / "parts" / "0123.part").write_bytes(b"half a body")
    with _served(directory):
        assert list((directory / "parts").iterdir()) == []


def test_a_revoked_token_is_refused_with_the_next_request_of_its_connection(directory: Path) -> None:
    with _served(directory) as (_, port):
        connection = _connect(port)
        for revoked in (False, True):
            if revoked:
                gateway_revoke(directory, gateway_id="gateway-01")
            connection.request("GET", "/v1/uploads", headers={"Authorization": f"Bearer {TOKEN}"})
            response = connection.getresponse()
            response.read()
            assert response.status == (401 if revoked else 200)
        connection.close()


def test_many_requests_follow_each_other_on_one_connection_and_two_in_one_packet(directory: Path) -> None:
    request = f"GET /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    with _served(directory) as (_, port), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        received = b""
        for count, sent in ((1, request), (2, request), (4, request * 2)):
            connection.sendall(sent)
            while received.count(b'"uploads": []}') < count:
                received += connection.recv(65536)
        assert received.count(b"HTTP/1.1 200 OK") == 4


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)
