"""The way to a vault: its proxy and its certificate authority; secrets stay secret, faults are the lane's."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.utils.timezone import now

from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEvent
from gateway_project.core.secrets import secret_decrypt
from tests.uploads.certificates import certificate_write
from tests.uploads.scripted_server import answer, scripted
from tests.uploads.test_client_secrets import EMPTY_STATE, UPLOAD
from tests.uploads.test_vaults import ensure
from uploads.client import VaultClient
from uploads.models import Vault
from uploads.ports import VaultError
from uploads.services.vaults import vault_client, vault_way_set

PROXY = "http://anna:MARKED-secret@proxy.example.org:3128"


@pytest.fixture
def _data(db: None, tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path


@contextmanager
def tls_server(certificate: Path) -> Iterator[int]:
    """Answers one request with an empty upload state."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(65536)
                    secured.sendall(answer(200, EMPTY_STATE))
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("form", ["path", "text"])
def test_a_vaults_own_authority_is_trusted(tmp_path: Path, form: str) -> None:
    certificate = certificate_write(tmp_path / "server.pem")
    text = certificate.read_text()
    ca = str(certificate) if form == "path" else text[text.index("-----BEGIN CERTIFICATE") :]
    with tls_server(certificate) as port:
        client = VaultClient(f"https://localhost:{port}", token="t" * 20, ca=ca, timeout_seconds=5)
        assert client.upload_state(UPLOAD).files == {}


def test_with_an_authority_of_its_own_no_other_is_trusted(tmp_path: Path) -> None:
    other, real = certificate_write(tmp_path / "other.pem"), certificate_write(tmp_path / "real.pem")
    with tls_server(real) as port, pytest.raises(VaultError) as caught:
        VaultClient(f"https://localhost:{port}", token="t" * 20, ca=str(other), timeout_seconds=5).upload_state(UPLOAD)
    assert (caught.value.code, caught.value.lane_fault) == ("tls-certificate", True)


@pytest.mark.parametrize("ca", ["/nowhere/ca.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n", "nonsense"])
def test_an_authority_that_cannot_be_read_is_refused(ca: str) -> None:
    with pytest.raises(VaultError) as caught:
        VaultClient("https://vault.example.org", token=None, ca=ca)
    assert (caught.value.code, caught.value.permanent) == ("ca-invalid", True)


def test_the_proxy_is_asked_with_its_password_and_the_vaults_token_stays_hidden_from_it() -> None:
    with scripted(answer(407)) as proxy:
        address = f"http://anna:secret@127.0.0.1:{proxy.port}"
        client = VaultClient("https://vault.example.org", token="MARKED-token", proxy=address, timeout_seconds=5)
        with pytest.raises(VaultError) as caught:
            client.upload_state(UPLOAD)
    (request,) = proxy.requests
    assert request.line == "CONNECT vault.example.org:443 HTTP/1.0"
    assert request.headers["proxy-authorization"] == "Basic YW5uYTpzZWNyZXQ="
    assert "MARKED" not in str(request)
    assert (caught.value.code, caught.value.lane_fault) == ("proxy-refused", True)
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r} {client!r}"


def test_a_proxy_that_is_not_there_is_the_lanes_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = VaultClient("https://vault.example.org", token=None, proxy=f"http://127.0.0.1:{port}", timeout_seconds=5)
    with pytest.raises(VaultError) as caught:
        client.describe()
    assert (caught.value.code, caught.value.lane_fault) == ("proxy-failed", True)


@pytest.mark.parametrize("proxy", ["proxy:3128", "socks5://p:1", "http://p", "http://p:99999", "http://p:1/path"])
def test_what_is_no_proxy_is_refused_without_being_repeated(proxy: str) -> None:
    with pytest.raises(VaultError) as caught:
        VaultClient("https://vault.example.org", token=None, proxy=proxy)
    assert caught.value.code == "proxy-invalid"
    assert proxy not in str(caught.value)


@pytest.mark.usefixtures("_data")
def test_a_proxy_is_kept_encrypted_and_audited_without_its_address(caplog: pytest.LogCaptureFixture) -> None:
    vault = ensure()
    vault_way_set(vault, proxy=PROXY, actor="user:anna", now=now())
    vault = Vault.objects.get(pk=vault.pk)
    assert secret_decrypt(vault.proxy) == PROXY
    assert "MARKED-secret" not in str(list(Vault.objects.values())) + str(list(AuditEvent.objects.values()))
    assert "MARKED-secret" not in caplog.text + repr(vault_client(vault))
    vault_way_set(vault, proxy="", actor="user:anna", now=now())
    assert Vault.objects.get(pk=vault.pk).proxy == ""
    actions = AuditEvent.objects.filter(subject=f"vault:{vault.pk}").order_by("pk")
    assert [event.detail["action"] for event in actions] == ["pinned", "proxy set", "proxy taken away"]


@pytest.mark.usefixtures("_data")
def test_an_authority_that_vanished_stops_the_lane_with_words() -> None:
    vault = ensure()
    vault.ca = "/nowhere/ca.pem"
    with pytest.raises(JobFault) as raised:
        vault_client(vault)
    assert (raised.value.code, raised.value.hard_stop) == ("ca-invalid", True)
