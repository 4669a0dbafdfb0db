"""Secrets at rest: Fernet with a key file of its own, `keys/config.key`.

One key a line; the first encrypts, every one decrypts, so a key is changed by putting a new line on top. A secret is
never shown back: reading for display gives "set" or "not set" (`OptionRegistry.state`).
"""

import os
import secrets as system_secrets
import stat
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.core.signing import BadSignature, Signer

from gateway_project.core.errors import GatewayError

KEY_FILE_BYTES_MAX = 65_536


class SecretError(GatewayError):
    """A secret cannot be read or kept; the message never holds any part of it."""

    code = "secret-invalid"
    permanent = True


def secret_encrypt(value: str, *, key_path: Path | None = None) -> str:
    """The encrypted text to store; makes the key file at its first use. Raises SecretError; OSError on a full disk."""
    path = key_path or config_key_path()
    if not path.exists():
        _key_create(path)
    return _fernet(path).encrypt(value.encode()).decode("ascii")


def secret_decrypt(token: object, *, key_path: Path | None = None) -> str:
    """The secret behind a stored text; never makes a key, as only the old one could read it. Raises SecretError."""
    if not isinstance(token, str):
        raise SecretError("the stored secret is not an encrypted text; set it again")
    try:
        return _fernet(key_path or config_key_path()).decrypt(token.encode()).decode()
    except InvalidToken:
        raise SecretError(
            "the stored secret was encrypted with another key; restore keys/config.key or set the secret again",
            code="secret-undecryptable",
        ) from None


def config_key_path() -> Path:
    """Where this gateway's key file lies."""
    from gateway_project.core.machine import keys_directory

    return keys_directory() / "config.key"


# -- that other machines have the same keys (core.shared) --------------------------------------------------------------

MARK = "mark"
SIGNING_WORDS = (
    "This machine signs with another secret key than the others on its database: sessions and rings of one would mean "
    "nothing to the other. Copy keys/django.key from there, or set GATEWAY_KEYS_DIR or GATEWAY_SECRET_KEY to the same."
)
SETTINGS_WORDS = (
    "This machine cannot read the secrets that the others on its database have kept. Copy keys/config.key from there, "
    "or set GATEWAY_KEYS_DIR to a directory that all of them can read."
)


def signed_mark() -> str:
    """A word signed with the secret key."""
    return Signer(salt="gateway.shared").sign(MARK)


def signed_mark_fits(mark: str) -> bool:
    try:
        return Signer(salt="gateway.shared").unsign(mark) == MARK
    except BadSignature:
        return False


def sealed_mark() -> str:
    """A word encrypted with the key of the settings."""
    return secret_encrypt(MARK)


def sealed_mark_fits(mark: str) -> bool:
    """Without a key here: makes none, since only the others' would do."""
    try:
        return secret_decrypt(mark) == MARK
    except SecretError:
        return False


def _key_create(path: Path) -> None:
    """Leaves a whole key file under its name, 0600, whoever else tries at once; what is there is never replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{system_secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(Fernet.generate_key() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.link(part, path)
    except FileExistsError:
        return
    finally:
        part.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _fernet(path: Path) -> MultiFernet:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SecretError(
            f"the key file {path} cannot be opened ({error.strerror}); restore it from the backup",
            code="secret-key-missing",
        ) from None
    with os.fdopen(descriptor, "rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise SecretError(f"{path} can be read by others; run: chmod 600 {path}", code="secret-key-exposed")
        lines = stream.read(KEY_FILE_BYTES_MAX).split()
    try:
        return MultiFernet([Fernet(line) for line in lines])
    except ValueError:
        raise SecretError(f"{path} is damaged; restore it from the backup", code="secret-key-damaged") from None
