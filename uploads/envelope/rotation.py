"""A recipient's signed word that another key of its own counts from now on (docs/envelope.md, section 12)."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from uploads.envelope.encoding import (
    PARTY_ID,
    VERSION,
    canonical_json,
    identifier,
    json_object,
    members_exactly,
    version_check,
)
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import jws_sign, jws_verify
from uploads.envelope.keys import KEY_ID, PrivateKey, jwk_from_key, key_from_jwk, thumbprint

ROTATION_TYPE = "gve1-rotation"
STATEMENT_BYTES_MAX = 16 * 1024
SERIAL_MAX = 2**53 - 1


@dataclass(frozen=True)
class Rotation:
    """From the recipient key `from_kid` to `recipient_jwk`, for one vault; a higher `serial` comes later."""

    vault_id: str
    serial: int
    from_kid: str
    recipient_jwk: dict[str, str]
    issued_at: str

    @property
    def to_kid(self) -> str:
        return thumbprint({**self.recipient_jwk})


def rotation_sign(rotation: Rotation, *, signing_key: PrivateKey) -> str:
    """The statement as a compact JWS by the recipient's signing key; only a well-formed one is signed."""
    payload = canonical_json(
        {
            "from_kid": rotation.from_kid,
            "issued_at": rotation.issued_at,
            "recipient_jwk": rotation.recipient_jwk,
            "serial": rotation.serial,
            "vault_id": rotation.vault_id,
            "version": VERSION,
        }
    )
    _rotation_parse(payload)
    return jws_sign(payload, signing_key, typ=ROTATION_TYPE)


def rotation_verify(token: str, jwk: Mapping[str, object]) -> Rotation:
    """The statement that the holder of the pinned signing key made. Whether it fits the pins is the caller's to judge.

    Raises as `jws_verify`, or `encoding-invalid`, `identifier-invalid`, `key-invalid`.
    """
    return _rotation_parse(jws_verify(token.strip(), jwk, typ=ROTATION_TYPE, size_bytes_max=STATEMENT_BYTES_MAX))


def _rotation_parse(payload: bytes) -> Rotation:
    members = json_object(payload)
    members_exactly(members, "from_kid", "issued_at", "recipient_jwk", "serial", "vault_id", "version")
    version_check(members["version"])
    serial, jwk, issued_at = members["serial"], members["recipient_jwk"], members["issued_at"]
    if type(serial) is not int or not 1 <= serial <= SERIAL_MAX or not isinstance(jwk, dict):
        raise EnvelopeError("encoding-invalid")
    members_exactly(jwk, "kty", "crv", "x", "y")
    try:
        if not isinstance(issued_at, str) or dt.datetime.fromisoformat(issued_at).utcoffset() != dt.timedelta(0):
            raise EnvelopeError("encoding-invalid")
    except ValueError as error:
        raise EnvelopeError("encoding-invalid") from error
    return Rotation(
        vault_id=identifier(members["vault_id"], PARTY_ID),
        serial=serial,
        from_kid=identifier(members["from_kid"], KEY_ID),
        recipient_jwk=jwk_from_key(key_from_jwk(jwk)),
        issued_at=issued_at,
    )
