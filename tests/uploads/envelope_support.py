"""Keys and shortcuts for the envelope's tests."""

import io
import json
import secrets

from uploads.envelope.encoding import base64url_decode, base64url_encode, canonical_json
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import jwk_from_key, key_generate
from uploads.envelope.seal import Sealed, SealingRun
from uploads.envelope.unseal import Opener

RECIPIENT = key_generate()
RECOVERY = key_generate()
GATEWAY = key_generate()
VAULT = key_generate()
STRANGER = key_generate()
GATEWAY_JWK = jwk_from_key(GATEWAY)
VAULT_JWK = jwk_from_key(VAULT)


def run_start(*, upload_id: str | None = None, recipients: tuple = (RECIPIENT,)) -> SealingRun:
    return SealingRun.start(
        upload_id=upload_id or secrets.token_hex(16),
        recipients=[jwk_from_key(key) for key in recipients],
        gateway_id="gateway-1",
        vault_id="vault-1",
    )


def opener_for(*runs: SealingRun, key=RECIPIENT, number: int = 0) -> Opener:
    opener = Opener(key)
    for run in runs:
        opener.add_key(run.key_documents[number].content)
    return opener


def seal_bytes(run: SealingRun, content: bytes, *, file_id: str | None = None) -> tuple[Sealed, bytes]:
    sink = io.BytesIO()
    sealed = run.seal(io.BytesIO(content), sink, file_id=file_id or secrets.token_hex(16))
    return sealed, sink.getvalue()


def open_bytes(opener: Opener, sealed: bytes, **expected) -> bytes:
    sink = io.BytesIO()
    opener.open(io.BytesIO(sealed), sink, **expected)
    return sink.getvalue()


def refusal(call, *args, **kwargs) -> str:
    """The code with which the call was refused; a call that succeeds gives an empty string."""
    try:
        call(*args, **kwargs)
    except EnvelopeError as error:
        return error.code
    return ""


def segments_of(sealed: bytes) -> tuple[bytes, list[bytes]]:
    """Header, and each segment, of a sealed file, cut by the written lengths."""
    position = 6 + int.from_bytes(sealed[4:6], "big")
    header, segments = sealed[:position], []
    while position < len(sealed):
        end = position + 5 + 16 + int.from_bytes(sealed[position : position + 4], "big") + 32
        segments.append(sealed[position:end])
        position = end
    return header, segments


def header_changed(content: bytes | str, **members) -> bytes:
    """The same compact object under a header in which members are set, or taken away where None is given."""
    raw = content.encode() if isinstance(content, str) else content
    first, rest = raw.split(b".", 1)
    header = {**json.loads(base64url_decode(first)), **members}
    kept = {name: value for name, value in header.items() if value is not None}
    return base64url_encode(canonical_json(kept)).encode() + b"." + rest
