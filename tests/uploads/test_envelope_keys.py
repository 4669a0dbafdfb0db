"""Keys: what is accepted as one, and how it is kept."""

import os
import re
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.uploads.envelope_support import RECIPIENT, refusal
from uploads.envelope import keys
from uploads.envelope.keys import (
    fingerprint,
    jwk_from_key,
    key_from_jwk,
    key_generate,
    private_key_read,
    private_key_write,
    thumbprint,
)

JWK = jwk_from_key(RECIPIENT)


def scalar_with_short_coordinates() -> int:
    """A private key whose x begins with two zero octets, so that careless writers would shorten it."""
    scalar = 1
    while True:
        x = ec.derive_private_key(scalar, ec.SECP521R1()).public_key().public_numbers().x
        if x.bit_length() <= 66 * 8 - 16:
            return scalar
        scalar += 1


def test_coordinates_keep_their_leading_zero_octets():
    key = ec.derive_private_key(scalar_with_short_coordinates(), ec.SECP521R1())
    jwk = jwk_from_key(key)
    assert jwk["x"].startswith("AA")
    assert len(jwk["x"]) == len(jwk["y"]) == 88
    assert key_from_jwk(jwk) == key.public_key()


def test_jwk_of_a_private_key_is_public():
    assert set(JWK) == {"kty", "crv", "x", "y"}
    assert jwk_from_key(RECIPIENT.public_key()) == JWK


def test_generated_keys_differ_and_use_the_kernel_only(monkeypatch):
    drawn = []
    original = keys.randomness.random_bytes
    monkeypatch.setattr(keys.randomness, "random_bytes", lambda count: drawn.append(count) or original(count))
    assert key_generate().private_numbers() != key_generate().private_numbers()
    assert drawn == [66, 66]


def test_scalars_outside_the_group_are_drawn_again(monkeypatch):
    order = ec.SECP521R1().group_order
    draws = iter([bytes(66), order.to_bytes(66, "big"), b"\xff" * 66, (7).to_bytes(66, "big")])
    monkeypatch.setattr(keys.randomness, "random_bytes", lambda count: next(draws))
    assert key_generate().private_numbers().private_value == 7


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kty": "RSA"}, "key-invalid"),
        ({"crv": "P-256"}, "key-invalid"),
        ({"x": JWK["x"][:-1]}, "key-invalid"),
        ({"x": JWK["x"] + "AAAA"}, "key-invalid"),
        ({"x": "_" * 88}, "key-invalid"),
        ({"x": "=" * 88}, "key-invalid"),
        ({"x": JWK["y"]}, "key-invalid"),
        ({"x": None}, "key-invalid"),
        ({"x": "A" * 88, "y": "A" * 88}, "key-invalid"),
        ({"d": "AAAA"}, "key-private"),
        ({str(number): number for number in range(40)}, "key-invalid"),
        ({"use": "enc", "kid": "theirs"}, ""),
    ],
)
def test_only_public_points_on_p521_are_keys(change, code):
    assert refusal(key_from_jwk, {**JWK, **change}) == code


def test_fingerprint_is_the_thumbprint_for_people():
    groups = fingerprint(JWK).split(" ")
    assert len(groups) == 16
    assert all(re.fullmatch("[0-9a-f]{4}", group) for group in groups)
    assert keys.base64url_encode(bytes.fromhex("".join(groups))) == thumbprint({**JWK, "kid": "theirs"})


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_key_file_comes_back_and_is_for_its_owner_only(tmp_path, mask):
    previous = os.umask(mask)
    try:
        private_key_write(tmp_path / "identity.pem", RECIPIENT)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "identity.pem").stat().st_mode) == 0o600
    assert private_key_read(tmp_path / "identity.pem").private_numbers() == RECIPIENT.private_numbers()
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity.pem"]


def test_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "identity.pem"
    path.write_bytes(b"precious")
    assert refusal(private_key_write, path, RECIPIENT) == "key-file-exists"
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_s20_exposed_key_file_is_refused(tmp_path, mode):
    private_key_write(tmp_path / "identity.pem", RECIPIENT)
    (tmp_path / "identity.pem").chmod(mode)
    assert refusal(private_key_read, tmp_path / "identity.pem") == "key-file-exposed"


def pem(key, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(RECIPIENT, b"secret"),
        pem(RECIPIENT) + b"\n" * 20_000,
    ],
    ids=["empty", "junk", "other-curve", "encrypted", "too-large"],
)
def test_other_key_files_are_refused(tmp_path, content):
    path = tmp_path / "identity.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    assert refusal(private_key_read, path) == "key-file-invalid"


def test_key_file_is_not_read_through_a_link_or_from_a_pipe(tmp_path):
    private_key_write(tmp_path / "identity.pem", RECIPIENT)
    (tmp_path / "link.pem").symlink_to(tmp_path / "identity.pem")
    with pytest.raises(OSError, match="link"):
        private_key_read(tmp_path / "link.pem")
    os.mkfifo(tmp_path / "pipe.pem", 0o600)
    assert refusal(private_key_read, tmp_path / "pipe.pem") == "key-file-invalid"
    with pytest.raises(FileNotFoundError):
        private_key_read(tmp_path / "absent.pem")
