"""Signed and encrypted JSON: key documents, study documents, and the tokens below them."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.uploads.envelope_support import (
    GATEWAY,
    GATEWAY_JWK,
    RECIPIENT,
    STRANGER,
    header_changed,
    opener_for,
    refusal,
    run_start,
)
from uploads.envelope import aead, framing, jose
from uploads.envelope.encoding import base64url_decode, base64url_encode, canonical_json
from uploads.envelope.errors import EnvelopeError, error_codes
from uploads.envelope.keys import jwk_from_key, thumbprint
from uploads.envelope.seal import SealingRun
from uploads.envelope.unseal import Opener

RUN = run_start()
OPENER = opener_for(RUN)
KEY_DOCUMENT = RUN.key_documents[0].content
MAP = RUN.seal_document({"files": []}, kind="map", identity=GATEWAY)
PACKAGE = Path(jose.__file__).parent


def document_open(content: bytes, *, kind: str = "map", jwk=GATEWAY_JWK, opener: Opener = OPENER):
    return opener.open_document(content, kind=kind, gateway_jwk=jwk)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(document=st.dictionaries(st.text(st.characters(codec="utf-8")), JSON_VALUES, max_size=4))
def test_any_document_comes_back(document):
    for kind in framing.DOCUMENT_KINDS:
        assert document_open(RUN.seal_document(document, kind=kind, identity=GATEWAY), kind=kind) == document


def test_c21_documents_of_one_bucket_have_one_size():
    sizes = {len(RUN.seal_document({"x": "a" * n}, kind="map", identity=GATEWAY)) for n in range(0, 1800, 60)}
    assert len(sizes) == 1
    larger = len(RUN.seal_document({"x": "a" * 4000}, kind="map", identity=GATEWAY))
    assert 1.9 < larger / sizes.pop() < 2.1


@pytest.mark.parametrize(
    ("size", "bucket"), [(0, 4096), (4096, 4096), (4097, 8192), (2**27 - 1, 2**27), (2**27, 2**27)]
)
def test_c21_buckets_are_powers_of_two(size, bucket):
    assert framing.document_bucket(size) == bucket


def test_document_beyond_the_largest_bucket_is_refused():
    assert refusal(framing.document_bucket, 2**27 + 1) == "too-large"


@pytest.mark.parametrize(
    ("document", "kind", "code"),
    [
        ({"x": float("nan")}, "map", "document-invalid"),
        ({"x": b"octets"}, "map", "document-invalid"),
        ({"x": "\ud800"}, "map", "document-invalid"),
        ({}, "other", "document-invalid"),
        ({}, "map", ""),
    ],
)
def test_only_json_of_a_known_kind_is_sealed(document, kind, code):
    assert refusal(RUN.seal_document, document, kind=kind, identity=GATEWAY) == code


def test_same_document_never_looks_the_same():
    contents = [RUN.seal_document({"files": []}, kind="map", identity=GATEWAY) for _ in range(10)]
    assert len({content.split(b".")[3][:40] for content in contents}) == 10


def test_every_part_of_a_document_is_authenticated():
    dots = [position for position, octet in enumerate(MAP) if octet == ord(".")]
    for position in [*range(0, len(MAP), 53), *dots, len(MAP) - 2]:
        changed = bytearray(MAP)
        changed[position] = ord("A") if changed[position] != ord("A") else ord("B")
        assert refusal(document_open, bytes(changed)) != "", position


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"alg": "none"}, "algorithm-refused"),
        ({"alg": "A256KW"}, "algorithm-refused"),
        ({"enc": "A128CBC-HS256"}, "algorithm-refused"),
        ({"zip": "DEF"}, "algorithm-refused"),
        ({"crit": ["exp"]}, "algorithm-refused"),
        ({"salt": None}, "algorithm-refused"),
        ({"typ": "gve1-info"}, "type-mismatch"),
        ({"kid": "ab" * 16}, "key-unknown"),
        ({"kid": 7}, "key-unknown"),
        ({"kid": ["ab"]}, "key-unknown"),
        ({"salt": "AAAA"}, "encoding-invalid"),
        ({"salt": base64url_encode(bytes(32))}, "authentication-failed"),
    ],
)
def test_document_under_another_header_is_refused(members, code):
    assert refusal(document_open, header_changed(MAP, **members)) == code


def test_document_does_not_pass_as_another_kind():
    assert refusal(document_open, MAP, kind="info") == "type-mismatch"
    assert refusal(document_open, header_changed(MAP, typ="gve1-info"), kind="info") == "authentication-failed"


def test_document_signed_by_a_stranger_is_refused():
    forged = RUN.seal_document({"files": []}, kind="map", identity=STRANGER)
    assert refusal(document_open, forged) == "signer-unknown"


def sealed_by_hand(run: SealingRun, token: bytes, *, encrypted_key: bytes = b"", kind: str = "map") -> bytes:
    salt = bytes(range(32))
    header = {
        "alg": "dir",
        "enc": "A256CBC-HS512",
        "kid": run.run_id,
        "salt": base64url_encode(salt),
        "typ": f"gve1-{kind}",
    }
    key = framing.document_key(run._session_key, salt=salt, kind=kind, run_id=run.run_id)
    return jose.jwe_compact(token, header=header, encrypted_key=encrypted_key, key=key)


def signed_payload(**changes) -> bytes:
    members = {
        "document": {"files": []},
        "gateway_id": RUN.gateway_id,
        "kind": "map",
        "run_id": RUN.run_id,
        "upload_id": RUN.upload_id,
        "vault_id": RUN.vault_id,
        "version": 1,
        **changes,
    }
    return jose.jws_sign(canonical_json(members), GATEWAY, typ="gve1-map").encode()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"run_id": "ab" * 16}, "document-mismatch"),
        ({"upload_id": "ab" * 16}, "document-mismatch"),
        ({"gateway_id": "gateway-2"}, "document-mismatch"),
        ({"vault_id": "vault-2"}, "document-mismatch"),
        ({"kind": "info"}, "document-mismatch"),
        ({"document": []}, "document-mismatch"),
        ({"version": 2}, "encoding-invalid"),
        ({"version": True}, "encoding-invalid"),
        ({"more": 1}, "encoding-invalid"),
    ],
)
def test_c19_document_signed_for_another_place_is_refused(changes, code):
    content = sealed_by_hand(RUN, signed_payload(**changes).ljust(4096))
    assert refusal(document_open, content) == code


@pytest.mark.parametrize(
    ("token", "encrypted_key", "code"),
    [
        (signed_payload(), b"", "document-mismatch"),
        (signed_payload().ljust(8192), b"", "document-mismatch"),
        (signed_payload().ljust(4096, b"\x00"), b"", "encoding-invalid"),
        (signed_payload().ljust(4096), b"key", "algorithm-refused"),
        (b" " * 4096, b"", "encoding-invalid"),
    ],
)
def test_document_with_other_padding_or_key_is_refused(token, encrypted_key, code):
    assert refusal(document_open, sealed_by_hand(RUN, token, encrypted_key=encrypted_key)) == code


def test_oversized_inputs_are_refused_by_their_size():
    assert refusal(document_open, b"." * 200_000_000) == "too-large"
    assert refusal(OPENER.add_key, b"A" * 20_000) == "too-large"
    assert refusal(jose.jws_verify, "A" * 101, GATEWAY_JWK, typ="x", size_bytes_max=100) == "too-large"
    assert refusal(jose.jws_verify, "A" * 5000 + "..", GATEWAY_JWK, typ="x") == "too-large"


# Key documents


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({}, ""),
        ({"alg": "ECDH-ES"}, "algorithm-refused"),
        ({"enc": "A256GCM"}, "algorithm-refused"),
        ({"zip": "DEF"}, "algorithm-refused"),
        ({"apu": None}, "algorithm-refused"),
        ({"apu": 5}, "encoding-invalid"),
        ({"typ": "gve1-map"}, "type-mismatch"),
        ({"kid": thumbprint(jwk_from_key(STRANGER))}, "not-for-this-key"),
        ({"apu": base64url_encode(b"gateway-2")}, "authentication-failed"),
        ({"apv": base64url_encode(b"vault-2")}, "authentication-failed"),
        ({"epk": jwk_from_key(STRANGER)}, "authentication-failed"),
        ({"epk": "point"}, "key-invalid"),
        ({"epk": {**jwk_from_key(STRANGER), "crv": "P-256"}}, "key-invalid"),
        ({"epk": {**jwk_from_key(STRANGER), "x": "A" * 88}}, "key-invalid"),
        ({"epk": {**jwk_from_key(STRANGER), "alg": "x"}}, "encoding-invalid"),
    ],
)
def test_key_document_under_another_header_is_refused(members, code):
    assert refusal(Opener(RECIPIENT).add_key, header_changed(KEY_DOCUMENT, **members)) == code


def test_every_part_of_a_key_document_is_authenticated():
    for position in range(0, len(KEY_DOCUMENT), 3):
        changed = bytearray(KEY_DOCUMENT)
        changed[position] = ord("A") if changed[position] != ord("A") else ord("B")
        assert refusal(Opener(RECIPIENT).add_key, bytes(changed)) != "", position


def test_key_document_may_be_added_twice_but_not_replaced():
    assert OPENER.add_key(KEY_DOCUMENT) == OPENER.add_key(KEY_DOCUMENT) == RUN.run_id
    other = run_start(upload_id=RUN.upload_id)
    recipient = jwk_from_key(RECIPIENT)
    members = {
        "run_id": RUN.run_id,
        "session_key": base64url_encode(bytes(32)),
        "upload_id": RUN.upload_id,
        "version": 1,
    }
    forged = key_document_by_hand(canonical_json(members), recipient)
    assert refusal(OPENER.add_key, forged) == "run-conflict"
    assert OPENER.add_key(other.key_documents[0].content) == other.run_id


def key_document_by_hand(plaintext: bytes, recipient) -> bytes:
    from uploads.envelope.seal import _key_document

    return _key_document(plaintext, recipient, gateway_id="gateway-1", vault_id="vault-1")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"session_key": base64url_encode(bytes(31))}, "encoding-invalid"),
        ({"session_key": None}, "encoding-invalid"),
        ({"upload_id": "1.2.840.10008.1"}, "identifier-invalid"),
        ({"run_id": 5}, "identifier-invalid"),
        ({"version": 2}, "encoding-invalid"),
        ({"more": 1}, "encoding-invalid"),
    ],
)
def test_content_of_a_key_document_is_checked(changes, code):
    members = {"run_id": "ab" * 16, "session_key": base64url_encode(bytes(32)), "upload_id": "cd" * 16, "version": 1}
    content = key_document_by_hand(canonical_json({**members, **changes}), jwk_from_key(RECIPIENT))
    assert refusal(Opener(RECIPIENT).add_key, content) == code


def test_runs_have_keys_of_their_own():
    """Ephemeral key, wrapped key, session key and run id are fresh in each run, even for one upload."""
    runs = [run_start(upload_id="ab" * 16) for _ in range(5)]
    assert len({run._session_key for run in runs}) == len({run.run_id for run in runs}) == 5
    headers = [json.loads(base64url_decode(run.key_documents[0].content.split(b".")[0])) for run in runs]
    assert len({header["epk"]["x"] for header in headers}) == 5


@pytest.mark.parametrize(("iv", "ciphertext"), [(bytes(12), bytes(16)), (bytes(16), b""), (bytes(16), bytes(15))])
def test_lengths_that_the_cipher_cannot_take_are_refused(iv, ciphertext):
    from uploads.envelope.unseal import _aead_decrypt

    tag = aead.aead_tag(ciphertext, key=bytes(64), iv=iv, aad=b"")
    assert refusal(_aead_decrypt, ciphertext, tag, key=bytes(64), iv=iv, aad=b"") == "authentication-failed"


def test_wrapped_key_of_another_length_is_refused():
    """A right wrap around 32 octets: the content key of A256CBC-HS512 has 64."""
    header = json.loads(base64url_decode(KEY_DOCUMENT.split(b".")[0]))
    agreed = {"apu": b"gateway-1", "apv": b"vault-1"}
    wrapping_key = jose.key_agree(RECIPIENT, header["epk"], **agreed)
    parts = KEY_DOCUMENT.split(b".")
    parts[1] = base64url_encode(aes_key_wrap(wrapping_key, bytes(32))).encode()
    tag = aead.aead_tag(base64url_decode(parts[3]), key=bytes(32), iv=base64url_decode(parts[2]), aad=parts[0])
    parts[4] = base64url_encode(tag).encode()
    assert refusal(Opener(RECIPIENT).add_key, b".".join(parts)) == "authentication-failed"


def test_padding_is_checked_after_the_tag():
    from uploads.envelope.unseal import _aead_decrypt

    key, iv = bytes(64), bytes(16)
    for plaintext in (bytes(16), bytes(15) + b"\x11", bytes(14) + b"\x01\x02"):
        ciphertext, tag = aead.aead_encrypt(plaintext, key=key, iv=iv, aad=b"")
        assert refusal(_aead_decrypt, ciphertext, tag, key=key, iv=iv, aad=b"") == "content-corrupt"
        assert refusal(_aead_decrypt, ciphertext, tag[:31], key=key, iv=iv, aad=b"") == "authentication-failed"


# The package


def test_only_unseal_can_decrypt_and_nothing_imports_it():
    """What the gateway's process loads holds no code that opens anything."""
    program = (
        "import sys, uploads.envelope.seal, uploads.envelope.receipt, uploads.envelope.keys, uploads.envelope.jose;"
        "sys.exit('uploads.envelope.unseal' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parents[1], check=False).returncode == 0
    for module in PACKAGE.glob("*.py"):
        text = module.read_text(encoding="utf-8")
        assert module.name == "unseal.py" or not {"decryptor", "aes_key_unwrap"} & names_in(text), module


def names_in(source: str) -> set[str]:
    tree = ast.parse(source)
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    aliases = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import) for alias in node.names
    }
    return attributes | aliases


def test_every_code_that_is_raised_is_known_and_has_advice():
    raised = set()
    for module in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "EnvelopeError":
                raised.add(node.args[0].value)
    assert raised == set(error_codes())
    for code in raised:
        error = EnvelopeError(code)
        assert error.permanent == (code != "key-unknown")
        assert str(error).endswith(f". [{code}]")
