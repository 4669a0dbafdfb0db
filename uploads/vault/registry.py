"""Who a vault is and whom it knows: its identity, its gateways and its recipients' public keys. All in one
directory.
"""

import contextlib
import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
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
from uploads.vault.durable import directory_lock, directory_make, directory_sync, file_write, record_read, record_write
from uploads.vault.errors import VaultStoreError

VERSION = 1
VAULT_FILE = "vault.json"
SIGNING_FILE = "signing.pem"
EARLIER = "earlier_receipt_jwks"
GATEWAYS_FILE = "gateways.json"
KEYS_DIRECTORY = "keys"
UPLOADS_DIRECTORY = "uploads"
PARTS_DIRECTORY = "parts"
USAGE_DIRECTORY = "usage"

_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Gateway:
    """A gateway that may upload: its token's SHA-256 (hexadecimal) and the public identity that signs its
    commitments. A revoked one has no token any more; it stays, so that its uploads have an owner.
    """

    gateway_id: str
    token_sha256: str
    jwk: dict[str, str]
    quota_bytes: int | None = None
    revoked_at: str = ""


@dataclass(frozen=True)
class Registered:
    """Everything in gateways.json: who may upload, who might once, and how much."""

    gateways: tuple[Gateway, ...]
    quota_bytes: int | None = None


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
        for name in (KEYS_DIRECTORY, UPLOADS_DIRECTORY, PARTS_DIRECTORY, USAGE_DIRECTORY, f"{USAGE_DIRECTORY}/open"):
            directory_make(directory / name)
        if record is None and not (directory / SIGNING_FILE).exists():
            private_key_write(directory / SIGNING_FILE, key_generate())
        if not (directory / GATEWAYS_FILE).exists():
            record_write(directory / GATEWAYS_FILE, {"version": VERSION, "gateways": []})
        if record is None:  # last: a vault.json means that everything else is there
            public = jwk_from_key(private_key_read(directory / SIGNING_FILE))
            record_write(
                directory / VAULT_FILE,
                {"version": VERSION, "vault_id": vault_id, "demonstration": demonstration, "receipt_jwk": public},
            )


def vault_identity(directory: Path) -> VaultIdentity:
    """Returns who the vault in this directory is; `vault-missing` when there is none."""
    return _identity(_vault_record(directory))


def vault_receipt_jwk(directory: Path) -> dict[str, object]:
    """Returns the public key of the vault's receipts, so that a reader of the directory needs none of its secrets."""
    return _receipt_jwk(_vault_record(directory))


def vault_receipt_jwks(directory: Path) -> dict[str, dict[str, object]]:
    """Returns by their ids the public keys that receipts of this vault were ever signed with, today's among them."""
    record = _vault_record(directory)
    earlier = record.get(EARLIER, [])
    if not isinstance(earlier, list) or not all(isinstance(jwk, dict) for jwk in earlier):
        raise VaultStoreError("record-invalid")
    return {thumbprint(jwk): jwk for jwk in (*earlier, _receipt_jwk(record))}


def vault_signing_key(directory: Path) -> PrivateKey:
    """Returns the key that signs receipts: that which vault.json tells everybody.

    Raises `signing-key-missing`, `signing-key-differs`, EnvelopeError (`key-file-exposed`, `key-file-invalid`) or
    OSError.
    """
    told = _receipt_jwk(_vault_record(directory))
    try:
        key = private_key_read(directory / SIGNING_FILE)
    except FileNotFoundError as error:
        raise VaultStoreError("signing-key-missing") from error
    if thumbprint({**jwk_from_key(key)}) != thumbprint(told):
        raise VaultStoreError("signing-key-differs")
    return key


def receipt_key_change(directory: Path) -> dict[str, str]:
    """After return receipts are signed with a new key, whose public half is returned; those of before stay verifiable.

    For a signing.pem that was lost, or that somebody may have read. Only while nothing is served: `store-locked`. A
    crash within leaves a vault that says `signing-key-differs`, until this is called again.
    """
    with directory_lock(directory / PARTS_DIRECTORY, wait=False), directory_lock(directory):
        record, key = _vault_record(directory), key_generate()
        public, earlier = jwk_from_key(key), list(vault_receipt_jwks(directory).values())
        new = directory / f"new-{SIGNING_FILE}"
        new.unlink(missing_ok=True)
        private_key_write(new, key)
        record_write(directory / VAULT_FILE, {**record, "receipt_jwk": public, EARLIER: earlier})
        new.replace(directory / SIGNING_FILE)
        directory_sync(directory)
    return public


def token_usable(token: str) -> bool:
    """Whether a gateway could be registered with it."""
    return _TOKEN.fullmatch(token) is not None


def gateway_register(directory: Path, *, gateway_id: str, token: str, jwk: Mapping[str, object]) -> None:
    """After return this gateway, and nobody else by that id, may upload with this token; a running vault knows it
    at once.

    Repeating it with another token or identity replaces what was there. Only the token's hash is kept.
    Raises `gateway-id-invalid`, `token-invalid`, `token-taken`, or EnvelopeError (`key-invalid`, `key-private`).
    """
    if not PARTY_ID.fullmatch(gateway_id):
        raise VaultStoreError("gateway-id-invalid")
    if not token_usable(token):
        raise VaultStoreError("token-invalid")
    public = jwk_from_key(key_from_jwk(jwk))
    vault_identity(directory)
    with _registered_change(directory) as entries:
        old = entries.get(gateway_id)
        new = Gateway(gateway_id, token_hash(token), public, old.quota_bytes if old is not None else None)
        others = [each for each in entries.values() if each.gateway_id != gateway_id]
        if any(each.token_sha256 == new.token_sha256 for each in others):
            raise VaultStoreError("token-taken")
        entries[gateway_id] = new


def gateway_revoke(directory: Path, *, gateway_id: str) -> None:
    """After return the gateway's token is refused by a running vault at once; what it has uploaded stays. May be
    repeated. Raises `gateway-unknown`.
    """
    with _registered_change(directory) as entries:
        known = _known(entries, gateway_id)
        revoked_at = known.revoked_at or dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        entries[gateway_id] = replace(known, token_sha256="", revoked_at=revoked_at)


def quota_set(directory: Path, *, quota_bytes: int | None, gateway_id: str | None = None) -> None:
    """After return the vault, or one gateway in it, stores no more than this; None lifts it. A running vault follows at
    once, and what is stored already stays. Raises `gateway-unknown`.
    """
    vault_identity(directory)
    with directory_lock(directory):
        found = registered_read(directory)
        entries = {each.gateway_id: each for each in found.gateways}
        if gateway_id is None:
            _registered_write(directory, entries, quota_bytes)
            return
        entries[gateway_id] = replace(_known(entries, gateway_id), quota_bytes=quota_bytes)
        _registered_write(directory, entries, found.quota_bytes)


def registered_read(directory: Path) -> Registered:
    """Returns gateways and quotas. Raises `file-exposed` or `record-invalid`; a vault without its list lets nobody
    in.
    """
    record = record_read(directory / GATEWAYS_FILE, secret=True) or {}
    entries = record.get("gateways")
    if not isinstance(entries, list):
        raise VaultStoreError("record-invalid")
    return Registered(tuple(_gateway(entry) for entry in entries), _quota(record.get("quota_bytes")))


def gateways_read(directory: Path) -> list[Gateway]:
    """Returns all gateways, as `registered_read`."""
    return list(registered_read(directory).gateways)


@contextlib.contextmanager
def _registered_change(directory: Path) -> Iterator[dict[str, Gateway]]:
    with directory_lock(directory):
        found = registered_read(directory)
        entries = {each.gateway_id: each for each in found.gateways}
        yield entries
        _registered_write(directory, entries, found.quota_bytes)


def _registered_write(directory: Path, entries: Mapping[str, Gateway], quota_bytes: int | None) -> None:
    record = {
        "version": VERSION,
        "quota_bytes": quota_bytes,
        "gateways": [asdict(each) for each in entries.values()],
    }
    record_write(directory / GATEWAYS_FILE, record)


def _known(entries: Mapping[str, Gateway], gateway_id: str) -> Gateway:
    if gateway_id not in entries:
        raise VaultStoreError("gateway-unknown")
    return entries[gateway_id]


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


def recipients_read(directory: Path) -> dict[str, dict[str, object]]:
    """Returns the published public keys by id."""
    found = {}
    for path in sorted((directory / KEYS_DIRECTORY).glob("*.json")):
        jwk = recipient_read(directory, path.stem)
        if jwk is not None:
            found[path.stem] = jwk
    return found


def recipient_revoke(directory: Path, kid: str) -> None:
    """After return the key is published no more; what was sealed for it stays. Raises `recipient-unknown`."""
    if recipient_read(directory, kid) is None:
        raise VaultStoreError("recipient-unknown")
    (directory / KEYS_DIRECTORY / f"{kid}.json").unlink(missing_ok=True)
    directory_sync(directory / KEYS_DIRECTORY)


class GatewayRegistry:
    """The gateways as a running vault asks for them; a change of the file counts from the next request on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state: tuple[tuple[int, int, int], Registered] | None = None

    def by_token(self, token: str) -> Gateway | None:
        """Returns whose token this is, None when it is nobody's. Compares with every gateway, in constant time each."""
        wanted = token_hash(token)
        found = None
        for gateway in self.registered().gateways:
            if hmac.compare_digest(gateway.token_sha256, wanted):
                found = gateway
        return found

    def registered(self) -> Registered:
        """Gateways and quotas as they are now."""
        status = (self._directory / GATEWAYS_FILE).stat()
        version = (status.st_ino, status.st_mtime_ns, status.st_mode)
        state = self._state
        if state is None or state[0] != version:
            state = self._state = (version, registered_read(self._directory))
        return state[1]


def public_key_write(path: Path, jwk: Mapping[str, object]) -> None:
    """Writes a public JWK for somebody else to register; only its public members."""
    record_write(path, {**jwk_from_key(key_from_jwk(jwk)), "kid": thumbprint(jwk)})


def token_write(path: Path, token: str) -> None:
    """Writes a token for its gateway, mode 0600."""
    file_write(path, token.encode("ascii") + b"\n")


def _vault_record(directory: Path) -> dict[str, object]:
    record = record_read(directory / VAULT_FILE)
    if record is None:
        raise VaultStoreError("vault-missing")
    return record


def _receipt_jwk(record: Mapping[str, object]) -> dict[str, object]:
    jwk = record.get("receipt_jwk")
    if not isinstance(jwk, dict):
        raise VaultStoreError("record-invalid")
    return jwk


def _identity(record: Mapping[str, object]) -> VaultIdentity:
    vault_id, demonstration = record.get("vault_id"), record.get("demonstration")
    if record.get("version") != VERSION or not isinstance(vault_id, str) or not isinstance(demonstration, bool):
        raise VaultStoreError("record-invalid")
    return VaultIdentity(vault_id, demonstration)


def _gateway(entry: object) -> Gateway:
    try:
        if isinstance(entry, dict):
            jwk = jwk_from_key(key_from_jwk(entry["jwk"]))
            texts = str(entry["gateway_id"]), str(entry["token_sha256"])
            return Gateway(*texts, jwk, _quota(entry.get("quota_bytes")), str(entry.get("revoked_at", "")))
    except (KeyError, TypeError, EnvelopeError) as error:
        raise VaultStoreError("record-invalid") from error
    raise VaultStoreError("record-invalid")


def _quota(value: object) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    raise VaultStoreError("record-invalid")
