"""The vault under test: the one that the environment names, or else the reference vault, started on a free port.

For a vault of your own: VAULT_URL, VAULT_TOKEN, VAULT_GATEWAY_ID, VAULT_IDENTITY (the PEM file of that gateway's
registered identity), VAULT_RECIPIENT_KID (a registered recipient's key id), and VAULT_OTHER_TOKEN (of a second
gateway; optional).
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from uploads.client import VaultClient
from uploads.envelope.keys import PrivateKey, jwk_from_key, key_generate, private_key_read
from uploads.vault.registry import gateway_register, recipient_register, vault_create


@dataclass
class VaultUnderTest:
    url: str
    token: str
    gateway_id: str
    identity: PrivateKey
    recipient_kid: str
    other_token: str | None

    @cached_property
    def client(self) -> VaultClient:
        return VaultClient(self.url, token=self.token, timeout_seconds=30)


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultUnderTest]:
    if "VAULT_URL" in os.environ:
        yield VaultUnderTest(
            url=os.environ["VAULT_URL"],
            token=os.environ["VAULT_TOKEN"],
            gateway_id=os.environ["VAULT_GATEWAY_ID"],
            identity=private_key_read(Path(os.environ["VAULT_IDENTITY"])),
            recipient_kid=os.environ["VAULT_RECIPIENT_KID"],
            other_token=os.environ.get("VAULT_OTHER_TOKEN"),
        )
        return
    directory = tmp_path_factory.mktemp("contract") / "vault"
    identity = key_generate()
    vault_create(directory, vault_id="vault-contract", demonstration=True)
    gateway_register(directory, gateway_id="gateway-01", token="token-of-the-first", jwk=jwk_from_key(identity))
    gateway_register(directory, gateway_id="gateway-02", token="token-of-the-second", jwk=jwk_from_key(key_generate()))
    kid = recipient_register(directory, jwk_from_key(key_generate()))
    command = [sys.executable, "-m", "uploads.vault", "serve", "--directory", str(directory), "--port", "0"]
    command += ["--vault-id", "vault-contract", "--demonstration"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            url = line.rpartition(" ")[2].strip()
            yield VaultUnderTest(url, "token-of-the-first", "gateway-01", identity, kid, "token-of-the-second")
        finally:
            process.terminate()
            process.wait(timeout=25)
