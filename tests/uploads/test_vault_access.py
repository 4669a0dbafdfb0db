"""A known vault's address, token and authority: changed by its administrator, once the vault has shown its pins."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.management.base import CommandError

from gateway_project.core.models import AuditEvent
from gateway_project.core.secrets import secret_decrypt
from tests.uploads import test_vault_commands_gateway as gateway
from tests.uploads.certificates import certificate_write
from tests.uploads.test_vault_commands_gateway import RECIPIENT, Served, new_vault, pinned, run, told
from uploads.envelope.keys import fingerprint
from uploads.models import Transport, Vault
from uploads.selectors import gateway_id_at
from uploads.services.identity import identity_jwk
from uploads.services.pins import PinError
from uploads.services.vaults import vault_access_set
from uploads.vault.registry import gateway_register, vault_receipt_jwk

pytestmark = pytest.mark.django_db
served = gateway.served
NEW_TOKEN = "MARKED-other-token-of-the-gateway"


def token_file(served: Served, token: str) -> str:
    path = served.folder / "new-token"
    path.write_text(f"{token}\n")
    return str(path)


def test_a_new_token_counts_once_the_vault_has_taken_it(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    vault = pinned(served)
    gateway_register(served.directory, gateway_id="gateway-01", token=NEW_TOKEN, jwk=identity_jwk())
    with pytest.raises(CommandError, match="unauthorized"):
        run("vaultpin", "main", "--token-file", token_file(served, "a-token-of-nobody-at-all"))
    with pytest.raises(CommandError, match="empty"):
        run("vaultpin", "main", "--token-file", token_file(served, ""))
    assert secret_decrypt(Vault.objects.get().token) == gateway.TOKEN
    shown = run("vaultpin", "main", "--token-file", token_file(served, NEW_TOKEN))
    vault.refresh_from_db()
    assert secret_decrypt(vault.token) == NEW_TOKEN
    record = AuditEvent.objects.get(detail__action="way to the vault changed")
    assert (record.actor, record.detail["changed"]) == ("command:vaultpin", ["token"])
    assert "MARKED" not in shown + str(list(AuditEvent.objects.values())) + caplog.text


def test_a_new_address_counts_once_the_pinned_vault_answers_there(served: Served) -> None:
    vault = pinned(served)
    Vault.objects.update(base_url="https://moved.example.org")
    with pytest.raises(CommandError, match="connection-refused"):
        run("vaultpin", "main", "--url", "http://127.0.0.1:9")
    Vault.objects.update(vault_id="vault-02")
    with pytest.raises(CommandError, match="vault-identity-differs"):
        run("vaultpin", "main", "--url", served.url)
    Vault.objects.update(vault_id="vault-01")
    assert Vault.objects.get().base_url == "https://moved.example.org"
    run("vaultpin", "main", "--url", served.url)
    vault.refresh_from_db()
    assert vault.base_url == served.url
    assert AuditEvent.objects.get(detail__action="way to the vault changed").detail["base_url"] == served.url


def test_a_fingerprint_without_its_key_id_is_no_silent_yes(served: Served) -> None:
    pinned(served)
    with pytest.raises(CommandError, match="--key-id"):
        run("vaultpin", "main", "--fingerprint", told(RECIPIENT))


def test_a_vault_knows_the_gateway_by_the_name_it_had_until_somebody_says_otherwise(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = pinned(served)
    monkeypatch.setenv("GATEWAY_INSTANCE__ID", "hospital-gw")
    run("vaultcanary", "main", "--send")
    gateway_register(served.directory, gateway_id="ward-7", token=NEW_TOKEN, jwk=identity_jwk())
    with pytest.raises(CommandError, match="1 to 128"):
        run("vaultpin", "main", "--gateway-id", "ward 7")
    run("vaultpin", "main", "--gateway-id", "ward-7", "--token-file", token_file(served, NEW_TOKEN))
    run("vaultcanary", "main", "--send")
    vault.refresh_from_db()
    assert gateway_id_at(vault) == "ward-7"


def test_other_vaults_keep_what_they_have(served: Served) -> None:
    vault = pinned(served)
    for change in ({"transport": Transport.STOW}, {"demonstration": True}):
        for name, value in change.items():
            setattr(vault, name, value)
        with pytest.raises(PinError):
            vault_access_set(vault, token=NEW_TOKEN, actor="user:test")
    assert secret_decrypt(Vault.objects.get().token) == gateway.TOKEN


@contextmanager
def behind_tls(url: str, certificate: Path) -> Iterator[str]:
    """The address of a TLS proxy before that address, as a vault beyond loopback has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    target = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def copy(source: socket.socket, sink: socket.socket) -> None:
            try:
                while block := source.recv(65536):
                    sink.sendall(block)
            except OSError:
                pass
            for each in (source, sink):
                each.close()

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                    secured = context.wrap_socket(client, server_side=True)
                    inner = socket.create_connection((target.hostname or "", target.port or 0))
                except ssl.SSLError:
                    continue
                except OSError:
                    return
                for ends in ((secured, inner), (inner, secured)):
                    threading.Thread(target=copy, args=ends, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_vault_behind_a_private_authority_is_pinned_and_kept_with_it(served: Served) -> None:
    certificate = certificate_write(served.folder / "server.pem")
    ca = served.folder / "ca.pem"
    text = certificate.read_text()
    ca.write_text(text[text.index("-----BEGIN CERTIFICATE") :])
    keys = ["--fingerprint", told(RECIPIENT)]
    keys += ["--receipt-fingerprint", fingerprint(vault_receipt_jwk(served.directory))]
    with behind_tls(served.url, certificate) as url:
        rest = new_vault(served)[2:]
        with pytest.raises(CommandError, match="tls-certificate"):
            run("vaultpin", "main", "--url", url, *rest, *keys)
        with pytest.raises(CommandError, match="ca-invalid"):
            run("vaultpin", "main", "--url", url, *rest, *keys, "--ca", str(served.folder / "token"))
        assert not Vault.objects.exists()
        run("vaultpin", "main", "--url", url, *rest, *keys, "--ca", str(ca))
        ca.unlink()
        assert "DIFFERENT" not in run("vaultpin", "main")
        Vault.objects.update(ca="")
        ca.write_text(text[text.index("-----BEGIN CERTIFICATE") :])
        run("vaultpin", "main", "--ca", str(ca))
        assert "BEGIN CERTIFICATE" in Vault.objects.get().ca


def test_a_proxy_is_entered_from_a_file_and_never_shown(served: Served) -> None:
    pinned(served)
    proxy = served.folder / "proxy"
    proxy.write_text("nonsense\n")
    with pytest.raises(CommandError, match="proxy-invalid"):
        run("vaultpin", "main", "--proxy-file", str(proxy))
    proxy.write_text("http://anna:MARKED-secret@127.0.0.1:3128\n")
    shown = run("vaultpin", "main", "--proxy-file", str(proxy))  # this vault is on loopback, which uses none
    assert "MARKED" in secret_decrypt(Vault.objects.get().proxy)
    assert "MARKED" not in shown + str(list(AuditEvent.objects.values()))
    proxy.write_text("direct\n")
    run("vaultpin", "main", "--proxy-file", str(proxy))
    assert Vault.objects.get().proxy == ""
