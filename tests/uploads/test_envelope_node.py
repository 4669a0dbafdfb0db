"""Node's `jose` reads what we write and refuses it when it was changed; and we what Node writes."""

import hashlib
import io
import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.outside.node_jose import node_answers, node_asks
from tests.uploads.envelope_support import (
    GATEWAY,
    RECIPIENT,
    STRANGER,
    VAULT,
    open_bytes,
    refusal,
    run_start,
    seal_bytes,
)
from uploads.custody import CustodyReader, document_write
from uploads.envelope.encoding import base64url_decode, base64url_encode, canonical_json
from uploads.envelope.framing import document_bucket
from uploads.envelope.jose import jws_verify
from uploads.envelope.keys import PrivateKey, jwk_from_key, key_from_jwk, key_generate, thumbprint
from uploads.envelope.receipt import (
    Commitment,
    StoredFile,
    commitment_sign,
    commitment_verify,
    receipt_sign,
    receipt_verify,
)
from uploads.envelope.rotation import Rotation, rotation_sign, rotation_verify
from uploads.envelope.seal import SealingRun
from uploads.envelope.unseal import Opener

pytestmark = pytest.mark.jose

VECTORS = json.loads((Path(__file__).parents[2] / "docs/vectors/gve1.json").read_text(encoding="utf-8"))
UPLOAD, RUN = "cd" * 16, "ab" * 16
PARTIES = {"gateway_id": "gateway-1", "vault_id": "vault-1"}
STATEMENT = {
    "document_id": "ef" * 16,
    "gateway_id": "gateway-1",
    "study_instance_uid": "1.2.3",
    "made_at": "2026-03-01T00:00:00Z",
    "made_by": "user:anna",
}
COMMITMENT = Commitment(UPLOAD, "gateway-1", "vault-1", "a" * 64, (StoredFile("map.jwe", 5504, "a" * 64),))
ROTATION = Rotation("vault-1", 7, thumbprint(jwk_from_key(RECIPIENT)), jwk_from_key(STRANGER), "2026-03-01T00:00:00Z")
COMMITTED = commitment_sign(COMMITMENT, identity=GATEWAY)


def receipt(token: str) -> str:
    stated: dict[str, Any] = {"receipt_id": "receipt-1", "stored_at": "2026-03-01T00:00:00Z", "demonstration": False}
    return receipt_sign(token, COMMITMENT, **stated, key=VAULT)


def custody() -> bytes:
    event = {"kind": "event", "uid": "1", "at": "", "event": "Query", "outcome": "success", "actor": "user:a",
             "detail": {}, "seal": None}  # fmt: skip
    return b"".join(document_write([event], identity=GATEWAY, **STATEMENT))


def private_jwk(key: PrivateKey) -> dict[str, str]:
    return {**jwk_from_key(key), "d": base64url_encode(key.private_numbers().private_value.to_bytes(66, "big"))}


def payload_of(token: str) -> bytes:
    return base64url_decode(token.split(".")[1])


def changes(content: str) -> list[str]:
    """The compact object with one octet of each of its parts changed, whatever part is not empty."""
    parts = content.split(".")
    changed = []
    for index, part in enumerate(parts):
        if part:
            octets = bytearray(base64url_decode(part))
            octets[len(octets) // 2] ^= 1
            changed.append(".".join([*parts[:index], base64url_encode(bytes(octets)), *parts[index + 1 :]]))
    return changed


# what is signed: typ -> (token, who signed it)
SIGNED = {
    "gve1-commit": (COMMITTED, GATEWAY),
    "gve1-receipt": (receipt(COMMITTED), VAULT),
    "gve1-rotation": (rotation_sign(ROTATION, signing_key=RECIPIENT), RECIPIENT),
    "gateway-custody": (json.loads(custody())["custody"], GATEWAY),
}


# -- Node reads ours ---------------------------------------------------------------------------------------------------


def test_node_names_our_keys_as_we_do() -> None:
    """Among so many, some coordinates begin with a zero octet, which belongs to them (RFC 7518 6.2.1.2)."""
    jwks = [jwk_from_key(key_generate()) for _ in range(12)] + [entry["jwk"] for entry in VECTORS["keys"].values()]
    answers = node_asks(*({"do": "thumbprint", "jwk": jwk} for jwk in jwks))
    assert [answer["kid"] for answer in answers] == [thumbprint(jwk) for jwk in jwks]


def test_node_opens_our_key_document_and_no_changed_one() -> None:
    run = run_start()
    content = run.key_documents[0].content.decode()
    question = {"do": "key_document_open", "jwk": private_jwk(RECIPIENT)}
    answer, kid, stranger, *refused = node_asks(
        {**question, "content": content},
        {"do": "thumbprint", "jwk": jwk_from_key(RECIPIENT)},
        {**question, "content": content, "jwk": private_jwk(STRANGER)},
        *({**question, "content": each} for each in changes(content)[1:]),
    )
    header = answer["header"]
    assert set(header.pop("epk")) == {"kty", "crv", "x", "y"}
    assert header == {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256CBC-HS512",
        "typ": "gve1-key",
        **kid,
        "apu": base64url_encode(b"gateway-1"),
        "apv": base64url_encode(b"vault-1"),
    }
    members = json.loads(answer["plaintext"])
    assert members.pop("session_key") == base64url_encode(run._session_key)
    assert members == {"run_id": run.run_id, "upload_id": run.upload_id, "version": 1}
    assert [each["refused"] for each in (stranger, *refused)] == ["ERR_JWE_DECRYPTION_FAILED"] * 5


@pytest.mark.parametrize("member", ["apu", "apv", "kid", "typ"])
def test_node_refuses_our_key_document_under_another_header(member: str) -> None:
    first, rest = run_start().key_documents[0].content.decode().split(".", 1)
    header = json.loads(base64url_decode(first)) | {member: base64url_encode(b"somebody-else")}
    changed = f"{base64url_encode(canonical_json(header))}.{rest}"
    answer = node_answers("key_document_open", content=changed, jwk=private_jwk(RECIPIENT))
    assert answer == {"refused": "ERR_JWE_DECRYPTION_FAILED"}


def test_node_opens_the_vectors() -> None:
    """The shared secret begins with two zero octets."""
    recipient, entry = VECTORS["keys"]["recipient"], VECTORS["key_document"]
    jwk = {**recipient["jwk"], "d": recipient["public_test_private_key_d"]}
    plaintext = node_answers("key_document_open", content=entry["content"], jwk=jwk)["plaintext"]
    session_key = base64url_decode(json.loads(plaintext)["session_key"])
    assert session_key.hex() == entry["session_key"]
    for document in VECTORS["documents"]:
        question = {"content": document["content"], "kind": document["kind"], "session_key": session_key}
        token = node_answers("document_open", **question)["plaintext"].rstrip(b" ").decode()
        answer = node_answers("verify", token=token, jwk=VECTORS["keys"]["gateway"]["jwk"])
        assert json.loads(answer["payload"])["document"] == document["document"]


@pytest.mark.parametrize("kind", ["map", "info", "metadata"])
def test_node_opens_and_verifies_our_document_and_no_changed_one(kind: str) -> None:
    run, said = run_start(), {"patient": "M\u00fcller^\u6f22", "files": [1, 2]}
    content = run.seal_document(said, kind=kind, identity=GATEWAY).decode()
    question = {"do": "document_open", "kind": kind, "session_key": run._session_key}
    opened, other, *refused = node_asks(
        {**question, "content": content},
        {**question, "content": content, "kind": "map" if kind == "info" else "info"},
        *({**question, "content": each} for each in changes(content)[1:]),
    )
    padded = opened["plaintext"]
    token = padded.rstrip(b" ").decode()
    assert (opened["header"]["typ"], opened["header"]["kid"]) == (f"gve1-{kind}", run.run_id)
    assert len(padded) == document_bucket(len(token))
    verified = node_answers("verify", token=token, jwk=jwk_from_key(GATEWAY))
    assert verified["header"]["typ"] == f"gve1-{kind}"
    assert json.loads(verified["payload"])["document"] == said
    assert [each["refused"] for each in (other, *refused)] == ["ERR_JWE_DECRYPTION_FAILED"] * 4


@pytest.mark.parametrize("typ", SIGNED)
def test_node_verifies_what_we_sign_and_nothing_changed(typ: str) -> None:
    token, signer = SIGNED[typ]
    answer, kid, stranger, *refused = node_asks(
        {"do": "verify", "token": token, "jwk": jwk_from_key(signer)},
        {"do": "thumbprint", "jwk": jwk_from_key(signer)},
        {"do": "verify", "token": token, "jwk": jwk_from_key(STRANGER)},
        *({"do": "verify", "token": each, "jwk": jwk_from_key(signer)} for each in changes(token)[1:]),
    )
    assert answer == {"header": {"alg": "ES512", "typ": typ, **kid}, "payload": payload_of(token)}
    assert [each["refused"] for each in (stranger, *refused)] == ["ERR_JWS_SIGNATURE_VERIFICATION_FAILED"] * 3


def test_node_as_the_recipient_opens_what_we_seal_for_its_key() -> None:
    made = node_answers("key", alg="ECDH-ES+A256KW")
    run = SealingRun.start(upload_id=UPLOAD, recipients=[made["public"]], **PARTIES)
    (document,) = run.key_documents
    opened = node_answers("key_document_open", content=document.content.decode(), jwk=made["private"])
    assert document.kid == opened["header"]["kid"] == node_answers("thumbprint", jwk=made["public"])["kid"]
    assert json.loads(opened["plaintext"])["session_key"] == base64url_encode(run._session_key)


# -- we read Node's ----------------------------------------------------------------------------------------------------


def node_sealed(kind: str = "map") -> tuple[dict[str, str], str, str]:
    """Node as the gateway: the public key of its identity, a key document for RECIPIENT, and a document of the run."""
    session_key, salt = secrets.token_bytes(32), base64url_encode(secrets.token_bytes(32))
    identity = node_answers("key", alg="ES512")
    payload = {**PARTIES, "kind": kind, "version": 1, "run_id": RUN, "upload_id": UPLOAD, "document": {"studies": 1}}
    members = {"version": 1, "session_key": base64url_encode(session_key), "run_id": RUN, "upload_id": UPLOAD}
    key_header = {"alg": "ECDH-ES+A256KW", "enc": "A256CBC-HS512", "typ": "gve1-key"}
    signed, sealed = node_asks(
        {
            "do": "sign",
            "payload": json.dumps(payload).encode(),
            "header": {"alg": "ES512", "typ": f"gve1-{kind}", "kid": thumbprint(identity["public"])},
            "jwk": identity["private"],
        },
        {
            "do": "key_document_make",
            "plaintext": json.dumps(members).encode(),
            "header": {**key_header, "kid": thumbprint(jwk_from_key(RECIPIENT))},
            "apu": PARTIES["gateway_id"].encode(),
            "apv": PARTIES["vault_id"].encode(),
            "jwk": jwk_from_key(RECIPIENT),
        },
    )
    token = signed["token"].encode()
    header = {"alg": "dir", "enc": "A256CBC-HS512", "typ": f"gve1-{kind}", "kid": RUN, "salt": salt}
    padded = token.ljust(document_bucket(len(token)))
    document = node_answers("document_make", plaintext=padded, header=header, session_key=session_key, kind=kind)
    return identity["public"], sealed["content"], document["content"]


def test_we_open_what_node_seals_and_nothing_changed() -> None:
    jwk, sealed, document = node_sealed()
    opener = Opener(RECIPIENT)
    assert opener.add_key(sealed.encode()) == RUN
    assert (opener.run(RUN).gateway_id, opener.run(RUN).vault_id) == ("gateway-1", "vault-1")
    assert opener.open_document(document.encode(), kind="map", gateway_jwk=jwk) == {"studies": 1}
    for changed in changes(sealed)[1:]:
        assert refusal(Opener(RECIPIENT).add_key, changed.encode()) == "authentication-failed"
    for changed in changes(document)[1:]:
        opened = refusal(opener.open_document, changed.encode(), kind="map", gateway_jwk=jwk)
        assert opened == "authentication-failed"
    for changed in (changes(sealed)[0], sealed + "A"):
        assert refusal(Opener(RECIPIENT).add_key, changed.encode())
    assert refusal(Opener(STRANGER).add_key, sealed.encode()) == "not-for-this-key"
    pinned = refusal(opener.open_document, document.encode(), kind="map", gateway_jwk=jwk_from_key(GATEWAY))
    assert pinned == "signer-unknown"


def test_we_name_nodes_keys_as_node_does_and_take_no_private_one() -> None:
    made = node_asks(*[{"do": "key", "alg": "ES512"}, {"do": "key", "alg": "ECDH-ES+A256KW"}] * 4)
    kids = node_asks(*({"do": "thumbprint", "jwk": each["public"]} for each in made))
    for each, kid in zip(made, kids, strict=True):
        assert jwk_from_key(key_from_jwk(each["public"])) == each["public"]
        assert thumbprint(each["public"]) == kid["kid"]
        assert refusal(key_from_jwk, each["private"]) == "key-private"


@pytest.fixture(scope="module")
def node_key() -> dict[str, dict[str, str]]:
    """A P-521 pair that Node made."""
    return node_answers("key", alg="ES512")


def node_signed(payload: bytes, typ: str, pair: dict[str, dict[str, str]]) -> str:
    header = {"alg": "ES512", "typ": typ, "kid": thumbprint(pair["public"])}
    return node_answers("sign", payload=payload, header=header, jwk=pair["private"])["token"]


@pytest.mark.parametrize("typ", SIGNED)
def test_we_verify_what_node_signs_and_nothing_changed(typ: str, node_key: dict[str, dict[str, str]]) -> None:
    payload = payload_of(SIGNED[typ][0])
    token = node_signed(payload, typ, node_key)
    assert jws_verify(token, node_key["public"], typ=typ) == payload
    for changed in changes(token)[1:]:
        assert refusal(jws_verify, changed, node_key["public"], typ=typ) == "signature-invalid"
    assert refusal(jws_verify, changes(token)[0], node_key["public"], typ=typ)
    assert refusal(jws_verify, token, jwk_from_key(VAULT), typ=typ) == "signer-unknown"
    assert refusal(jws_verify, token, node_key["public"], typ="gve1-other") == "type-mismatch"


def test_commitment_and_receipt_of_node_are_what_ours_would_be(node_key: dict[str, dict[str, str]]) -> None:
    committed = node_signed(payload_of(COMMITTED), "gve1-commit", node_key)
    assert commitment_verify(committed, node_key["public"]) == COMMITMENT
    signed = node_signed(payload_of(receipt(committed)), "gve1-receipt", node_key)
    sent: dict[str, Any] = {"commitment_token": committed, "commitment": COMMITMENT}
    found = receipt_verify(signed, node_key["public"], **sent)
    assert (found.receipt_id, found.files) == ("receipt-1", COMMITMENT.files)
    assert found.commitment_sha256 == hashlib.sha256(committed.encode()).hexdigest()
    other = node_signed(payload_of(receipt(COMMITTED)), "gve1-receipt", node_key)
    assert refusal(receipt_verify, other, node_key["public"], **sent) == "receipt-mismatch"


def test_rotation_statement_of_node_counts(node_key: dict[str, dict[str, str]]) -> None:
    token = node_signed(payload_of(SIGNED["gve1-rotation"][0]), "gve1-rotation", node_key)
    assert rotation_verify(token, node_key["public"]) == ROTATION


def test_custody_document_that_node_signed_verifies(node_key: dict[str, dict[str, str]]) -> None:
    ours = json.loads(custody())["custody"]
    head = json.loads(payload_of(ours)) | {"identity_jwk": node_key["public"]}
    signed = node_signed(canonical_json(head), "gateway-custody", node_key)
    document = custody().replace(ours.encode(), signed.encode())
    assert CustodyReader(io.BytesIO(document)).verify(node_key["public"]).made_by == "user:anna"


def test_run_that_node_rewraps_for_another_key_opens_there() -> None:
    run = run_start()
    ours = run.key_documents[0].content.decode()
    opened = node_answers("key_document_open", content=ours, jwk=private_jwk(RECIPIENT))
    header = {"alg": "ECDH-ES+A256KW", "enc": "A256CBC-HS512", "typ": "gve1-key"}
    made = node_answers(
        "key_document_make",
        plaintext=opened["plaintext"],
        header={**header, "kid": thumbprint(jwk_from_key(STRANGER))},
        apu=b"gateway-1",
        apv=b"vault-1",
        jwk=jwk_from_key(STRANGER),
    )
    opener = Opener(STRANGER)
    opener.add_key(made["content"].encode())
    assert open_bytes(opener, seal_bytes(run, b"content")[1]) == b"content"
