"""The reference vault in a process of its own, as its operator would set it up."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from uploads.envelope.keys import jwk_from_key, key_generate
from uploads.vault.registry import gateway_register, vault_create

VAULT_ID = "vault-01"
TOKEN = "token-of-gateway-01"


def vault_directory(path: Path, *, jwk: Mapping[str, str] | None = None) -> Path:
    """A vault's directory that knows one gateway, with this identity or one that nobody has."""
    vault_create(path, vault_id=VAULT_ID, demonstration=True)
    gateway_register(path, gateway_id="gateway-01", token=TOKEN, jwk=dict(jwk or jwk_from_key(key_generate())))
    return path


@contextmanager
def vault_served(directory: Path, *, code: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port; `code` serves otherwise than the command does, with the directory as its argument."""
    command = [sys.executable, *(["-c", code, str(directory)] if code else _command(directory))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield process, int(line.rpartition(":")[2])
        finally:
            process.terminate()
            process.communicate(timeout=25)


def _command(directory: Path) -> list[str]:
    arguments = ["--directory", str(directory), "--port", "0", "--vault-id", VAULT_ID, "--demonstration"]
    return ["-m", "uploads.vault", "serve", *arguments]
