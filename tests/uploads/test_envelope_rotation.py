"""The recipient's statement: exactly what is signed, by exactly whose key, and nothing that is not listed."""

import dataclasses
import json

import pytest

from uploads.envelope.encoding import canonical_json
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import jws_sign
from uploads.envelope.keys import jwk_from_key, key_generate, thumbprint
from uploads.envelope.rotation import ROTATION_TYPE, Rotation, rotation_sign, rotation_verify

SIGNING, OLD, NEW = key_generate(), key_generate(), key_generate()
JWK = {**jwk_from_key(SIGNING)}
ROTATION = Rotation(
    vault_id="vault-01",
    serial=7,
    from_kid=thumbprint({**jwk_from_key(OLD)}),
    recipient_jwk=jwk_from_key(NEW),
    issued_at="2026-03-01T00:00:00Z",
)
MEMBERS: dict[str, object] = {**dataclasses.asdict(ROTATION), "version": 1}


def _signed(members: dict[str, object], typ: str = ROTATION_TYPE) -> str:
    return jws_sign(canonical_json(members), SIGNING, typ=typ)


def _code(token: str) -> str:
    with pytest.raises(EnvelopeError) as raised:
        rotation_verify(token, JWK)
    return raised.value.code


def test_a_statement_says_what_was_signed() -> None:
    token = rotation_sign(ROTATION, signing_key=SIGNING)
    assert rotation_verify(token, JWK) == ROTATION
    assert rotation_verify(token, JWK).to_kid == thumbprint({**jwk_from_key(NEW)})
    assert rotation_sign(ROTATION, signing_key=SIGNING) == token == _signed(MEMBERS)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("serial", 0, "encoding-invalid"),
        ("serial", True, "encoding-invalid"),
        ("serial", 2**53, "encoding-invalid"),
        ("serial", "7", "encoding-invalid"),
        ("version", 2, "encoding-invalid"),
        ("from_kid", "short", "identifier-invalid"),
        ("vault_id", "a b", "identifier-invalid"),
        ("issued_at", "yesterday", "encoding-invalid"),
        ("issued_at", "2026-03-01T00:00:00+02:00", "encoding-invalid"),
        ("recipient_jwk", "x", "encoding-invalid"),
        ("more", 1, "encoding-invalid"),
    ],
)
def test_anything_else_under_a_right_signature_is_refused(name: str, value: object, code: str) -> None:
    changed = {**MEMBERS, name: value}
    assert _code(_signed(changed)) == code
    if name in dataclasses.asdict(ROTATION):
        with pytest.raises((EnvelopeError, AttributeError)):
            rotation_sign(dataclasses.replace(ROTATION, **{name: value}), signing_key=SIGNING)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"d": "AA"}, {"kid": "x"}, {"crv": "P-256"}, {"x": "A" * 88}])
def test_only_a_bare_public_key_of_the_curve_can_follow(change: dict[str, str]) -> None:
    assert _code(_signed({**MEMBERS, "recipient_jwk": {**jwk_from_key(NEW), **change}})).startswith(("key", "encoding"))


def test_another_type_signer_or_size_is_refused() -> None:
    assert _code(_signed(MEMBERS, typ="gve1-receipt")) == "type-mismatch"
    assert _code(rotation_sign(ROTATION, signing_key=OLD)) == "signer-unknown"
    assert _code("x" * 20_000) == "too-large"
    head, payload, signature = _signed(MEMBERS).split(".")
    assert _code(f"{head}.{payload}.{signature[:-8]}AAAAAAAA") == "signature-invalid"
    assert _code(json.dumps(MEMBERS)) == "encoding-invalid"
