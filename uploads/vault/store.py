"""The vault's durable store of ciphertext: what it has said it holds, it holds after a power cut.

A body on its way in is `parts/<random>.part`; `layout` says how what is stored lies in the directory.
"""

import datetime as dt
import errno
import hashlib
import os
import secrets
from pathlib import Path
from typing import Protocol

from gateway_project.core.failpoint import failpoint
from uploads.envelope.encoding import FILE_NAME
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import signer_claimed
from uploads.envelope.keys import PrivateKey, jwk_from_key, thumbprint
from uploads.envelope.receipt import Commitment, StoredFile, commitment_verify, receipt_sign
from uploads.vault.durable import (
    SharedSync,
    directory_lock,
    directory_make,
    directory_sync,
    file_create,
    record_write,
)
from uploads.vault.errors import VaultStoreError
from uploads.vault.layout import (
    REMOVED_FILE,
    commit_record_read,
    stored_file,
    stored_files,
    summary_write,
    upload_directory,
    upload_owner,
)
from uploads.vault.registry import PARTS_DIRECTORY, Gateway, VaultIdentity
from uploads.vault.usage import Quota, Usage

MAP_NAME = "map.jwe"
FILE_BYTES_MAX = 64 * 1024**3
FILES_MAX = 100_000
"""What one commitment may list; a commitment of that many files has about 20 MB."""
BLOCK_BYTES = 1024 * 1024

_OWNERS_KEPT = 4096
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_QUOTA = Quota()


class Readable(Protocol):
    """A body: a WSGI input, or any binary file; a block may be shorter than was asked for, and is empty at the end."""

    def read(self, size: int, /) -> bytes: ...


class VaultStore:
    """All uploads of one vault directory. Safe for many threads and processes; every method may be repeated."""

    def __init__(self, directory: Path, *, identity: VaultIdentity, signing_key: PrivateKey) -> None:
        self._directory = directory
        self._identity = identity
        self._signing_key = signing_key
        self._signer = thumbprint({**jwk_from_key(signing_key)})
        self._usage = Usage(directory)
        self._sync = SharedSync()
        self._owners: dict[str, str] = {}

    def put(
        self,
        upload_id: str,
        name: str,
        source: Readable,
        *,
        gateway_id: str,
        size_bytes: int,
        sha256: str,
        quota: Quota = _NO_QUOTA,
    ) -> bool:
        """After return exactly these octets are durable under this name; True when they are new, False when known.

        Constant memory. A crash leaves the name as it was, or whole. Raises `name-invalid`, `upload-id-invalid`,
        `size-invalid`, `too-large`, `foreign-upload`, `body-incomplete`, `digest-mismatch`, `content-conflict`,
        `upload-sealed`, `store-full`; any other OSError of the disk as it is.
        """
        wanted = StoredFile(name, size_bytes, sha256)
        _wanted_check(wanted)
        try:
            upload = self._claim(upload_id, gateway_id)
            if _known(upload, wanted):  # decided again when the body is there
                _body_read(source, wanted, None)
                self._sync.sync(upload / "files")  # whoever linked it may have been killed before this
                return False
            return self._put_new(upload, source, wanted, gateway_id=gateway_id, quota=quota)
        except OSError as error:
            if error.errno in _FULL:
                raise VaultStoreError("store-full") from error
            raise

    def _put_new(self, upload: Path, source: Readable, wanted: StoredFile, *, gateway_id: str, quota: Quota) -> bool:
        part = self._directory / PARTS_DIRECTORY / f"{secrets.token_hex(16)}.part"
        self._usage.reserve(gateway_id, wanted.size_bytes, quota=quota)
        new = False
        try:
            _part_write(part, source, wanted)
            new = _adopt(part, upload, wanted)
            self._sync.sync(upload / "files")
            failpoint("vault.linked")
        finally:
            if not new:
                part.unlink(missing_ok=True)
                self._usage.release(gateway_id, wanted.size_bytes)
        return new

    def state(self, upload_id: str, *, gateway_id: str) -> tuple[list[StoredFile], str | None]:
        """Returns the stored files by name and the receipt, if any; nothing for an unknown id. `foreign-upload`."""
        upload = upload_directory(self._directory, upload_id)
        owner = upload_owner(upload)
        if owner is None:
            return [], None
        if owner != gateway_id:
            raise VaultStoreError("foreign-upload")
        record = commit_record_read(self._directory, upload_id)
        return sorted(stored_files(upload), key=lambda file: file.name), record.receipt if record else None

    def commit(self, upload_id: str, token: str, *, gateway: Gateway) -> str:
        """Returns the receipt, after commitment and receipt are durable; the upload then never changes again.

        The same token gives the same receipt. Raises `commitment-invalid`, `commitment-mismatch`, `file-missing`,
        `too-many-files`, `foreign-upload`, `upload-committed`, `upload-removed`, `store-full`.
        """
        upload = upload_directory(self._directory, upload_id)
        try:
            commitment = commitment_verify(token, gateway.jwk)
        except EnvelopeError as error:
            raise VaultStoreError("commitment-invalid") from error
        expected = (upload_id, gateway.gateway_id, self._identity.vault_id)
        if (commitment.upload_id, commitment.gateway_id, commitment.vault_id) != expected:
            raise VaultStoreError("commitment-mismatch")
        if len(commitment.files) > FILES_MAX + 100:
            raise VaultStoreError("too-many-files")
        owner = upload_owner(upload)
        if owner is None:
            raise VaultStoreError("file-missing")
        if owner != gateway.gateway_id:
            raise VaultStoreError("foreign-upload")
        try:
            with directory_lock(upload):
                return self._commit_locked(upload, token, commitment, gateway)
        except OSError as error:
            if error.errno in _FULL:
                raise VaultStoreError("store-full") from error
            raise

    def parts_sweep(self) -> int:
        """Removes what crashes left of bodies on their way in, returns how many, and counts what is stored; only while
        nothing is being served.
        """
        self._usage.prepare()
        parts = list((self._directory / PARTS_DIRECTORY).glob("*.part"))
        for part in parts:
            part.unlink(missing_ok=True)
        return len(parts)

    def _commit_locked(self, upload: Path, token: str, commitment: Commitment, gateway: Gateway) -> str:
        known = commit_record_read(self._directory, commitment.upload_id)
        if (upload / REMOVED_FILE).exists():
            raise VaultStoreError("upload-removed")
        if known is not None:
            directory_sync(upload)  # whoever wrote the record may have been killed before this
            self._usage.upload_closed(upload.name, known.gateway_id, _octets(upload))
            if known.commitment_token == token and signer_claimed(known.receipt) == self._signer:
                return known.receipt
            if known.commitment != commitment:
                raise VaultStoreError("upload-committed")
            # the same statement signed anew (a signer need not be deterministic), or a receipt of before our key was
            # changed: the same facts, for that token, under the key that counts now
            return self._receipt(token, commitment, receipt_id=known.receipt_id, stored_at=known.stored_at)
        directory_sync(upload / "files")
        _complete_check(upload, commitment)
        receipt_id = secrets.token_hex(16)
        stored_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        receipt = self._receipt(token, commitment, receipt_id=receipt_id, stored_at=stored_at)
        summary_write(upload, commitment, stored_at=stored_at)
        record_write(
            upload / "commit.json",
            {
                "version": 1,
                "upload_id": commitment.upload_id,
                "gateway_id": gateway.gateway_id,
                "gateway_jwk": gateway.jwk,
                "commitment": token,
                "receipt": receipt,
                "receipt_id": receipt_id,
                "stored_at": stored_at,
            },
        )
        failpoint("vault.committed")
        self._usage.upload_closed(upload.name, gateway.gateway_id, _octets(upload))
        return receipt

    def _receipt(self, token: str, commitment: Commitment, *, receipt_id: str, stored_at: str) -> str:
        return receipt_sign(
            token,
            commitment,
            receipt_id=receipt_id,
            stored_at=stored_at,
            demonstration=self._identity.demonstration,
            key=self._signing_key,
        )

    def _claim(self, upload_id: str, gateway_id: str) -> Path:
        """Returns the upload's directory, made if need be, once it is durably this gateway's."""
        upload = upload_directory(self._directory, upload_id)
        owner = self._owners.get(upload_id)
        if owner is None:
            owner = upload_owner(upload) or self._claim_new(upload, gateway_id)
            if len(self._owners) >= _OWNERS_KEPT:
                self._owners.clear()
            self._owners[upload_id] = owner  # which never changes
        if owner != gateway_id:
            raise VaultStoreError("foreign-upload")
        return upload

    def _claim_new(self, upload: Path, gateway_id: str) -> str:
        directory_make(upload.parent)
        directory_make(upload)
        with directory_lock(upload):
            directory_make(upload / "files")
            owner = upload_owner(upload)
            if owner is None:
                self._usage.upload_opened(upload.name)
                record_write(upload / "owner.json", {"version": 1, "gateway_id": gateway_id})
                owner = gateway_id
        return owner


def _octets(upload: Path) -> int:
    return sum(file.size_bytes for file in stored_files(upload))


def _wanted_check(wanted: StoredFile) -> None:
    if not FILE_NAME.fullmatch(wanted.name):
        raise VaultStoreError("name-invalid")
    if wanted.size_bytes < 1:
        raise VaultStoreError("size-invalid")
    if wanted.size_bytes > FILE_BYTES_MAX:
        raise VaultStoreError("too-large")


def _known(upload: Path, wanted: StoredFile) -> bool:
    """Returns whether exactly this is stored already; raises when the name holds other content or the upload is
    closed.
    """
    found = stored_file(upload, wanted.name)
    if found is not None:
        if found[0] != wanted:
            raise VaultStoreError("content-conflict")
        return True
    for name, code in (("commit.json", "upload-sealed"), (REMOVED_FILE, "upload-removed")):
        if os.path.exists(f"{upload}/{name}"):  # noqa: PTH110 - for each file of each study
            raise VaultStoreError(code)
    return False


def _part_write(part: Path, source: Readable, wanted: StoredFile) -> None:
    descriptor = file_create(part)
    try:
        _body_read(source, wanted, descriptor)
        failpoint("vault.part")
        os.fsync(descriptor)
        failpoint("vault.fsynced")
    finally:
        os.close(descriptor)


def _body_read(source: Readable, wanted: StoredFile, descriptor: int | None) -> None:
    """Reads the body to its end, into the file if there is one; raises unless it is what was announced."""
    digest = hashlib.sha256()
    missing = wanted.size_bytes
    while missing:
        block = source.read(min(BLOCK_BYTES, missing))
        if not block:
            raise VaultStoreError("body-incomplete")
        digest.update(block)
        missing -= len(block)
        if descriptor is not None:
            _write_all(descriptor, block)
    if digest.hexdigest() != wanted.sha256:
        raise VaultStoreError("digest-mismatch")


def _write_all(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]


def _adopt(part: Path, upload: Path, wanted: StoredFile) -> bool:
    """Gives the octets their hash and their name; False when somebody else has. Not durable before the next sync."""
    with directory_lock(upload):
        if _known(upload, wanted):
            return False
        data, link = f"D{wanted.sha256}", upload / "files" / wanted.name
        part.rename(link.with_name(data))
        failpoint("vault.renamed")
        try:
            link.symlink_to(data)
        except FileExistsError:  # one without its file, left by a crash
            link.unlink()
            link.symlink_to(data)
        return True


def _complete_check(upload: Path, commitment: Commitment) -> None:
    for wanted in commitment.files:
        found = stored_file(upload, wanted.name)
        if found is None or found[0] != wanted:
            raise VaultStoreError("file-missing")
    found = stored_file(upload, MAP_NAME)
    if found is None:
        raise VaultStoreError("file-missing")
    if found[0].sha256 != commitment.map_sha256:
        raise VaultStoreError("commitment-mismatch")
