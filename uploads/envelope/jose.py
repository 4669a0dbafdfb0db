"""Signatures and the sealing half of encryption in compact JOSE form, with one fixed algorithm for each purpose."""

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from uploads.envelope import aead, randomness
from uploads.envelope.encoding import base64url_decode, base64url_encode, canonical_json, json_object, members_exactly
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import COORDINATE_BYTES, PrivateKey, jwk_from_key, key_from_jwk, thumbprint

HEADER_CHARACTERS_MAX = 4096
JWS_BYTES_MAX = 128 * 1024 * 1024
KEY_ALGORITHM = "ECDH-ES+A256KW"
CONTENT_ALGORITHM = "A256CBC-HS512"
SIGNATURE_ALGORITHM = "ES512"


def jws_sign(payload: bytes, key: PrivateKey, *, typ: str) -> str:
    """A compact JWS (RFC 7515 7.1) by ES512 (RFC 7518 3.4); `kid` is the signer's thumbprint.

    The same input gives the same token (RFC 6979), so signing needs no randomness and may be repeated.
    """
    header = {"alg": SIGNATURE_ALGORITHM, "kid": thumbprint(_public(key)), "typ": typ}
    signing_input = f"{base64url_encode(canonical_json(header))}.{base64url_encode(payload)}"
    der = key.sign(signing_input.encode("ascii"), ec.ECDSA(hashes.SHA512(), deterministic_signing=True))
    r, s = decode_dss_signature(der)
    signature = r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")
    return f"{signing_input}.{base64url_encode(signature)}"


def jws_verify(
    token: str | bytes, jwk: Mapping[str, object], *, typ: str, size_bytes_max: int = JWS_BYTES_MAX
) -> bytes:
    """The payload that the holder of the pinned key signed under exactly this `typ`; nothing is returned otherwise.

    Raises `too-large`, `encoding-invalid`, `algorithm-refused` (anything but ES512, or header members other than
    alg, kid, typ), `type-mismatch`, `signer-unknown`, `signature-invalid`, or as `key_from_jwk`.
    """
    if len(token) > size_bytes_max:
        raise EnvelopeError("too-large")
    raw = token.encode("ascii", "replace") if isinstance(token, str) else token
    parts = raw.split(b".", 3)
    if len(parts) != 3:
        raise EnvelopeError("encoding-invalid")
    header = protected_header(parts[0])
    if set(header) != {"alg", "kid", "typ"} or header["alg"] != SIGNATURE_ALGORITHM:
        raise EnvelopeError("algorithm-refused")
    if header["typ"] != typ:
        raise EnvelopeError("type-mismatch")
    if header["kid"] != thumbprint(jwk):
        raise EnvelopeError("signer-unknown")
    signature_check(raw[: len(parts[0]) + 1 + len(parts[1])], base64url_decode(parts[2]), jwk)
    return base64url_decode(parts[1])


def signer_claimed(token: str) -> str:
    """The `kid` that a compact JWS names, unverified: to choose among keys that are trusted already. "" for none."""
    try:
        kid = protected_header(token.partition(".")[0].encode("ascii", "replace")).get("kid")
    except EnvelopeError:
        return ""
    return kid if isinstance(kid, str) else ""


def signature_check(signing_input: bytes, signature: bytes, jwk: Mapping[str, object]) -> None:
    """Returns only when the 132-octet ES512 signature (RFC 7518 3.4) is good; else `signature-invalid`."""
    if len(signature) != 2 * COORDINATE_BYTES:
        raise EnvelopeError("signature-invalid")
    r, s = (int.from_bytes(half, "big") for half in (signature[:COORDINATE_BYTES], signature[COORDINATE_BYTES:]))
    try:
        key_from_jwk(jwk).verify(encode_dss_signature(r, s), signing_input, ec.ECDSA(hashes.SHA512()))
    except InvalidSignature as error:
        raise EnvelopeError("signature-invalid") from error


def protected_header(part: bytes) -> dict[str, object]:
    """The JSON object of a protected header, bounded to 4,096 characters; which members may be there is not judged."""
    if len(part) > HEADER_CHARACTERS_MAX:
        raise EnvelopeError("too-large")
    return json_object(base64url_decode(part))


def jwe_compact(plaintext: bytes, *, header: Mapping[str, object], encrypted_key: bytes, key: bytes) -> bytes:
    """A compact JWE (RFC 7516 7.1) with content encrypted under the 64-octet `key` by A256CBC-HS512."""
    protected = base64url_encode(canonical_json(header))
    iv = randomness.random_bytes(aead.IV_BYTES)
    padded = plaintext + aead.padding(len(plaintext))
    ciphertext, tag = aead.aead_encrypt(padded, key=key, iv=iv, aad=protected.encode("ascii"))
    parts = (base64url_encode(encrypted_key), base64url_encode(iv), base64url_encode(ciphertext), base64url_encode(tag))
    return ".".join((protected, *parts)).encode("ascii")


def jwe_split(content: bytes, *members: str) -> tuple[bytes, dict[str, object], list[bytes]]:
    """Protected header as sent, the same parsed, and key, IV, ciphertext and tag decoded; nothing is decrypted.

    The header holds exactly the named members and `enc` is A256CBC-HS512, else `algorithm-refused`.
    """
    parts = content.split(b".", 5)
    if len(parts) != 5:
        raise EnvelopeError("encoding-invalid")
    header = protected_header(parts[0])
    if set(header) != set(members) or header.get("enc") != CONTENT_ALGORITHM:
        raise EnvelopeError("algorithm-refused")
    return parts[0], header, [base64url_decode(part) for part in parts[1:]]


def epk_parse(value: object) -> dict[str, object]:
    """The sender's ephemeral public JWK: exactly kty, crv, x, y (RFC 7518 4.6.1.1), on the curve."""
    if not isinstance(value, dict):
        raise EnvelopeError("key-invalid")
    members_exactly(value, "kty", "crv", "x", "y")
    return value


def key_agree(private: PrivateKey, peer: Mapping[str, object], *, apu: bytes, apv: bytes) -> bytes:
    """The 32-octet key-wrapping key of `ECDH-ES+A256KW` (RFC 7518 4.6.2); both sides compute the same."""
    shared = private.exchange(ec.ECDH(), key_from_jwk(peer))
    return concat_kdf(shared, algorithm=KEY_ALGORITHM, apu=apu, apv=apv, size_bytes=32)


def concat_kdf(shared: bytes, *, algorithm: str, apu: bytes, apv: bytes, size_bytes: int) -> bytes:
    """The Concat KDF with SHA-256 over Z, which keeps its leading zero octets (RFC 7518 4.6.2, SP 800-56A 5.8.1)."""
    fields = (algorithm.encode("ascii"), apu, apv)
    prefixed = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    other_info = prefixed + (size_bytes * 8).to_bytes(4, "big")
    return ConcatKDFHash(hashes.SHA256(), length=size_bytes, otherinfo=other_info).derive(shared)


def _public(key: PrivateKey) -> Mapping[str, object]:
    return {**jwk_from_key(key)}
