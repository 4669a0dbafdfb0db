"""Signed tokens, base64url and JSON: one accepted form each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.uploads.envelope_support import GATEWAY, GATEWAY_JWK, STRANGER, VAULT, header_changed, refusal
from uploads.envelope import jose
from uploads.envelope.encoding import base64url_decode, base64url_encode, json_object
from uploads.envelope.keys import jwk_from_key, thumbprint

TOKEN = jose.jws_sign(b"payload", GATEWAY, typ="gve1-test")


def test_signing_needs_no_randomness():
    assert jose.jws_sign(b"payload", GATEWAY, typ="gve1-test") == TOKEN
    assert jose.jws_verify(TOKEN.encode(), GATEWAY_JWK, typ="gve1-test") == b"payload"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (header_changed(TOKEN, alg="none"), "algorithm-refused"),
        (header_changed(TOKEN, alg="HS512"), "algorithm-refused"),
        (header_changed(TOKEN, jwk=jwk_from_key(STRANGER)), "algorithm-refused"),
        (header_changed(TOKEN, crit=["b64"], b64=False), "algorithm-refused"),
        (header_changed(TOKEN, kid=None), "algorithm-refused"),
        (header_changed(TOKEN, typ="gve1-commit"), "type-mismatch"),
        (header_changed(TOKEN, kid="x"), "signer-unknown"),
        (TOKEN.replace(".", ".AAAA", 1), "signature-invalid"),
        (TOKEN.rsplit(".", 1)[0] + ".", "signature-invalid"),
        (TOKEN.rsplit(".", 1)[0] + "." + "A" * 176, "signature-invalid"),
        (TOKEN.rsplit(".", 1)[0], "encoding-invalid"),
        (TOKEN + ".AAAA", "encoding-invalid"),
        (TOKEN + "=", "encoding-invalid"),
        (TOKEN + "\n", "encoding-invalid"),
        ("", "encoding-invalid"),
        ("\u00fc.\u00fc.\u00fc", "encoding-invalid"),
        ("W10.W10.W10", "encoding-invalid"),
    ],
)
def test_tokens_of_any_other_form_are_refused(token, code):
    assert refusal(jose.jws_verify, token, GATEWAY_JWK, typ="gve1-test") == code


def test_signature_is_132_octets_and_no_more():
    """A zero octet before s would leave its value as it is."""
    signing_input, signature = TOKEN.rsplit(".", 1)
    octets = base64url_decode(signature)
    assert refusal(jose.signature_check, signing_input.encode(), octets, GATEWAY_JWK) == ""
    longer = octets[:66] + b"\x00" + octets[66:]
    assert refusal(jose.signature_check, signing_input.encode(), longer, GATEWAY_JWK) == "signature-invalid"


def test_token_of_another_signer_is_refused_even_under_the_pinned_name():
    forged = header_changed(jose.jws_sign(b"payload", VAULT, typ="gve1-test"), kid=thumbprint(GATEWAY_JWK))
    assert refusal(jose.jws_verify, forged, GATEWAY_JWK, typ="gve1-test") == "signature-invalid"


@given(data=st.binary(max_size=40))
def test_base64url_has_one_spelling(data):
    text = base64url_encode(data)
    assert base64url_decode(text) == data
    for other in (text + "=", text + "\n", text + "A" * (5 - len(text) % 4), " " + text):
        assert refusal(base64url_decode, other) == "encoding-invalid"


@pytest.mark.parametrize("text", ["AB", "AAB", "AA+A", "AA/A", "A A ", "AA\u00e4A", "AA.A"])
def test_base64url_that_others_would_tolerate_is_refused(text):
    assert refusal(base64url_decode, text) == "encoding-invalid"


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b"[1]",
        b"\xff",
        b"",
        b'{"a":' * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_json_that_readers_disagree_about_is_refused(data):
    assert refusal(json_object, data) == "encoding-invalid"
