"""The chain of custody as a document: one JSON file, a record a line, signed over all of them (docs/custody.md).

Written in one pass and read in two, as the signature stands at the end; one record at a time is in memory.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from uploads.envelope.encoding import (
    PARTY_ID,
    RANDOM_ID,
    SHA256_HEX,
    base64url_decode,
    canonical_json,
    identifier,
    json_object,
    members_exactly,
    version_check,
)
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import jws_sign, jws_verify
from uploads.envelope.keys import PrivateKey, jwk_from_key, thumbprint

TYPE: Final = "gateway-custody"
VERSION: Final = 1
LINE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of one record: an upload of 100,000 files holds a commitment and a receipt of about 14 MB each."""

_BEGIN: Final = b'{"records":[\n'
_END: Final = b'],"custody":"'
_TOKEN_BYTES_MAX: Final = 64 * 1024

_MEMBERS: Final = {
    "upload": {"kind", "upload_id", "revision", "vault", "state", "files", "commitment", "receipt", "receipt_id",
               "receipt_at", "ended_at", "attempts"},
    "instance": {"kind", "sop_instance_uid", "sop_class_uid", "series_instance_uid", "transfer_syntax_uid", "version",
                 "current", "revision", "received", "sent", "file_deleted_at"},
    "event": {"kind", "uid", "at", "event", "outcome", "actor", "detail", "seal"},
}  # fmt: skip
KINDS: Final = tuple(_MEMBERS)

_TEXTS: Final = {
    "document-malformed": "This is not a chain of custody document, or it was cut off. Export it again.",
    "records-changed": "The records are not those that were signed: the document was changed.",
}


class CustodyError(Exception):
    """A document that cannot be believed; `code` is stable, the message holds nothing of the document."""

    def __init__(self, code: str) -> None:
        super().__init__(_TEXTS[code])
        self.code = code


@dataclass(frozen=True)
class Head:
    """What is signed: whose document, of which study, when and by whom made, and over which records."""

    document_id: str
    gateway_id: str
    identity_jwk: dict[str, str]
    study_instance_uid: str
    made_at: str
    made_by: str
    counts: dict[str, int]
    records_sha256: str


class _Records:
    """Counts and hashes records as they stand in the file: each line without its comma, and a line feed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._hash = hashlib.sha256()

    def add(self, line: bytes) -> None:
        self._hash.update(line)
        self._hash.update(b"\n")

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def document_write(
    records: Iterable[Mapping[str, Any]],
    *,
    identity: PrivateKey,
    document_id: str,
    gateway_id: str,
    study_instance_uid: str,
    made_at: str,
    made_by: str,
) -> Iterator[bytes]:
    """The document, piece by piece; without its last piece, which holds the signature, it verifies as nothing."""
    signed = _Records()
    separator = _BEGIN
    for record in records:
        line = canonical_json(record)
        signed.counts[record["kind"]] += 1
        signed.add(line)
        yield separator
        yield line
        separator = b",\n"
    head = {
        "counts": {kind: signed.counts[kind] for kind in KINDS},
        "document_id": document_id,
        "gateway_id": gateway_id,
        "identity_jwk": jwk_from_key(identity),
        "made_at": made_at,
        "made_by": made_by,
        "records_sha256": signed.hexdigest(),
        "study_instance_uid": study_instance_uid,
        "version": VERSION,
    }
    token = jws_sign(canonical_json(head), identity, typ=TYPE)
    begun = b"\n" if separator != _BEGIN else _BEGIN
    yield begun + _END + token.encode("ascii") + b'"}\n'


class CustodyReader:
    """A document in a seekable stream. `verify` first: nothing that `records` gives may be believed before."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def claimed_jwk(self) -> dict[str, Any]:
        """The identity key that the document itself names, unverified: to compare its fingerprint with a known one."""
        token, _records_sha256 = self._pass()
        return _head_parse(_payload(token)).identity_jwk

    def verify(self, jwk: Mapping[str, object]) -> Head:
        """The head, proved to be signed with this key over exactly the records that are here.

        Raises CustodyError, or EnvelopeError as `jws_verify` does.
        """
        token, records_sha256 = self._pass()
        head = _head_parse(jws_verify(token, jwk, typ=TYPE, size_bytes_max=_TOKEN_BYTES_MAX))
        if head.records_sha256 != records_sha256:
            raise CustodyError("records-changed")
        if thumbprint(head.identity_jwk) != thumbprint(jwk):
            raise EnvelopeError("signer-unknown")
        return head

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record in its order. Raises CustodyError."""
        for line in self._lines():
            if not line.startswith(_END):
                yield _record_parse(line)

    def _pass(self) -> tuple[str, str]:
        found, token = _Records(), None
        for line in self._lines():
            if line.startswith(_END):
                token = line.removeprefix(_END).removesuffix(b'"}').decode("ascii", "replace")
            else:
                found.add(line)
        if token is None:
            raise CustodyError("document-malformed")
        return token, found.hexdigest()

    def _lines(self) -> Iterator[bytes]:
        """The records' lines without comma and line feed, then the line of the signature; nothing follows it."""
        self._stream.seek(0)
        if self._stream.readline(len(_BEGIN) + 1) != _BEGIN:
            raise CustodyError("document-malformed")
        followed = True  # by another record, as the comma says
        first = True
        while True:
            line = self._stream.readline(LINE_BYTES_MAX)
            if not line.endswith(b"\n"):
                raise CustodyError("document-malformed")
            line = line[:-1]
            if line.startswith(_END):
                if (followed and not first) or not line.endswith(b'"}') or self._stream.read(1):
                    raise CustodyError("document-malformed")
                yield line
                return
            if not followed:
                raise CustodyError("document-malformed")
            followed, first = line.endswith(b","), False
            yield line.removesuffix(b",")


def _record_parse(line: bytes) -> dict[str, Any]:
    try:
        record = json_object(line)
    except EnvelopeError as error:
        raise CustodyError("document-malformed") from error
    if set(record) != _MEMBERS.get(str(record.get("kind"))):
        raise CustodyError("document-malformed")
    return record


def _payload(token: str) -> bytes:
    parts = token.split(".", 3)
    if len(parts) != 3:
        raise CustodyError("document-malformed")
    return base64url_decode(parts[1])


def _head_parse(payload: bytes) -> Head:
    members = json_object(payload)
    names = ("counts", "document_id", "gateway_id", "identity_jwk", "made_at", "made_by", "records_sha256")
    members_exactly(members, *names, "study_instance_uid", "version")
    version_check(members["version"])
    counts, jwk = members["counts"], members["identity_jwk"]
    if not isinstance(counts, dict) or not all(type(number) is int for number in counts.values()):
        raise EnvelopeError("encoding-invalid")
    if not isinstance(jwk, dict):
        raise EnvelopeError("encoding-invalid")
    texts = [members[name] for name in ("study_instance_uid", "made_at", "made_by")]
    if not all(isinstance(text, str) for text in texts):
        raise EnvelopeError("encoding-invalid")
    return Head(
        document_id=identifier(members["document_id"], RANDOM_ID),
        gateway_id=identifier(members["gateway_id"], PARTY_ID),
        identity_jwk=jwk,
        study_instance_uid=str(texts[0]),
        made_at=str(texts[1]),
        made_by=str(texts[2]),
        counts=counts,
        records_sha256=identifier(members["records_sha256"], SHA256_HEX),
    )
