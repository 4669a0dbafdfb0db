"""The published vectors open, are what the sealer makes, and their refusals are refused."""

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.uploads import envelope_vectors
from tests.uploads.envelope_support import refusal, segments_of
from uploads.envelope import jose
from uploads.envelope.encoding import base64url_decode
from uploads.envelope.errors import EnvelopeError, error_codes
from uploads.envelope.keys import PrivateKey, fingerprint, jwk_from_key, thumbprint
from uploads.envelope.receipt import commitment_verify, receipt_verify
from uploads.envelope.unseal import Opener

DOCS = Path(__file__).parents[2] / "docs"
VECTORS = json.loads((DOCS / "vectors" / "gve1.json").read_text(encoding="utf-8"))
FILES = {file["name"]: file for file in VECTORS["files"]}


def private_key(name: str) -> PrivateKey:
    scalar = base64url_decode(VECTORS["keys"][name]["public_test_private_key_d"])
    return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP521R1())


def opener() -> Opener:
    opened = Opener(private_key("recipient"))
    assert opened.add_key(VECTORS["key_document"]["content"].encode()) == VECTORS["key_document"]["run_id"]
    return opened


@pytest.mark.parametrize("name", ["recipient", "gateway", "vault"])
def test_keys_have_their_names(name):
    entry = VECTORS["keys"][name]
    assert jwk_from_key(private_key(name)) == entry["jwk"]
    assert (thumbprint(entry["jwk"]), fingerprint(entry["jwk"])) == (entry["kid"], entry["fingerprint"])


def test_c14_shared_secret_keeps_its_leading_zero_octets():
    """Z has 66 octets and begins with two zeros; a reader that cuts them off derives another key and fails."""
    entry = VECTORS["key_document"]
    shared = bytes.fromhex(entry["z"])
    assert len(shared) == 66
    assert shared.startswith(b"\x00\x00")
    header = json.loads(base64url_decode(entry["content"].split(".")[0]))
    agreed = {"apu": entry["gateway_id"].encode(), "apv": entry["vault_id"].encode()}
    assert jose.key_agree(private_key("recipient"), header["epk"], **agreed).hex() == entry["key_wrapping_key"]
    derived = {"algorithm": "ECDH-ES+A256KW", "size_bytes": 32, **agreed}
    assert jose.concat_kdf(shared, **derived).hex() == entry["key_wrapping_key"]
    assert jose.concat_kdf(shared.lstrip(b"\x00"), **derived).hex() != entry["key_wrapping_key"]


@pytest.mark.parametrize("name", list(FILES))
def test_files_open(name):
    file, sink = FILES[name], io.BytesIO()
    sealed = base64.b64decode(file["sealed"])
    opened = opener().open(io.BytesIO(sealed), sink, file_id=file["file_id"], content_sha256=file["content_sha256"])
    assert sink.getvalue() == base64.b64decode(file["content"])
    assert opened.sha256 == file["sha256"] == hashlib.sha256(sealed).hexdigest()


def test_there_is_a_file_of_several_segments():
    assert len(segments_of(base64.b64decode(FILES["segments"]["sealed"]))[1]) >= 3


@pytest.mark.parametrize("entry", VECTORS["documents"], ids=lambda entry: entry["kind"])
def test_documents_open(entry):
    gateway_jwk = VECTORS["keys"]["gateway"]["jwk"]
    opened = opener().open_document(entry["content"].encode(), kind=entry["kind"], gateway_jwk=gateway_jwk)
    assert opened == entry["document"]


def test_receipt_verifies():
    tokens = VECTORS["receipts"]
    commitment = commitment_verify(tokens["commitment"], VECTORS["keys"]["gateway"]["jwk"])
    vault_jwk = VECTORS["keys"]["vault"]["jwk"]
    receipt = receipt_verify(tokens["receipt"], vault_jwk, commitment_token=tokens["commitment"], commitment=commitment)
    assert receipt.demonstration is True
    assert [file.sha256 for file in receipt.files] == [file["sha256"] for file in VECTORS["files"]]


def changed(sealed: bytes, entry: dict) -> bytes:
    header, segments = segments_of(sealed)
    match entry["change"]:
        case "flip":
            octets = bytearray(sealed)
            octets[entry["offset"]] ^= entry["xor"]
            return bytes(octets)
        case "cut":
            return sealed[: -entry["count"]]
        case "append":
            return sealed + bytes.fromhex(entry["hex"])
        case "cut-segments":
            return header + b"".join(segments[: -entry["count"]])
        case "swap-segments":
            return header + segments[1] + segments[0] + b"".join(segments[2:])
        case "repeat-segment":
            return header + segments[0] + b"".join(segments)
    raise LookupError(entry["change"])


@pytest.mark.parametrize("entry", VECTORS["refused"], ids=lambda entry: f"{entry['file']}-{entry['why']}")
def test_refusals_are_refused(entry):
    sealed = changed(base64.b64decode(FILES[entry["file"]]["sealed"]), entry)
    assert refusal(opener().open, io.BytesIO(sealed), io.BytesIO()) == entry["code"]


def test_sealer_makes_the_vectors_again():
    """With the scripted randomness every octet is fixed; only zstd may write other octets in another version."""
    made = json.loads(json.dumps(envelope_vectors.build()))
    compared = ["keys", "key_document", "refused", "note"]
    if made["zstd_version"] == VECTORS["zstd_version"]:
        compared += ["files", "documents", "receipts", "zstd_version"]
    assert [name for name in compared if made[name] != VECTORS[name]] == []


def test_specification_names_vectors_codes_and_fixed_values():
    text = (DOCS / "envelope.md").read_text(encoding="utf-8")
    assert "vectors/gve1.json" in text
    assert [code for code in error_codes() if f"`{code}`" not in text] == []
    for value in (
        "GVE1 file",
        "GVE1 document",
        "gve1-key",
        "gve1-map",
        "gve1-commit",
        "gve1-receipt",
        "ECDH-ES+A256KW",
    ):
        assert value in text


def test_vectors_are_not_opened_by_another_key():
    with pytest.raises(EnvelopeError, match="another recipient"):
        Opener(private_key("vault")).add_key(VECTORS["key_document"]["content"].encode())
