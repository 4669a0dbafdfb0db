"""Who a vault is and whom it knows: its identity, its gateways and its recipients' public keys. All in one
directory.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uploads.envelope.encoding import PARTY_ID
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import (
    PrivateKey,
    jwk_from_key,
    key_from_jwk,
    key_generate,
    private_key_read,
    private_key_write,
    thumbprint,
)
from uploads.vault.durable import directory_lock, directory_make, file_write, record_read, record_write
from uploads.vault.errors import VaultStoreError

VERSION = 1
VAULT_FILE = "vault.json"
SIGNING_FILE = "signing.pem"
GATEWAYS_FILE = "gateways.json"
KEYS_DIRECTORY = "keys"
UPLOADS_DIRECTORY = "uploads"
PARTS_DIRECTORY = "parts"

_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Gateway:
    """A gateway that may upload: its token's SHA-256 (hexadecimal) and the public identity that signs its
    commitments.
    """

    gateway_id: str
    token_sha256: str
    jwk: dict[str, str]


@dataclass(frozen=True)
class VaultIdentity:
    """What the vault says of itself; `demonstration` marks every receipt as one that never allows deletion."""

    vault_id: str
    demonstration: bool


def vault_create(directory: Path, *, vault_id: str, demonstration: bool) -> None:
    """After return the directory holds a vault of this id and kind with a signing key; one that exists is left as
    it is.

    Directories 0700 and files 0600 whatever the umask. A crash half-way is mended by the next call. Parents have to
    exist. Raises `vault-mismatch` when the directory holds another vault, `gateway-id-invalid` for an id the format
    refuses.
    """
    if not PARTY_ID.fullmatch(vault_id):
        raise VaultStoreError("gateway-id-invalid")
    directory_make(directory)
    with directory_lock(directory):
        record = record_read(directory / VAULT_FILE)
        if record is not None and _identity(record) != VaultIdentity(vault_id, demonstration):
            raise VaultStoreError("vault-mismatch")
        for name in (KEYS_DIRECTORY, UPLOADS_DIRECTORY, PARTS_DIRECTORY):
            directory_make(directory / name)
        if not (directory / SIGNING_FILE).exists():
            private_key_write(directory / SIGNING_FILE, key_generate())
        if not (directory / GATEWAYS_FILE).exists():
            record_write(directory / GATEWAYS_FILE, {"version": VERSION, "gateways": []})
        if record is None:  # last: a vault.json means that everything else is there
            public = jwk_from_key(vault_signing_key(directory))
            record_write(
                directory / VAULT_FILE,
                {"version": VERSION, "vault_id": vault_id, "demonstration": demonstration, "receipt_jwk": public},
            )


def vault_identity(directory: Path) -> VaultIdentity:
    """Returns who the vault in this directory is; `vault-missing` when there is none."""
    record = record_read(directory / VAULT_FILE)
    if record is None:
        raise VaultStoreError("vault-missing")
    return _identity(record)


def vault_receipt_jwk(directory: Path) -> dict[str, object]:
    """Returns the public key of the vault's receipts, so that a reader of the directory needs none of its secrets."""
    record = record_read(directory / VAULT_FILE)
    if record is None:
        raise VaultStoreError("vault-missing")
    jwk = record.get("receipt_jwk")
    if not isinstance(jwk, dict):
        raise VaultStoreError("record-invalid")
    return jwk


def vault_signing_key(directory: Path) -> PrivateKey:
    """Returns the key that signs receipts. Raises EnvelopeError (`key-file-exposed`, `key-file-invalid`) or OSError."""
    return private_key_read(directory / SIGNING_FILE)


def gateway_register(directory: Path, *, gateway_id: str, token: str, jwk: Mapping[str, object]) -> None:
    """After return this gateway, and nobody else by that id, may upload with this token; a running vault knows it
    at once.

    Repeating it with another token or identity replaces what was there. Only the token's hash is kept.
    Raises `gateway-id-invalid`, `token-invalid`, `token-taken`, or EnvelopeError (`key-invalid`, `key-private`).
    """
    if not PARTY_ID.fullmatch(gateway_id):
        raise VaultStoreError("gateway-id-invalid")
    if not _TOKEN.fullmatch(token):
        raise VaultStoreError("token-invalid")
    new = Gateway(gateway_id, token_hash(token), jwk_from_key(key_from_jwk(jwk)))
    vault_identity(directory)
    with directory_lock(directory):
        others = [each for each in gateways_read(directory) if each.gateway_id != gateway_id]
        if any(each.token_sha256 == new.token_sha256 for each in others):
            raise VaultStoreError("token-taken")
        entries = [
            {"gateway_id": each.gateway_id, "token_sha256": each.token_sha256, "jwk": each.jwk}
            for each in (*others, new)
        ]
        record_write(directory / GATEWAYS_FILE, {"version": VERSION, "gateways": entries})


def gateways_read(directory: Path) -> list[Gateway]:
    """Returns all gateways. Raises `file-exposed` or `record-invalid`; a vault without its list lets nobody in."""
    record = record_read(directory / GATEWAYS_FILE, secret=True)
    entries = record.get("gateways") if record is not None else None
    if not isinstance(entries, list):
        raise VaultStoreError("record-invalid")
    return [_gateway(entry) for entry in entries]


def token_hash(token: str) -> str:
    """The hexadecimal SHA-256 under which a token is kept; tokens are random, so no salt or stretching is needed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def recipient_register(directory: Path, jwk: Mapping[str, object]) -> str:
    """Publishes a recipient's public key and returns its id (RFC 7638 thumbprint). May be repeated.

    Raises EnvelopeError: `key-invalid`, and `key-private` so that no private key is ever published.
    """
    vault_identity(directory)
    public = jwk_from_key(key_from_jwk(jwk))
    kid = thumbprint({**public})
    record_write(directory / KEYS_DIRECTORY / f"{kid}.json", {**public, "kid": kid})
    return kid


def recipient_read(directory: Path, kid: str) -> dict[str, object] | None:
    """Returns the public JWK of that id, None when it is not registered."""
    if not _KEY_ID.fullmatch(kid):
        return None
    return record_read(directory / KEYS_DIRECTORY / f"{kid}.json")


class GatewayRegistry:
    """The gateways as a running vault asks for them; a change of the file counts from the next request on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state: tuple[tuple[int, int, int], list[Gateway]] | None = None

    def by_token(self, token: str) -> Gateway | None:
        """Returns whose token this is, None when it is nobody's. Compares with every gateway, in constant time each."""
        wanted = token_hash(token)
        found = None
        for gateway in self._gateways():
            if hmac.compare_digest(gateway.token_sha256, wanted):
                found = gateway
        return found

    def _gateways(self) -> list[Gateway]:
        status = (self._directory / GATEWAYS_FILE).stat()
        version = (status.st_ino, status.st_mtime_ns, status.st_mode)
        state = self._state
        if state is None or state[0] != version:
            state = self._state = (version, gateways_read(self._directory))
        return state[1]


def public_key_write(path: Path, jwk: Mapping[str, object]) -> None:
    """Writes a public JWK for somebody else to register; only its public members."""
    record_write(path, {**jwk_from_key(key_from_jwk(jwk)), "kid": thumbprint(jwk)})


def token_write(path: Path, token: str) -> None:
    """Writes a token for its gateway, mode 0600."""
    file_write(path, token.encode("ascii") + b"\n")


def _identity(record: Mapping[str, object]) -> VaultIdentity:
    vault_id, demonstration = record.get("vault_id"), record.get("demonstration")
    if record.get("version") != VERSION or not isinstance(vault_id, str) or not isinstance(demonstration, bool):
        raise VaultStoreError("record-invalid")
    return VaultIdentity(vault_id, demonstration)


def _gateway(entry: object) -> Gateway:
    try:
        if isinstance(entry, dict):
            jwk = jwk_from_key(key_from_jwk(entry["jwk"]))
            return Gateway(str(entry["gateway_id"]), str(entry["token_sha256"]), jwk)
    except (KeyError, TypeError, EnvelopeError) as error:
        raise VaultStoreError("record-invalid") from error
    raise VaultStoreError("record-invalid")
