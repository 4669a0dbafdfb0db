"""Strict base64url, JSON and identifiers: one accepted spelling each, and bounds before work."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import NoReturn

from uploads.envelope.errors import EnvelopeError

VERSION = 1
"""Of the format; stands in every JSON object of ours."""
RANDOM_ID = re.compile(r"[0-9a-f][0-9a-f-]{14,62}[0-9a-f]")
"""Upload, run and file ids: random hex, with or without the hyphens of a UUID. A DICOM UID does not fit."""
PARTY_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Gateways, vaults and receipts, named as their owners name them."""
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")


def base64url_encode(data: bytes) -> str:
    """RFC 7515 2: base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def base64url_decode(text: bytes | str) -> bytes:
    """The only octets that encode to exactly this text (RFC 7515 2); any other spelling is `encoding-invalid`."""
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    if len(raw) % 4 == 1 or b"=" in raw or b"+" in raw or b"/" in raw:
        raise EnvelopeError("encoding-invalid")
    try:
        data = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError("encoding-invalid") from error
    tail = len(data) % 3
    if tail and base64url_encode(data[-tail:]).encode("ascii") != raw[-(tail + 1) :]:
        raise EnvelopeError("encoding-invalid")
    return data


def canonical_json(value: Mapping[str, object]) -> bytes:
    """One octet string per value: UTF-8, members sorted by code point, no white space, no NaN or infinity."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise EnvelopeError("document-invalid") from error


def json_object(data: bytes) -> dict[str, object]:
    """The object in `data` (RFC 8259), which the caller has bounded; no repeated members, NaN or infinities."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_members,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("encoding-invalid") from error
    if not isinstance(value, dict):
        raise EnvelopeError("encoding-invalid")
    return value


def members_exactly(value: Mapping[str, object], *names: str) -> None:
    """Nothing is missing and nothing unknown is there, so that nobody can rely on a member that is not checked."""
    if set(value) != set(names):
        raise EnvelopeError("encoding-invalid")


def version_check(value: object) -> None:
    """Returns for the integer 1 only (`true` and 1.0 are other values in JSON); else `encoding-invalid`."""
    if type(value) is not int or value != VERSION:
        raise EnvelopeError("encoding-invalid")


def identifier(value: object, pattern: re.Pattern[str]) -> str:
    """`value` as a string that matches the whole `pattern`, else `identifier-invalid`."""
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise EnvelopeError("identifier-invalid")
    return value


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise EnvelopeError("encoding-invalid")
    return members


def _refuse_constant(_name: str) -> NoReturn:
    raise EnvelopeError("encoding-invalid")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise EnvelopeError("encoding-invalid")
    return number
