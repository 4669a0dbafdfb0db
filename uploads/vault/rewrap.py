"""Another recipient key for what is stored: the recipient makes new key documents, the vault puts them beside the old.

No ciphertext is touched, so commitments and receipts stay verifiable; the vault sees no private key. The way between
the two is a file of JSON lines, so that they need not be on one machine. The old key goes on opening what it could.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from uploads.envelope.encoding import base64url_encode
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import KEY_ALGORITHM, jwe_split
from uploads.envelope.keys import PrivateKey, thumbprint
from uploads.vault.durable import directory_lock, directory_make, file_write
from uploads.vault.errors import VaultStoreError
from uploads.vault.layout import REWRAPPED_DIRECTORY, CommitRecord, commit_record_read, upload_directory
from uploads.vault.recipient import Session

LINE_BYTES_MAX = 32 * 1024
_KEY_NAME = re.compile(r"key-([0-9a-f][0-9a-f-]{14,62}[0-9a-f])-[0-9]{1,2}\.jwe")
_REWRAPPED_NAME = re.compile(r"key-([0-9a-f][0-9a-f-]{14,62}[0-9a-f])-([A-Za-z0-9_-]{43})\.jwe")


@dataclass(frozen=True)
class RewrappedKey:
    """One run of one upload, for another recipient: `name` is `key-<run id>-<kid>.jwe`, `content` a key document."""

    upload_id: str
    name: str
    content: str


def upload_rewrap(
    directory: Path,
    upload_id: str,
    *,
    private_key: PrivateKey,
    recipient: Mapping[str, object],
    gateway_fingerprint: str | None = None,
) -> list[RewrappedKey]:
    """Returns a key document for each run of an upload, for the recipient's other public key; writes nothing.

    Only after the map has been opened and verified, so that no forged session key is passed on. Raises as
    `open_upload`.
    """
    session = Session(directory, private_key)
    record = session.record(upload_id, gateway_fingerprint=gateway_fingerprint)
    session.map_document(record)
    kid = thumbprint(recipient)
    return [
        RewrappedKey(upload_id, f"key-{run_id}-{kid}.jwe", session.opener.rewrap(run_id, recipient).decode("ascii"))
        for run_id in sorted(_runs(record))
    ]


def bundle_write(path: Path, keys: Iterable[RewrappedKey]) -> None:
    """Writes what `rewrapped_add` reads: one JSON object on each line."""
    file_write(path, b"".join(json.dumps(asdict(key), sort_keys=True).encode() + b"\n" for key in keys))


def bundle_read(path: Path) -> Iterator[RewrappedKey]:
    """Yields the keys of a bundle; `bundle-invalid` for any line that is none."""
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES_MAX + 1):
            yield _key(line)


def rewrapped_add(directory: Path, key: RewrappedKey) -> None:
    """After return the key document lies beside the upload's own, durably; an earlier one for the same key is replaced.

    What can be seen without a private key is checked: form, parties, a run of this upload. Whether it opens anything is
    the recipient's to say. Raises `bundle-invalid`, `upload-id-invalid`.
    """
    record = commit_record_read(directory, key.upload_id)
    named = _REWRAPPED_NAME.fullmatch(key.name)
    if record is None or named is None or named[1] not in _runs(record):
        raise VaultStoreError("bundle-invalid")
    content = key.content.encode("ascii", "replace")
    try:
        _, header, _ = jwe_split(content, "alg", "apu", "apv", "enc", "epk", "kid", "typ")
    except EnvelopeError as error:
        raise VaultStoreError("bundle-invalid") from error
    parties = (record.gateway_id, record.commitment.vault_id)
    expected = (KEY_ALGORITHM, "gve1-key", named[2], *(base64url_encode(party.encode("ascii")) for party in parties))
    if tuple(header[name] for name in ("alg", "typ", "kid", "apu", "apv")) != expected:
        raise VaultStoreError("bundle-invalid")
    upload = upload_directory(directory, key.upload_id)
    with directory_lock(upload):
        directory_make(upload / REWRAPPED_DIRECTORY)
        file_write(upload / REWRAPPED_DIRECTORY / key.name, content)


def _runs(record: CommitRecord) -> set[str]:
    named = (_KEY_NAME.fullmatch(file.name) for file in record.commitment.files)
    return {match[1] for match in named if match is not None}


def _key(line: bytes) -> RewrappedKey:
    try:
        entry = json.loads(line) if len(line) <= LINE_BYTES_MAX else None
    except (ValueError, RecursionError) as error:
        raise VaultStoreError("bundle-invalid") from error
    if not isinstance(entry, dict) or set(entry) != {"upload_id", "name", "content"}:
        raise VaultStoreError("bundle-invalid")
    if not all(isinstance(value, str) for value in entry.values()):
        raise VaultStoreError("bundle-invalid")
    return RewrappedKey(**entry)
