"""P-521 keys: made, named, pinned and kept on disk."""

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from uploads.envelope import randomness
from uploads.envelope.encoding import base64url_decode, base64url_encode, canonical_json
from uploads.envelope.errors import EnvelopeError

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

COORDINATE_BYTES = 66
"""521 bits, always written in full with leading zero octets (RFC 7518 6.2.1.2)."""
KEY_ID = re.compile(r"[A-Za-z0-9_-]{43}")
"""A thumbprint; see `thumbprint`."""
_COORDINATE_CHARACTERS = 88
_JWK_MEMBERS_MAX = 32
_KEY_FILE_BYTES_MAX = 16 * 1024
_ORDER = ec.SECP521R1().group_order


def key_generate() -> PrivateKey:
    """A new private key on P-521, from kernel randomness alone (FIPS 186-5 A.2.2, rejection sampling)."""
    while True:
        scalar = int.from_bytes(randomness.random_bytes(COORDINATE_BYTES), "big") & ((1 << 521) - 1)
        if 0 < scalar < _ORDER:
            return ec.derive_private_key(scalar, ec.SECP521R1())


def jwk_from_key(key: PrivateKey | PublicKey) -> dict[str, str]:
    """The public JWK of a key, and never its private part (RFC 7517 4, RFC 7518 6.2.1)."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    if not isinstance(public.curve, ec.SECP521R1):
        raise EnvelopeError("key-invalid")
    numbers = public.public_numbers()
    return {
        "kty": "EC",
        "crv": "P-521",
        "x": base64url_encode(numbers.x.to_bytes(COORDINATE_BYTES, "big")),
        "y": base64url_encode(numbers.y.to_bytes(COORDINATE_BYTES, "big")),
    }


def key_from_jwk(jwk: Mapping[str, object]) -> PublicKey:
    """The public key of a JWK, a point proved to lie on P-521; bounded work whatever is given.

    Members other than kty, crv, x, y are ignored, but a private key (`d`) is `key-private`; else `key-invalid`.
    """
    if len(jwk) > _JWK_MEMBERS_MAX or jwk.get("kty") != "EC" or jwk.get("crv") != "P-521":
        raise EnvelopeError("key-invalid")
    if "d" in jwk:
        raise EnvelopeError("key-private")
    try:
        return ec.EllipticCurvePublicNumbers(
            _coordinate(jwk.get("x")), _coordinate(jwk.get("y")), ec.SECP521R1()
        ).public_key()
    except ValueError as error:
        raise EnvelopeError("key-invalid") from error


def thumbprint(jwk: Mapping[str, object]) -> str:
    """The key's id (`kid`): RFC 7638 with SHA-256, base64url, 43 characters. Raises as `key_from_jwk` does."""
    return base64url_encode(_thumbprint_octets(jwk))


def fingerprint(jwk: Mapping[str, object]) -> str:
    """The same digest for people to compare: 64 hexadecimal digits in groups of four."""
    digits = _thumbprint_octets(jwk).hex()
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def fingerprint_matches(expected: str, jwk: Mapping[str, object]) -> bool:
    """Whether a person's fingerprint is this key's, however it was grouped, separated or capitalised."""
    typed = "".join(expected.split()).replace(":", "").replace("-", "").lower()
    return hmac.compare_digest(typed.encode(), _thumbprint_octets(jwk).hex().encode())


def private_key_write(path: Path, key: PrivateKey) -> None:
    """After return the key survives a power cut under `path`, mode 0600; an existing file is never touched.

    PEM, PKCS #8, unencrypted (RFC 5958). Written and synced under a temporary name and then linked, so that a crash
    leaves either no file of that name or a whole one (and perhaps an unused `.<name>.<random>.tmp`).
    Raises `key-file-exists`, `key-invalid`, or OSError from the file system.
    """
    jwk_from_key(key)  # refuses other curves
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    temporary = path.with_name(f".{path.name}.{randomness.random_bytes(8).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError as error:
        raise EnvelopeError("key-file-exists") from error
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def private_key_read(path: Path) -> PrivateKey:
    """The P-521 key in `path`, only from a regular file that group and others have no right to.

    Raises `key-file-exposed`, `key-file-invalid`, or OSError (FileNotFoundError where there is none; ELOOP for a link).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _KEY_FILE_BYTES_MAX:
            raise EnvelopeError("key-file-invalid")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise EnvelopeError("key-file-exposed")
        pem = file.read(_KEY_FILE_BYTES_MAX)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EnvelopeError("key-file-invalid") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP521R1):
        raise EnvelopeError("key-file-invalid")
    return key


def _coordinate(value: object) -> int:
    if not isinstance(value, str) or len(value) != _COORDINATE_CHARACTERS:
        raise EnvelopeError("key-invalid")
    try:
        return int.from_bytes(base64url_decode(value), "big")
    except EnvelopeError as error:
        raise EnvelopeError("key-invalid") from error


def _thumbprint_octets(jwk: Mapping[str, object]) -> bytes:
    members: Mapping[str, object] = {**jwk_from_key(key_from_jwk(jwk))}
    return hashlib.sha256(canonical_json(members)).digest()
