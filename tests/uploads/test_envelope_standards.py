"""The building blocks against the vectors of their standards, and whole objects against joserfc."""

import hashlib
import json
import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from joserfc import jwe, jws
from joserfc.jwe import JWERegistry
from joserfc.jwk import ECKey, OctKey
from joserfc.registry import HeaderParameter

from tests.uploads.envelope_support import GATEWAY, GATEWAY_JWK, RECIPIENT, opener_for, refusal, run_start
from uploads.envelope import aead, framing, jose
from uploads.envelope.encoding import base64url_decode, base64url_encode, canonical_json
from uploads.envelope.keys import jwk_from_key, thumbprint
from uploads.envelope.unseal import Opener, _aead_decrypt

REGISTRY = JWERegistry(
    header_registry={"salt": HeaderParameter("HKDF salt", "str")},
    algorithms=["ECDH-ES+A256KW", "dir", "A256CBC-HS512"],
)


def ec_key(private) -> ECKey:
    d = base64url_encode(private.private_numbers().private_value.to_bytes(66, "big"))
    return ECKey.import_key({**jwk_from_key(private), "d": d})


def test_a256cbc_hs512_gives_rfc_7518_b3():
    key = bytes(range(64))
    plaintext = (
        b"A cipher system must not be required to be secret, and it must be able to fall into the hands of the enemy "
        b"without inconvenience"
    )
    iv = bytes.fromhex("1af38c2dc2b96ffdd86694092341bc04")
    aad = b"The second principle of Auguste Kerckhoffs"
    ciphertext, tag = aead.aead_encrypt(plaintext + aead.padding(len(plaintext)), key=key, iv=iv, aad=aad)
    assert ciphertext.hex() == (
        "4affaaadb78c31c5da4b1b590d10ffbd3dd8d5d302423526912da037ecbcc7bd822c301dd67c373bccb584ad3e9279c2"
        "e6d12a1374b77f077553df829410446b36ebd97066296ae6427ea75c2e0846a11a09ccf5370dc80bfecbad28c73f09b3"
        "a3b75e662a2594410ae496b2e2e6609e31e6e02cc837f053d21f37ff4f51950bbe2638d09dd7a4930930806d0703b1f6"
    )
    assert tag.hex() == "4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5"
    assert _aead_decrypt(ciphertext, tag, key=key, iv=iv, aad=aad) == plaintext


def test_key_wrap_gives_rfc_3394_4_6():
    wrapped = aes_key_wrap(bytes(range(32)), bytes.fromhex("00112233445566778899aabbccddeeff") + bytes(range(16)))
    assert wrapped.hex() == "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"


def test_concat_kdf_gives_rfc_7518_appendix_c():
    d = int.from_bytes(base64url_decode("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo"), "big")
    x, y = (
        int.from_bytes(base64url_decode(text), "big")
        for text in ("weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ", "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck")
    )
    curve = ec.SECP256R1()
    bob = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    shared = ec.derive_private_key(d, curve).exchange(ec.ECDH(), bob)
    derived = jose.concat_kdf(shared, algorithm="A128GCM", apu=b"Alice", apv=b"Bob", size_bytes=16)
    assert base64url_encode(derived) == "VqqN6vgjbSBcIijNcacQGg"


def test_file_key_is_hkdf_of_rfc_5869_written_out():
    session_key, salt, hashed = b"\x0b" * 32, bytes(range(32)), b"\xf0" * 64
    extracted = hashlib_hmac(salt, session_key)
    expanded = hashlib_hmac(extracted, b"GVE1 file\x00" + hashed + b"\x01")
    assert framing.file_key(session_key, salt=salt, hashed_header=hashed) == expanded


def hashlib_hmac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-512 from its definition (RFC 2104 2), to lean on nothing that the code under test uses."""
    block = key.ljust(128, b"\x00")
    inner = hashlib.sha512(bytes(octet ^ 0x36 for octet in block) + message).digest()
    return hashlib.sha512(bytes(octet ^ 0x5C for octet in block) + inner).digest()


def test_thumbprint_building_blocks_give_rfc_7638_3_1():
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    digest = hashlib.sha256(canonical_json({"kty": "RSA", "n": modulus, "e": "AQAB"})).digest()
    assert base64url_encode(digest) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_thumbprint_is_the_one_joserfc_computes():
    assert thumbprint(jwk_from_key(RECIPIENT)) == ec_key(RECIPIENT).thumbprint()


RFC_7515_A4_JWK = {
    "kty": "EC",
    "crv": "P-521",
    "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
    "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
}
RFC_7515_A4_SIGNATURE = (
    "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZC"
    "PEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
)


@pytest.mark.parametrize(
    ("signing_input", "code"),
    [(b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA", ""), (b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZB", "signature-invalid")],
)
def test_es512_verifies_rfc_7515_a4_and_nothing_else(signing_input, code):
    signature = base64url_decode(RFC_7515_A4_SIGNATURE)
    assert refusal(jose.signature_check, signing_input, signature, RFC_7515_A4_JWK) == code


def test_joserfc_verifies_our_jws():
    token = jose.jws_sign(b"payload", GATEWAY, typ="gve1-test")
    opened = jws.deserialize_compact(token, ec_key(GATEWAY), algorithms=["ES512"])
    assert opened.payload == b"payload"
    assert opened.protected == {"alg": "ES512", "typ": "gve1-test", "kid": thumbprint(GATEWAY_JWK)}


def test_we_verify_the_jws_of_joserfc():
    header = {"alg": "ES512", "typ": "gve1-test", "kid": thumbprint(GATEWAY_JWK)}
    token = jws.serialize_compact(header, b"payload", ec_key(GATEWAY), algorithms=["ES512"])
    assert jose.jws_verify(token, GATEWAY_JWK, typ="gve1-test") == b"payload"


def test_joserfc_opens_our_key_document():
    run = run_start()
    opened = jwe.decrypt_compact(run.key_documents[0].content, ec_key(RECIPIENT), registry=REGISTRY)
    members = json.loads(opened.plaintext)
    assert (members["run_id"], members["upload_id"]) == (run.run_id, run.upload_id)
    assert base64url_decode(members["session_key"]) == run._session_key


def test_we_open_the_key_document_of_joserfc():
    run_id, upload_id = "ab" * 16, "cd" * 16
    header = {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256CBC-HS512",
        "typ": "gve1-key",
        "kid": thumbprint(jwk_from_key(RECIPIENT)),
        "apu": base64url_encode(b"gateway-1"),
        "apv": base64url_encode(b"vault-1"),
    }
    members = {"version": 1, "session_key": base64url_encode(bytes(32)), "run_id": run_id, "upload_id": upload_id}
    content = jwe.encrypt_compact(header, json.dumps(members), ec_key(RECIPIENT), registry=REGISTRY)
    opener = Opener(RECIPIENT)
    assert opener.add_key(content.encode()) == run_id
    assert opener.run(run_id).upload_id == upload_id


def document_oct_key(run, salt: str) -> OctKey:
    key = framing.document_key(run._session_key, salt=base64url_decode(salt), kind="map", run_id=run.run_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return OctKey.import_key(key)


def test_joserfc_opens_and_verifies_our_document():
    run = run_start()
    content = run.seal_document({"studies": 1}, kind="map", identity=GATEWAY)
    salt = json.loads(base64url_decode(content.split(b".")[0]))["salt"]
    padded = jwe.decrypt_compact(content, document_oct_key(run, salt), registry=REGISTRY).plaintext
    payload = jws.deserialize_compact(padded.rstrip(b" "), ec_key(GATEWAY), algorithms=["ES512"]).payload
    assert json.loads(payload)["document"] == {"studies": 1}


def test_we_open_the_document_of_joserfc():
    run = run_start()
    salt = base64url_encode(bytes(range(32)))
    members = {"gateway_id": "gateway-1", "vault_id": "vault-1", "run_id": run.run_id, "upload_id": run.upload_id}
    payload = json.dumps({**members, "kind": "map", "version": 1, "document": {"studies": 1}}).encode()
    signed = {"alg": "ES512", "typ": "gve1-map", "kid": thumbprint(GATEWAY_JWK)}
    token = jws.serialize_compact(signed, payload, ec_key(GATEWAY), algorithms=["ES512"])
    header = {"alg": "dir", "enc": "A256CBC-HS512", "typ": "gve1-map", "kid": run.run_id, "salt": salt}
    content = jwe.encrypt_compact(header, token.ljust(4096), document_oct_key(run, salt), registry=REGISTRY)
    assert opener_for(run).open_document(content.encode(), kind="map", gateway_jwk=GATEWAY_JWK) == {"studies": 1}
