"""How uploads lie in a vault's directory, and how what lies there is read.

    uploads/<first 2 hex>/<upload id>/owner.json    which gateway's upload this is
                                      files/D<sha256>   the octets, named by their hash
                                      files/<name>      a link to them, so that name and hash become true in one step
                                      summary.json      what a list shows of it; means nothing without commit.json
                                      commit.json       commitment, identity it was verified with, receipt
                                      rewrapped/        key documents for other recipients, made by the recipient
                                      removed.json      the operator has removed the files; everything else stays

A link whose file is missing (a crash between the two) counts as nothing stored.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uploads.envelope.errors import EnvelopeError
from uploads.envelope.receipt import Commitment, StoredFile, commitment_verify
from uploads.vault.durable import record_read, record_write
from uploads.vault.errors import VaultStoreError
from uploads.vault.registry import UPLOADS_DIRECTORY

COMMIT_FILE = "commit.json"
SUMMARY_FILE = "summary.json"
REMOVED_FILE = "removed.json"
REWRAPPED_DIRECTORY = "rewrapped"

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_DATA = re.compile(r"D([0-9a-f]{64})")


@dataclass(frozen=True)
class CommitRecord:
    """What a committed upload is: enough to verify it for ever without asking anybody."""

    upload_id: str
    gateway_id: str
    gateway_jwk: dict[str, str]
    commitment_token: str
    commitment: Commitment
    receipt: str
    receipt_id: str
    stored_at: str


@dataclass(frozen=True)
class UploadSummary:
    """One upload as a list shows it, as its record says; nothing of it is verified."""

    upload_id: str
    gateway_id: str
    committed: bool
    stored_at: str
    file_count: int
    size_bytes: int
    removed_at: str


def upload_directory(directory: Path, upload_id: str) -> Path:
    """Returns where an upload lies, whether it exists or not; `upload-id-invalid` for anything that is no id."""
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise VaultStoreError("upload-id-invalid")
    return directory / UPLOADS_DIRECTORY / upload_id[:2] / upload_id


def upload_ids(directory: Path) -> list[str]:
    """Returns the ids of all uploads in the directory, committed or not, sorted."""
    found = (directory / UPLOADS_DIRECTORY).glob("[0-9a-f][0-9a-f]/*")
    return sorted(path.name for path in found if _UPLOAD_ID.fullmatch(path.name))


def shard_ids(directory: Path, *, after: str) -> Iterator[str]:
    """Yields the ids that follow `after`, in order, one folder of the first two digits at a time."""
    shards = sorted(path.name for path in (directory / UPLOADS_DIRECTORY).iterdir())
    for shard in shards:
        if shard >= after[:2]:
            names = sorted(path.name for path in (directory / UPLOADS_DIRECTORY / shard).iterdir())
            yield from (name for name in names if name > after and _UPLOAD_ID.fullmatch(name))


def stored_file(upload: Path, name: str) -> tuple[StoredFile, Path] | None:
    """Returns size and recorded hash of a stored file, and where its octets lie; None when it is not stored."""
    try:
        data = _DATA.fullmatch(os.readlink(upload / "files" / name))  # noqa: PTH115 - no Path needed
        if data is None:
            raise VaultStoreError("record-invalid")
        path = upload / "files" / data.group()
        status = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a link: nothing of ours
            raise VaultStoreError("record-invalid") from error
        raise
    if not stat.S_ISREG(status.st_mode):
        raise VaultStoreError("record-invalid")
    return StoredFile(name, status.st_size, data.group(1)), path


def stored_files(upload: Path) -> Iterator[StoredFile]:
    """Yields every stored file of an upload, in no order."""
    with os.scandir(upload / "files") as entries:
        names = [entry.name for entry in entries if entry.is_symlink()]
    for name in names:
        found = stored_file(upload, name)
        if found is not None:
            yield found[0]


def commit_record_read(directory: Path, upload_id: str) -> CommitRecord | None:
    """Returns the record of a committed upload, its commitment verified under the identity it names; None if
    uncommitted.

    Raises `record-invalid` for a record that does not hold together.
    """
    record = record_read(upload_directory(directory, upload_id) / "commit.json")
    if record is None:
        return None
    try:
        jwk = record["gateway_jwk"]
        texts = [
            record[name] for name in ("upload_id", "gateway_id", "commitment", "receipt", "receipt_id", "stored_at")
        ]
        if not isinstance(jwk, dict) or not all(isinstance(text, str) for text in texts) or texts[0] != upload_id:
            raise VaultStoreError("record-invalid")
        commitment = commitment_verify(str(record["commitment"]), jwk)
    except (KeyError, EnvelopeError) as error:
        raise VaultStoreError("record-invalid") from error
    _, gateway_id, token, receipt, receipt_id, stored_at = (str(text) for text in texts)
    if (commitment.upload_id, commitment.gateway_id) != (upload_id, gateway_id):
        raise VaultStoreError("record-invalid")
    return CommitRecord(upload_id, gateway_id, jwk, token, commitment, receipt, receipt_id, stored_at)


def upload_owner(upload: Path) -> str | None:
    """Returns the gateway whose upload this is, None for one that nobody has begun."""
    record = record_read(upload / "owner.json")
    if record is None:
        return None
    owner = record.get("gateway_id")
    if not isinstance(owner, str):
        raise VaultStoreError("record-invalid")
    return owner


def summary_write(upload: Path, commitment: Commitment, *, stored_at: str) -> None:
    """Keeps what a list shows, so that it need not read the commitment of every upload; made again if it is lost."""
    record_write(upload / SUMMARY_FILE, _summary(commitment, stored_at), durable=False)


def _summary(commitment: Commitment, stored_at: str) -> dict[str, object]:
    size_bytes = sum(file.size_bytes for file in commitment.files)
    return {"version": 1, "file_count": len(commitment.files), "size_bytes": size_bytes, "stored_at": stored_at}


def _summary_read(upload: Path) -> dict[str, object] | None:
    try:
        return record_read(upload / SUMMARY_FILE)
    except VaultStoreError:  # what a power cut has left of it
        return None


def _summary_made(directory: Path, upload_id: str) -> dict[str, object]:
    """For an upload whose short record is missing: read from the long one."""
    record = commit_record_read(directory, upload_id)
    return _summary(record.commitment, record.stored_at) if record is not None else {}


def upload_summary(directory: Path, upload_id: str) -> UploadSummary | None:
    """Returns what a list shows of an upload, in the same short time whatever its size; None for one of nobody."""
    upload = upload_directory(directory, upload_id)
    gateway_id = upload_owner(upload)
    if gateway_id is None:
        return None
    removed = record_read(upload / REMOVED_FILE) or {}
    committed = (upload / COMMIT_FILE).exists()
    record = (_summary_read(upload) or _summary_made(directory, upload_id)) if committed else {}
    try:
        return UploadSummary(
            upload_id,
            gateway_id,
            committed=committed,
            stored_at=str(record.get("stored_at", "")),
            file_count=int(str(record.get("file_count", 0))),
            size_bytes=int(str(record.get("size_bytes", 0))),
            removed_at=str(removed.get("removed_at", "")),
        )
    except ValueError as error:
        raise VaultStoreError("record-invalid") from error
