"""Commitment and receipt: what one was given for, it cannot be used for anything else."""

import dataclasses
import hashlib
import json

import pytest

from tests.uploads.envelope_support import GATEWAY, GATEWAY_JWK, STRANGER, VAULT, VAULT_JWK, refusal
from uploads.envelope.encoding import base64url_decode, canonical_json
from uploads.envelope.jose import jws_sign
from uploads.envelope.keys import jwk_from_key
from uploads.envelope.receipt import (
    Commitment,
    StoredFile,
    commitment_sign,
    commitment_verify,
    receipt_sign,
    receipt_verify,
)

FILES = (
    StoredFile("key-0.jwe", 1200, hashlib.sha256(b"key").hexdigest()),
    StoredFile("file-1.gve", 0, hashlib.sha256(b"").hexdigest()),
)
COMMITMENT = Commitment("ab" * 16, "gateway-1", "vault-1", hashlib.sha256(b"map").hexdigest(), FILES)
TOKEN = commitment_sign(COMMITMENT, identity=GATEWAY)
TERMS = {"receipt_id": "receipt-1", "stored_at": "2024-02-29T12:00:00Z", "demonstration": False}
RECEIPT = receipt_sign(TOKEN, COMMITMENT, key=VAULT, **TERMS)


def receipt_check(token: str = RECEIPT, *, jwk=VAULT_JWK, commitment: Commitment = COMMITMENT, sent: str = TOKEN):
    return receipt_verify(token, jwk, commitment_token=sent, commitment=commitment)


def payload_changed(token: str, key, typ: str, **changes) -> str:
    members = {**json.loads(base64url_decode(token.split(".")[1])), **changes}
    kept = {name: value for name, value in members.items() if value is not ...}
    return jws_sign(canonical_json(kept), key, typ=typ)


def test_commitment_comes_back():
    assert commitment_verify(TOKEN, GATEWAY_JWK) == COMMITMENT


def test_commitment_of_another_writer_needs_no_canonical_json():
    members = json.loads(base64url_decode(TOKEN.split(".")[1]))
    spaced = jws_sign(json.dumps(dict(reversed(members.items())), indent=2).encode(), GATEWAY, typ="gve1-commit")
    assert commitment_verify(spaced, GATEWAY_JWK) == COMMITMENT
    receipt = receipt_sign(spaced, COMMITMENT, key=VAULT, **TERMS)
    assert receipt_check(receipt, sent=spaced).files == FILES
    assert refusal(receipt_check, receipt) == "receipt-mismatch"


def test_receipt_comes_back():
    receipt = receipt_check()
    assert (receipt.receipt_id, receipt.stored_at, receipt.demonstration) == tuple(TERMS.values())
    assert (receipt.upload_id, receipt.vault_id, receipt.files) == ("ab" * 16, "vault-1", FILES)
    assert receipt.commitment_sha256 == hashlib.sha256(TOKEN.encode()).hexdigest()


def test_demonstration_receipt_says_so():
    terms = {**TERMS, "demonstration": True}
    assert receipt_check(receipt_sign(TOKEN, COMMITMENT, key=VAULT, **terms)).demonstration is True


OTHER_COMMITMENTS = [
    {"upload_id": "cd" * 16},
    {"vault_id": "vault-2"},
    {"gateway_id": "gateway-2"},
    {"map_sha256": hashlib.sha256(b"another map").hexdigest()},
    {"files": FILES[:1]},
    {"files": FILES[::-1]},
    {"files": (*FILES, StoredFile("file-2.gve", 1, "0" * 64))},
    {"files": (FILES[0], dataclasses.replace(FILES[1], size_bytes=1))},
    {"files": (FILES[0], dataclasses.replace(FILES[1], sha256="0" * 64))},
    {"files": (FILES[0], dataclasses.replace(FILES[1], name="file-9.gve"))},
]


@pytest.mark.parametrize("change", OTHER_COMMITMENTS)
def test_c18_receipt_replayed_for_another_commitment_is_refused(change):
    other = dataclasses.replace(COMMITMENT, **change)
    assert refusal(receipt_check, commitment=other, sent=commitment_sign(other, identity=GATEWAY)) == "receipt-mismatch"


@pytest.mark.parametrize("change", OTHER_COMMITMENTS)
def test_commitment_beside_another_token_is_refused_on_both_sides(change):
    other = dataclasses.replace(COMMITMENT, **change)
    assert refusal(receipt_sign, TOKEN, other, key=VAULT, **TERMS) == "commitment-mismatch"
    assert refusal(receipt_check, commitment=other) == "commitment-mismatch"


@pytest.mark.parametrize(
    "changes",
    [
        {"upload_id": "cd" * 16},
        {"vault_id": "vault-2"},
        {"map_sha256": "0" * 64},
        {"files": []},
        {"commitment_sha256": "0" * 64},
    ],
)
def test_c18_vault_that_signs_something_else_is_refused(changes):
    """Each member counts by itself, not only through the commitment's hash."""
    assert refusal(receipt_check, payload_changed(RECEIPT, VAULT, "gve1-receipt", **changes)) == "receipt-mismatch"


def test_c18_receipt_by_anyone_else_is_refused():
    forged = receipt_sign(TOKEN, COMMITMENT, key=STRANGER, **TERMS)
    assert refusal(receipt_check, forged) == "signer-unknown"
    assert refusal(receipt_check, jwk=jwk_from_key(STRANGER)) == "signer-unknown"
    middle = len(RECEIPT) // 2
    changed = RECEIPT[:middle] + ("A" if RECEIPT[middle] != "A" else "B") + RECEIPT[middle + 1 :]
    assert refusal(receipt_check, changed) == "signature-invalid"


def test_commitment_is_no_receipt_and_the_other_way_round():
    assert refusal(receipt_check, commitment_sign(COMMITMENT, identity=VAULT)) == "type-mismatch"
    assert refusal(commitment_verify, RECEIPT, VAULT_JWK) == "type-mismatch"


@pytest.mark.parametrize("token", ["", "<html>", "a.b", "a.b.c.d", "null"])
def test_c05_anything_but_a_receipt_is_refused(token):
    assert refusal(receipt_check, token) == "encoding-invalid"


FILE = {"name": "file-1.gve", "size_bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"files": {}}, "encoding-invalid"),
        ({"files": [1]}, "encoding-invalid"),
        ({"files": [FILE, FILE]}, "encoding-invalid"),
        ({"files": [{**FILE, "size_bytes": -1}]}, "encoding-invalid"),
        ({"files": [{**FILE, "size_bytes": 1.0}]}, "encoding-invalid"),
        ({"files": [{**FILE, "size_bytes": True}]}, "encoding-invalid"),
        ({"files": [{**FILE, "size_bytes": 2**53}]}, "encoding-invalid"),
        ({"files": [{**FILE, "more": 1}]}, "encoding-invalid"),
        ({"files": [{**FILE, "name": "../x"}]}, "identifier-invalid"),
        ({"files": [{**FILE, "name": "A.gve"}]}, "identifier-invalid"),
        ({"files": [{**FILE, "name": "a" * 81}]}, "identifier-invalid"),
        ({"files": [{**FILE, "name": ".gve"}]}, "identifier-invalid"),
        ({"files": [{**FILE, "sha256": "0" * 63}]}, "identifier-invalid"),
        ({"files": [{**FILE, "sha256": "A" * 64}]}, "identifier-invalid"),
        ({"map_sha256": None}, "identifier-invalid"),
        ({"upload_id": "1.2.840.10008.1.1"}, "identifier-invalid"),
        ({"gateway_id": "a b"}, "identifier-invalid"),
        ({"version": 2}, "encoding-invalid"),
        ({"version": ...}, "encoding-invalid"),
        ({"more": 1}, "encoding-invalid"),
    ],
)
def test_commitments_of_any_other_form_are_refused(changes, code):
    token = payload_changed(TOKEN, GATEWAY, "gve1-commit", **changes)
    assert refusal(commitment_verify, token, GATEWAY_JWK) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"stored_at": "2024-02-29T12:00:00.123456+00:00"}, ""),
        ({"stored_at": "2024-02-29T12:00:00+01:00"}, "encoding-invalid"),
        ({"stored_at": "2024-02-29T12:00:00"}, "encoding-invalid"),
        ({"stored_at": "2024-02-29"}, "encoding-invalid"),
        ({"stored_at": "2023-02-29T12:00:00Z"}, "encoding-invalid"),
        ({"stored_at": 1709208000}, "encoding-invalid"),
        ({"demonstration": 0}, "encoding-invalid"),
        ({"demonstration": ...}, "encoding-invalid"),
        ({"receipt_id": ""}, "identifier-invalid"),
        ({"version": 2}, "encoding-invalid"),
    ],
)
def test_receipts_of_any_other_form_are_refused(changes, code):
    assert refusal(receipt_check, payload_changed(RECEIPT, VAULT, "gve1-receipt", **changes)) == code


@pytest.mark.parametrize("terms", [{"stored_at": "yesterday"}, {"receipt_id": "a b"}, {"demonstration": None}])
def test_malformed_receipts_are_not_signed(terms):
    assert refusal(receipt_sign, TOKEN, COMMITMENT, key=VAULT, **{**TERMS, **terms}) != ""


def test_malformed_commitments_are_not_signed():
    for change in ({"upload_id": "x"}, {"files": FILES * 2}, {"map_sha256": ""}):
        assert refusal(commitment_sign, dataclasses.replace(COMMITMENT, **change), identity=GATEWAY) != ""


def test_list_of_twenty_thousand_files_fits():
    files = tuple(StoredFile(f"file-{number}.gve", number, f"{number:064x}") for number in range(20_000))
    large = dataclasses.replace(COMMITMENT, files=files)
    token = commitment_sign(large, identity=GATEWAY)
    assert commitment_verify(token, GATEWAY_JWK) == large
