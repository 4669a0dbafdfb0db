"""The vault under test: the one that the environment names, or else the reference vault, started on a free port.

For a vault of your own: VAULT_URL, VAULT_TOKEN, VAULT_GATEWAY_ID, VAULT_IDENTITY (the PEM file of that gateway's
registered identity), VAULT_RECIPIENT_KID (a registered recipient's key id), and, optional, VAULT_OTHER_TOKEN (of a
second gateway) and VAULT_FULL_TOKEN (of a gateway whose quota is less than 1 MB).
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from tests.uploads.sealed_upload import SealedUpload, sealed_upload
from uploads.client import VaultClient
from uploads.envelope.keys import PrivateKey, jwk_from_key, key_generate, private_key_read
from uploads.vault.registry import gateway_register, quota_set, recipient_register, vault_create


@dataclass
class VaultUnderTest:
    url: str
    token: str
    gateway_id: str
    identity: PrivateKey
    recipient_kid: str
    other_token: str | None
    full_token: str | None

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
            full_token=os.environ.get("VAULT_FULL_TOKEN"),
        )
        return
    directory = tmp_path_factory.mktemp("contract") / "vault"
    identity = key_generate()
    vault_create(directory, vault_id="vault-contract", demonstration=True)
    gateway_register(directory, gateway_id="gateway-01", token="token-of-the-first", jwk=jwk_from_key(identity))
    gateway_register(directory, gateway_id="gateway-02", token="token-of-the-second", jwk=jwk_from_key(key_generate()))
    gateway_register(directory, gateway_id="gateway-03", token="token-of-the-third", jwk=jwk_from_key(key_generate()))
    quota_set(directory, quota_bytes=100_000, gateway_id="gateway-03")
    kid = recipient_register(directory, jwk_from_key(key_generate()))
    command = [sys.executable, "-m", "uploads.vault", "serve", "--directory", str(directory), "--port", "0"]
    command += ["--vault-id", "vault-contract", "--demonstration"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            url = line.rpartition(" ")[2].strip()
            tokens = ("token-of-the-second", "token-of-the-third")
            yield VaultUnderTest(url, "token-of-the-first", "gateway-01", identity, kid, *tokens)
        finally:
            process.terminate()
            process.wait(timeout=25)


@pytest.fixture
def upload_id() -> str:
    return secrets.token_hex(16)


@pytest.fixture
def upload(vault: VaultUnderTest) -> SealedUpload:
    return sealed_upload(
        [b"first" * 1000, b"second"],
        identity=vault.identity,
        recipients=[jwk_from_key(key_generate())],
        gateway_id=vault.gateway_id,
        vault_id=vault.client.describe().vault_id,
    )
