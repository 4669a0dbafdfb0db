"""What gateway and vault sign for each other, over ciphertext only: the list of files, and its receipt."""

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from uploads.envelope.encoding import (
    FILE_NAME,
    PARTY_ID,
    RANDOM_ID,
    SHA256_HEX,
    VERSION,
    base64url_decode,
    canonical_json,
    identifier,
    json_object,
    members_exactly,
    version_check,
)
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import jws_sign, jws_verify
from uploads.envelope.keys import PrivateKey

COMMITMENT_TYPE = "gve1-commit"
RECEIPT_TYPE = "gve1-receipt"
SIZE_BYTES_MAX = 2**53 - 1
"""The largest integer that every JSON reader keeps (RFC 8259 6)."""
_UTC = dt.timedelta(0)


@dataclass(frozen=True)
class StoredFile:
    """A file as the vault holds it: `sha256` (hexadecimal) and size are those of the ciphertext."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Commitment:
    """Everything that belongs to one upload, as the gateway says; order matters, names occur once."""

    upload_id: str
    gateway_id: str
    vault_id: str
    map_sha256: str
    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class Receipt:
    """That the vault holds exactly the files of one commitment since `stored_at` (RFC 3339, UTC)."""

    receipt_id: str
    upload_id: str
    vault_id: str
    commitment_sha256: str
    stored_at: str
    demonstration: bool
    files: tuple[StoredFile, ...]
    map_sha256: str


def commitment_sign(commitment: Commitment, *, identity: PrivateKey) -> str:
    """The commitment as a compact JWS by the gateway; only a well-formed one is signed. May be repeated."""
    payload = canonical_json(_commitment_members(commitment))
    _commitment_parse(payload)
    return jws_sign(payload, identity, typ=COMMITMENT_TYPE)


def commitment_verify(token: str, jwk: Mapping[str, object]) -> Commitment:
    """The commitment that the gateway with this pinned key signed; raises as `jws_verify`, or `encoding-invalid`,
    `identifier-invalid` for what a right signature stands under but the format does not allow.
    """
    return _commitment_parse(jws_verify(token, jwk, typ=COMMITMENT_TYPE))


def receipt_sign(
    token: str, commitment: Commitment, *, receipt_id: str, stored_at: str, demonstration: bool, key: PrivateKey
) -> str:
    """The vault's receipt for a commitment `token` that it has verified and whose files it holds durably.

    `commitment` is what `commitment_verify` gave for the token; `commitment-mismatch` if the token says otherwise.
    `stored_at` is RFC 3339 in UTC; `demonstration` marks receipts that never allow deletion.
    """
    _same_commitment(token, commitment)
    receipt = Receipt(
        receipt_id=receipt_id,
        upload_id=commitment.upload_id,
        vault_id=commitment.vault_id,
        commitment_sha256=_token_sha256(token),
        stored_at=stored_at,
        demonstration=demonstration,
        files=commitment.files,
        map_sha256=commitment.map_sha256,
    )
    payload = canonical_json(_receipt_members(receipt))
    _receipt_parse(payload)
    return jws_sign(payload, key, typ=RECEIPT_TYPE)


def receipt_verify(token: str, jwk: Mapping[str, object], *, commitment_token: str, commitment: Commitment) -> Receipt:
    """The receipt, proved to be the pinned vault's for this very commitment token; nothing else counts as stored.

    Raises as `jws_verify`; `receipt-mismatch` for another upload, vault, map, list of files or commitment token;
    `commitment-mismatch` if the token given is not that of the commitment given.
    """
    _same_commitment(commitment_token, commitment)
    receipt = _receipt_parse(jws_verify(token, jwk, typ=RECEIPT_TYPE))
    said = (receipt.upload_id, receipt.vault_id, receipt.map_sha256, receipt.files, receipt.commitment_sha256)
    sent = (commitment.upload_id, commitment.vault_id, commitment.map_sha256, commitment.files)
    if said != (*sent, _token_sha256(commitment_token)):
        raise EnvelopeError("receipt-mismatch")
    return receipt


def _token_sha256(token: str) -> str:
    return hashlib.sha256(token.encode("ascii", "replace")).hexdigest()


def _same_commitment(token: str, commitment: Commitment) -> None:
    parts = token.split(".", 3)
    if len(parts) != 3 or _commitment_parse(base64url_decode(parts[1])) != commitment:
        raise EnvelopeError("commitment-mismatch")


def _commitment_members(commitment: Commitment) -> dict[str, object]:
    return {
        "files": _files_members(commitment.files),
        "gateway_id": commitment.gateway_id,
        "map_sha256": commitment.map_sha256,
        "upload_id": commitment.upload_id,
        "vault_id": commitment.vault_id,
        "version": VERSION,
    }


def _commitment_parse(payload: bytes) -> Commitment:
    members = json_object(payload)
    members_exactly(members, "files", "gateway_id", "map_sha256", "upload_id", "vault_id", "version")
    version_check(members["version"])
    return Commitment(
        upload_id=identifier(members["upload_id"], RANDOM_ID),
        gateway_id=identifier(members["gateway_id"], PARTY_ID),
        vault_id=identifier(members["vault_id"], PARTY_ID),
        map_sha256=identifier(members["map_sha256"], SHA256_HEX),
        files=_files_parse(members["files"]),
    )


def _receipt_members(receipt: Receipt) -> dict[str, object]:
    return {
        "commitment_sha256": receipt.commitment_sha256,
        "demonstration": receipt.demonstration,
        "files": _files_members(receipt.files),
        "map_sha256": receipt.map_sha256,
        "receipt_id": receipt.receipt_id,
        "stored_at": receipt.stored_at,
        "upload_id": receipt.upload_id,
        "vault_id": receipt.vault_id,
        "version": VERSION,
    }


def _receipt_parse(payload: bytes) -> Receipt:
    members = json_object(payload)
    names = ("commitment_sha256", "demonstration", "files", "map_sha256", "receipt_id", "stored_at")
    members_exactly(members, *names, "upload_id", "vault_id", "version")
    version_check(members["version"])
    demonstration = members["demonstration"]
    if not isinstance(demonstration, bool):
        raise EnvelopeError("encoding-invalid")
    return Receipt(
        receipt_id=identifier(members["receipt_id"], PARTY_ID),
        upload_id=identifier(members["upload_id"], RANDOM_ID),
        vault_id=identifier(members["vault_id"], PARTY_ID),
        commitment_sha256=identifier(members["commitment_sha256"], SHA256_HEX),
        stored_at=_utc_parse(members["stored_at"]),
        demonstration=demonstration,
        files=_files_parse(members["files"]),
        map_sha256=identifier(members["map_sha256"], SHA256_HEX),
    )


def _files_members(files: tuple[StoredFile, ...]) -> list[dict[str, object]]:
    return [{"name": file.name, "sha256": file.sha256, "size_bytes": file.size_bytes} for file in files]


def _files_parse(value: object) -> tuple[StoredFile, ...]:
    if not isinstance(value, list):
        raise EnvelopeError("encoding-invalid")
    files = tuple(_file_parse(entry) for entry in value)
    if len({file.name for file in files}) != len(files):
        raise EnvelopeError("encoding-invalid")
    return files


def _file_parse(value: object) -> StoredFile:
    if not isinstance(value, dict):
        raise EnvelopeError("encoding-invalid")
    members_exactly(value, "name", "sha256", "size_bytes")
    size_bytes = value["size_bytes"]
    if type(size_bytes) is not int or not 0 <= size_bytes <= SIZE_BYTES_MAX:
        raise EnvelopeError("encoding-invalid")
    return StoredFile(identifier(value["name"], FILE_NAME), size_bytes, identifier(value["sha256"], SHA256_HEX))


def _utc_parse(value: object) -> str:
    try:
        if isinstance(value, str) and "T" in value and dt.datetime.fromisoformat(value).utcoffset() == _UTC:
            return value
    except ValueError as error:
        raise EnvelopeError("encoding-invalid") from error
    raise EnvelopeError("encoding-invalid")
