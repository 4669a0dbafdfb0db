"""The token stays with the vault it belongs to: addresses, redirects, certificates, logs, cookies."""

import hashlib
import io
import json
import logging
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.uploads.certificates import certificate_write
from tests.uploads.scripted_server import answer, scripted
from uploads.client import VaultClient
from uploads.ports import VaultError

TOKEN = "very-secret-token"
UPLOAD = "0123456789abcdef0123456789abcdef"
EMPTY_STATE = json.dumps({"upload_id": UPLOAD, "files": [], "receipt": None})


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("http://vault.example.org", "insecure-address"),
        ("http://10.0.0.1:8080", "insecure-address"),
        ("ftp://vault.example.org", "address-invalid"),
        ("https://user:pass@vault.example.org", "address-invalid"),
        ("https://vault.example.org/?x=1", "address-invalid"),
        ("file:///etc/passwd", "address-invalid"),
        ("", "address-invalid"),
    ],
)
def test_addresses_that_would_show_the_token_are_refused(address: str, code: str) -> None:
    with pytest.raises(VaultError) as caught:
        VaultClient(address, token=TOKEN)
    assert caught.value.code == code


def test_token_is_nowhere_to_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="urllib3")
    seen: list[str] = []
    for bad in (answer(401), answer(500), b"", answer(302, headers="Location: http://127.0.0.1:1/\r\n")):
        with scripted(bad) as server:
            client = VaultClient(server.url, token=TOKEN, timeout_seconds=5)
            with pytest.raises(VaultError) as caught:
                client.put(UPLOAD, "a", io.BytesIO(b"x"), size_bytes=1, sha256=hashlib.sha256(b"x").hexdigest())
        error = caught.value
        seen += [str(error), repr(error), repr(error.__cause__), str(error.__dict__)]
    seen += [repr(VaultClient("https://vault.example.org", token=TOKEN)), caplog.text]
    assert TOKEN not in "".join(seen)
    assert "PUT" in caplog.text  # so there was something to search


@pytest.fixture(autouse=True)
def _urllib3_logs_reach_caplog(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the settings under test have done to the loggers."""
    logger = logging.getLogger("urllib3.connectionpool")
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "propagate", True)


def test_no_cookie_and_no_netrc_is_ever_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    state = answer(200, EMPTY_STATE, headers="Set-Cookie: track=1\r\n")
    with scripted(state) as server:
        client = VaultClient(server.url, token=None)
        client.upload_state(UPLOAD)
        client.upload_state(UPLOAD)
    assert [("cookie" in each.headers, "authorization" in each.headers) for each in server.requests] == [
        (False,) * 2
    ] * 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for `localhost` only, with its key."""
    return certificate_write(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.mark.parametrize(
    ("host", "trusted", "code"),
    [("localhost", False, "tls-certificate"), ("127.0.0.1", True, "tls-certificate"), ("localhost", True, None)],
    ids=["self-signed", "wrong host", "trusted"],
)
def test_c09_certificates(certificate: Path, host: str, trusted: bool, code: str | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    received.append(secured.recv(65536))
                    secured.sendall(answer(200, EMPTY_STATE))
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        client = VaultClient(
            f"https://{host}:{listener.getsockname()[1]}",
            token=TOKEN,
            ca=str(certificate) if trusted else "",
            timeout_seconds=5,
        )
        if code is None:
            assert client.upload_state(UPLOAD).files == {}
        else:
            with pytest.raises(VaultError) as caught:
                client.upload_state(UPLOAD)
            assert (caught.value.code, caught.value.lane_fault) == (code, True)
        thread.join()
    assert bool(b"".join(received)) is (code is None)  # nothing was sent to a server that is not trusted


def test_plain_http_on_a_tls_port_has_a_code_of_its_own() -> None:
    with scripted(answer(200)) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        del server

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(VaultError) as caught:
            VaultClient(f"https://localhost:{listener.getsockname()[1]}", token=TOKEN, timeout_seconds=5).describe()
        thread.join()
    assert (caught.value.code, caught.value.lane_fault) == ("tls", True)
