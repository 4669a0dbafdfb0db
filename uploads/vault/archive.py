"""What a vault does with its archive besides filling it: lists, proves whole, and removes at its operator's word."""

import datetime as dt
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from gateway_project.core.failpoint import failpoint
from uploads.envelope.receipt import StoredFile
from uploads.vault.durable import directory_lock, directory_sync, record_read, record_write
from uploads.vault.errors import VaultStoreError
from uploads.vault.layout import (
    REMOVED_FILE,
    UploadSummary,
    commit_record_read,
    shard_ids,
    stored_file,
    stored_files,
    upload_directory,
    upload_owner,
    upload_summary,
)
from uploads.vault.usage import Usage

LIST_LIMIT_MAX = 1000
LOOKED_AT_MAX = 4 * LIST_LIMIT_MAX
"""How many uploads of anybody one page of a list looks at: a page may be short, and even empty."""
VERIFY_BYTES = 256 * 1024 * 1024
VERIFY_SECONDS = 5.0


@dataclass(frozen=True)
class UploadPage:
    """Some uploads of one gateway in the order of their ids; `next_after` is None when there are no more."""

    uploads: tuple[UploadSummary, ...]
    next_after: str | None


@dataclass(frozen=True)
class VerifyPage:
    """Some files of a committed upload, read again; `next_after` is None when all have been."""

    file_count: int
    checked: int
    checked_bytes: int
    damaged: tuple[str, ...]
    next_after: str | None


def uploads_page(directory: Path, *, gateway_id: str, after: str = "", limit: int = LIST_LIMIT_MAX) -> UploadPage:
    """Returns at most `limit` uploads of this gateway whose ids follow `after`; the work of a page is bounded."""
    found: list[UploadSummary] = []
    looked_at = 0
    last = after
    for upload_id in shard_ids(directory, after=after):
        if len(found) >= min(limit, LIST_LIMIT_MAX) or looked_at >= LOOKED_AT_MAX:
            return UploadPage(tuple(found), last)
        looked_at, last = looked_at + 1, upload_id
        if upload_owner(upload_directory(directory, upload_id)) == gateway_id:
            summary = upload_summary(directory, upload_id)
            found += [summary] if summary is not None else []
    return UploadPage(tuple(found), None)


def upload_verify_page(
    directory: Path,
    upload_id: str,
    *,
    gateway_id: str,
    after: str = "",
    bytes_max: int = VERIFY_BYTES,
    seconds_max: float = VERIFY_SECONDS,
) -> VerifyPage:
    """Reads committed files again from the disk, in the order of their names, and compares size and hash.

    Begins behind the name `after` and ends when it has read `bytes_max` or worked for `seconds_max`, but never before
    one file is done. Raises `foreign-upload`, `not-committed` (also for an unknown upload), `upload-removed`.
    """
    upload = upload_directory(directory, upload_id)
    owner = upload_owner(upload)
    if owner is not None and owner != gateway_id:
        raise VaultStoreError("foreign-upload")
    record = commit_record_read(directory, upload_id)
    if record is None:
        raise VaultStoreError("not-committed")
    if (upload / REMOVED_FILE).exists():
        raise VaultStoreError("upload-removed")
    files = sorted(record.commitment.files, key=lambda file: file.name)
    waiting = [file for file in files if file.name > after]
    until = time.monotonic() + seconds_max
    damaged: list[str] = []
    checked = checked_bytes = 0
    for file in waiting:
        damaged += [] if file_whole(upload, file) else [file.name]
        checked, checked_bytes = checked + 1, checked_bytes + file.size_bytes
        if checked_bytes >= bytes_max or time.monotonic() >= until:
            break
    left = checked < len(waiting)
    return VerifyPage(len(files), checked, checked_bytes, tuple(damaged), waiting[checked - 1].name if left else None)


def file_whole(upload: Path, file: StoredFile) -> bool:
    """Whether exactly this file is stored, read from the disk and not from memory where the system can be asked so."""
    found = stored_file(upload, file.name)
    if found is None or found[0] != file:
        return False
    try:
        with found[1].open("rb") as source:
            os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return hashlib.file_digest(source, "sha256").hexdigest() == file.sha256
    except OSError:  # the disk cannot read it: that is what was asked
        return False


def upload_remove(directory: Path, upload_id: str) -> int:
    """After return the upload's files are gone for good; returns how many octets that were. May be repeated.

    What says whose it was and what was committed stays, so its id is never taken for another content. A crash within
    leaves it removed in part; the next start of the vault, or the same call again, ends that. Raises `upload-unknown`.
    """
    upload = upload_directory(directory, upload_id)
    gateway_id = upload_owner(upload)
    if gateway_id is None:
        raise VaultStoreError("upload-unknown")
    usage = Usage(directory)
    with directory_lock(upload):
        removed = record_read(upload / REMOVED_FILE)
        if removed is None:
            size_bytes = sum(file.size_bytes for file in stored_files(upload))
            usage.removal_begun(upload_id)
            removed_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            removed = {"version": 1, "removed_at": removed_at, "size_bytes": size_bytes}
            record_write(upload / REMOVED_FILE, removed)
        failpoint("vault.removing")
        for path in (upload / "files").iterdir():
            path.unlink(missing_ok=True)
        directory_sync(upload / "files")
        size_bytes = int(str(removed["size_bytes"]))
        usage.removal_ended(upload_id, gateway_id, size_bytes)
    return size_bytes


def removals_finish(directory: Path) -> None:
    """Ends the removals that a crash has cut; to be called when a vault starts."""
    for upload_id in Usage(directory).uploads_open():
        if (upload_directory(directory, upload_id) / REMOVED_FILE).exists():
            upload_remove(directory, upload_id)
