"""Who this gateway is to vaults and recipients: its signing key, made once, kept 0600."""

from pathlib import Path

from gateway_project.core.machine import keys_directory
from studies.dicom.durable import fsync_directory
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import (
    PrivateKey,
    jwk_from_key,
    key_generate,
    private_key_read,
    private_key_write,
    thumbprint,
)

WORDS = (
    "This machine would sign for the vaults with another identity than the others on its database. Copy "
    "keys/identity.pem from there, or set GATEWAY_KEYS_DIR to a directory that all of them can read."
)


def identity_path() -> Path:
    return keys_directory() / "identity.pem"


def identity_ensure() -> PrivateKey:
    """The identity key; made on the first call. Two processes that make it at once end with the same one."""
    path = identity_path()
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fsync_directory(path.parent.parent)
        try:
            private_key_write(path, key_generate())
        except EnvelopeError:
            if not path.exists():
                raise
    return private_key_read(path)


def identity_jwk() -> dict[str, str]:
    """The public half, for a vault to register."""
    return jwk_from_key(identity_ensure())


def identity_mark() -> str:
    """By what other machines know that they have the same: the key's thumbprint."""
    return thumbprint(identity_jwk())


def identity_mark_fits(mark: str) -> bool:
    """Makes no key where there is none: only the others' would do."""
    return identity_path().exists() and identity_mark() == mark
