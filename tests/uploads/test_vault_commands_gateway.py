"""`vaultpin` and `vaultcanary` against a vault that really serves, and the recipient's own tool on the other side."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from gateway_project.core.models import AuditEvent
from uploads.envelope.keys import fingerprint, jwk_from_key, key_generate, private_key_write, thumbprint
from uploads.models import Vault
from uploads.selectors import deletion_allowed
from uploads.services.identity import identity_jwk
from uploads.vault.__main__ import main
from uploads.vault.registry import (
    gateway_register,
    public_key_write,
    recipient_register,
    vault_create,
    vault_receipt_jwk,
)

pytestmark = pytest.mark.django_db
RECIPIENT, NEW, SIGNING, RECOVERY = (key_generate() for _ in range(4))
TOKEN = "MARKED-token-of-the-gateway"


@dataclass
class Served:
    directory: Path
    url: str
    folder: Path

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def jwk(self, name: str) -> str:
        return str(self.folder / f"{name}.jwk")


def told(key: object) -> str:
    return fingerprint({**jwk_from_key(key)})  # type: ignore[arg-type]


@pytest.fixture
def served(tmp_path: Path, settings) -> Iterator[Served]:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir(mode=0o700)
    directory = tmp_path / "vault"
    vault_create(directory, vault_id="vault-01", demonstration=False)
    gateway_register(directory, gateway_id="gateway-01", token=TOKEN, jwk=identity_jwk())
    recipient_register(directory, jwk_from_key(RECIPIENT))
    for name, key in (("recipient", RECIPIENT), ("new", NEW), ("signing", SIGNING), ("recovery", RECOVERY)):
        private_key_write(tmp_path / f"{name}.pem", key)
        public_key_write(tmp_path / f"{name}.jwk", {**jwk_from_key(key)})
    (tmp_path / "token").write_text(TOKEN + "\n")
    command = [sys.executable, "-m", "uploads.vault", "serve", "--directory", str(directory), "--port", "0"]
    with subprocess.Popen([*command, "--vault-id", "vault-01"], stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield Served(directory, line.rpartition(" ")[2].strip(), tmp_path)
        finally:
            process.terminate()
            process.wait(timeout=25)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=out)
    return out.getvalue()


def pinned(served: Served) -> Vault:
    right = [
        "--fingerprint",
        told(RECIPIENT),
        "--receipt-fingerprint",
        fingerprint(vault_receipt_jwk(served.directory)),
    ]
    run("vaultpin", "main", *new_vault(served), *right)
    return Vault.objects.get(name="main")


def new_vault(served: Served) -> list[str]:
    kid = thumbprint(jwk_from_key(RECIPIENT))
    return ["--url", served.url, "--token-file", str(served.folder / "token"), f"--key-id={kid}"]


def test_a_vault_is_pinned_with_the_fingerprints_of_both_keys_and_shown_beside_what_it_offers(served: Served) -> None:
    with pytest.raises(CommandError, match="--fingerprint"):
        run("vaultpin", "main", *new_vault(served))
    with pytest.raises(CommandError, match="fingerprint-differs"):
        run("vaultpin", "main", *new_vault(served), "--fingerprint", told(NEW), "--receipt-fingerprint", told(NEW))
    assert not Vault.objects.exists()
    vault = pinned(served)
    assert AuditEvent.objects.get(subject=f"vault:{vault.pk}").actor == "command:vaultpin"
    shown = run("vaultpin", "main")
    assert shown.count(told(RECIPIENT)) == 2
    assert "DIFFERENT" not in shown
    assert TOKEN not in shown + run("vaultpin") + run("vaultpin", "main", "--json")
    assert told(RECIPIENT) in run("vaultpin")
    with pytest.raises(CommandError, match="vault-exists"):
        pinned(served)


def test_what_differs_is_shown_and_is_a_failure(served: Served) -> None:
    vault = pinned(served)
    Vault.objects.filter(pk=vault.pk).update(receipt_jwk=jwk_from_key(NEW))
    out = StringIO()
    with pytest.raises(CommandError, match="something else"):
        call_command("vaultpin", "main", stdout=out)
    assert "DIFFERENT" in out.getvalue()
    run("vaultpin", "main", "--receipt-fingerprint", fingerprint(vault_receipt_jwk(served.directory)))
    assert run("vaultpin", "main")


def test_a_key_is_changed_by_fingerprint_or_by_the_recipients_statement(served: Served) -> None:
    vault = pinned(served)
    new_kid, old_kid = thumbprint(jwk_from_key(NEW)), vault.recipient_key_id
    with pytest.raises(CommandError, match="key-unknown"):
        run("vaultpin", "main", f"--key-id={new_kid}", "--fingerprint", told(NEW))
    recipient_register(served.directory, jwk_from_key(NEW))
    with pytest.raises(CommandError, match="fingerprint-differs"):
        run("vaultpin", "main", f"--key-id={new_kid}", "--fingerprint", told(RECIPIENT))
    run("vaultpin", "main", f"--key-id={new_kid}", "--fingerprint", told(NEW))
    assert Vault.objects.get().recipient_key_id == new_kid
    statement = str(served.folder / "statement")
    arguments = ["--vault-id", "vault-01", f"--from-kid={new_kid}", "--jwk", served.jwk("recipient"), "--serial", "1"]
    assert main(["rotation", "--signing-key", served.key("signing"), *arguments, "--out", statement]) == 0
    with pytest.raises(CommandError, match="signing key"):
        run("vaultpin", "main", "--statement", statement)
    run("vaultpin", "main", "--signing-key", served.jwk("signing"), "--signing-fingerprint", told(SIGNING))
    run("vaultpin", "main", "--statement", statement)
    assert Vault.objects.get().recipient_key_id == old_kid
    with pytest.raises(CommandError, match="rotation-rollback"):
        run("vaultpin", "main", "--statement", statement)


def test_recovery_and_signing_keys_come_and_go(served: Served) -> None:
    pinned(served)
    run("vaultpin", "main", "--recovery", served.jwk("recovery"), "--recovery-fingerprint", told(RECOVERY))
    assert Vault.objects.get().recovery_jwk == jwk_from_key(RECOVERY)
    assert told(RECOVERY) in run("vaultpin", "main", "--no-signing-key")
    run("vaultpin", "main", "--no-recovery")
    assert Vault.objects.get().recovery_jwk is None
    with pytest.raises(CommandError, match="no JWK"):
        run("vaultpin", "main", "--recovery", str(served.folder / "token"), "--recovery-fingerprint", "x")


def test_a_canary_goes_out_is_opened_by_the_recipients_tool_and_its_proof_is_taken(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = pinned(served)
    shown = json.loads(run("vaultcanary", "main", "--json"))
    assert (shown["canary_upload_id"], shown["deletion_allowed"]) == (None, False)
    run("vaultcanary", "main", "--send")
    vault.refresh_from_db()
    place = ["--directory", str(served.directory), "--upload", vault.canary_upload_id]
    assert main(["open", *place, "--key", served.key("recipient"), "--out", str(served.folder / "opened")]) == 1
    assert "[canary]" in capsys.readouterr().err
    assert main(["canary", *place, "--key", served.key("new"), "--json"]) == 1
    capsys.readouterr()
    trusted = ["--gateway-fingerprint", fingerprint({**identity_jwk()})]
    assert main(["canary", *place, "--key", served.key("recipient"), "--json", *trusted]) == 0
    proof = json.loads(capsys.readouterr().out)["proof"]
    with pytest.raises(CommandError, match="proof-wrong"):
        run("vaultcanary", "main", "--proof", "AAAA-BBBB")
    assert json.loads(run("vaultcanary", "main", "--proof", proof, "--json"))["deletion_allowed"] is True
    assert deletion_allowed(Vault.objects.get())


def test_the_recovery_keys_canary_is_opened_by_that_key_alone(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = pinned(served)
    with pytest.raises(CommandError, match="recovery-missing"):
        run("vaultcanary", "main", "--recovery", "--send")
    run("vaultpin", "main", "--recovery", served.jwk("recovery"), "--recovery-fingerprint", told(RECOVERY))
    assert "uploads.vault canary" in run("vaultcanary", "main", "--recovery", "--send")
    vault.refresh_from_db()
    place = ["--directory", str(served.directory), "--upload", vault.recovery_canary_upload_id]
    assert main(["canary", *place, "--key", served.key("recipient"), "--json"]) == 1
    capsys.readouterr()
    assert main(["canary", *place, "--key", served.key("recovery"), "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)["proof"]
    shown = json.loads(run("vaultcanary", "main", "--recovery", "--proof", proof, "--json"))
    assert shown["proved_at"] is not None
    assert shown["recovery_key_id"] == thumbprint(jwk_from_key(RECOVERY))
    assert shown["deletion_allowed"] is False, "the recipient's own key is not proved yet"


def test_unknown_names_and_files_are_told(served: Served, tmp_path: Path) -> None:
    for command in ("vaultpin", "vaultcanary"):
        with pytest.raises(CommandError, match="no vault of this name"):
            run(command, "nobody")
    assert "No vaults." in run("vaultpin")
    with pytest.raises(CommandError, match="No such file"):
        run("vaultpin", "main", *new_vault(served)[:2], "--token-file", str(tmp_path / "absent"), "--key-id", "x")
    assert json.loads(run("vaultpin", "--identity", "--json"))["jwk"] == identity_jwk()
