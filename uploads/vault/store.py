"""The vault's durable store of ciphertext: what it has said it holds, it holds after a power cut.

    uploads/<first 2 hex>/<upload id>/owner.json    which gateway's upload this is
                                      files/D<sha256>   the octets, named by their hash
                                      files/<name>      a link to them, so that name and hash become true in one step
                                      commit.json       commitment, identity it was verified with, receipt
    parts/<random>.part                             a body on its way in; removed when the vault starts

A link whose file is missing (a crash between the two) counts as nothing stored.
"""

import datetime as dt
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway_project.core.failpoint import failpoint
from uploads.envelope.encoding import FILE_NAME
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import PrivateKey
from uploads.envelope.receipt import Commitment, StoredFile, commitment_verify, receipt_sign
from uploads.vault.durable import directory_lock, directory_make, directory_sync, file_create, record_read, record_write
from uploads.vault.errors import VaultStoreError
from uploads.vault.registry import PARTS_DIRECTORY, UPLOADS_DIRECTORY, Gateway, VaultIdentity

MAP_NAME = "map.jwe"
FILE_BYTES_MAX = 64 * 1024**3
FILES_MAX = 100_000
"""What one commitment may list; a commitment of that many files has about 20 MB."""
BLOCK_BYTES = 256 * 1024

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_DATA = re.compile(r"D([0-9a-f]{64})")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Readable(Protocol):
    """A body: a WSGI input, or any binary file."""

    def read(self, size: int, /) -> bytes: ...


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


class VaultStore:
    """All uploads of one vault directory. Safe for many threads and processes; every method may be repeated."""

    def __init__(self, directory: Path, *, identity: VaultIdentity, signing_key: PrivateKey) -> None:
        self._directory = directory
        self._identity = identity
        self._signing_key = signing_key

    def put(
        self, upload_id: str, name: str, source: Readable, *, gateway_id: str, size_bytes: int, sha256: str
    ) -> bool:
        """After return exactly these octets are durable under this name; True when they are new, False when known.

        Constant memory. A crash leaves the name as it was, or whole. Raises `name-invalid`, `upload-id-invalid`,
        `size-invalid`, `too-large`, `foreign-upload`, `body-incomplete`, `digest-mismatch`, `content-conflict`,
        `upload-sealed`, `store-full`; any other OSError of the disk as it is.
        """
        wanted = StoredFile(name, size_bytes, sha256)
        _wanted_check(wanted)
        part = self._directory / PARTS_DIRECTORY / f"{secrets.token_hex(16)}.part"
        try:
            upload = self._claim(upload_id, gateway_id)
            _conflict_check(upload, wanted)  # before a long body is read; decided again below
            _part_write(part, source, wanted)
            return _adopt(part, upload, wanted)
        except OSError as error:
            if error.errno in _FULL:
                raise VaultStoreError("store-full") from error
            raise
        finally:
            part.unlink(missing_ok=True)

    def state(self, upload_id: str, *, gateway_id: str) -> tuple[list[StoredFile], str | None]:
        """Returns the stored files by name and the receipt, if any; nothing for an unknown id. `foreign-upload`."""
        upload = upload_directory(self._directory, upload_id)
        owner = _owner(upload)
        if owner is None:
            return [], None
        if owner != gateway_id:
            raise VaultStoreError("foreign-upload")
        record = commit_record_read(self._directory, upload_id)
        return sorted(stored_files(upload), key=lambda file: file.name), record.receipt if record else None

    def commit(self, upload_id: str, token: str, *, gateway: Gateway) -> str:
        """Returns the receipt, after commitment and receipt are durable; the upload then never changes again.

        The same token gives the same receipt. Raises `commitment-invalid`, `commitment-mismatch`, `file-missing`,
        `too-many-files`, `foreign-upload`, `upload-committed`, `store-full`.
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
        owner = _owner(upload)
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
        """Removes what crashes left of bodies on their way in, and returns how many; only while nothing is being
        served.
        """
        parts = list((self._directory / PARTS_DIRECTORY).glob("*.part"))
        for part in parts:
            part.unlink(missing_ok=True)
        return len(parts)

    def _commit_locked(self, upload: Path, token: str, commitment: Commitment, gateway: Gateway) -> str:
        known = commit_record_read(self._directory, commitment.upload_id)
        if known is not None:
            directory_sync(upload)  # whoever wrote the record may have been killed before this
            if known.commitment_token == token:
                return known.receipt
            if known.commitment != commitment:
                raise VaultStoreError("upload-committed")
            # the same statement signed anew (a signer need not be deterministic): the same facts, for that token
            return self._receipt(token, commitment, receipt_id=known.receipt_id, stored_at=known.stored_at)
        directory_sync(upload / "files")
        _complete_check(upload, commitment)
        receipt_id = secrets.token_hex(16)
        stored_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        receipt = self._receipt(token, commitment, receipt_id=receipt_id, stored_at=stored_at)
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
        owner = _owner(upload)
        if owner is None:
            directory_make(upload.parent)
            directory_make(upload)
            with directory_lock(upload):
                directory_make(upload / "files")
                owner = _owner(upload)
                if owner is None:
                    record_write(upload / "owner.json", {"version": 1, "gateway_id": gateway_id})
                    owner = gateway_id
        if owner != gateway_id:
            raise VaultStoreError("foreign-upload")
        return upload


def upload_directory(directory: Path, upload_id: str) -> Path:
    """Returns where an upload lies, whether it exists or not; `upload-id-invalid` for anything that is no id."""
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise VaultStoreError("upload-id-invalid")
    return directory / UPLOADS_DIRECTORY / upload_id[:2] / upload_id


def upload_ids(directory: Path) -> list[str]:
    """Returns the ids of all uploads in the directory, committed or not, sorted."""
    found = (directory / UPLOADS_DIRECTORY).glob("[0-9a-f][0-9a-f]/*")
    return sorted(path.name for path in found if _UPLOAD_ID.fullmatch(path.name))


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


def _wanted_check(wanted: StoredFile) -> None:
    if not FILE_NAME.fullmatch(wanted.name):
        raise VaultStoreError("name-invalid")
    if wanted.size_bytes < 1:
        raise VaultStoreError("size-invalid")
    if wanted.size_bytes > FILE_BYTES_MAX:
        raise VaultStoreError("too-large")


def _owner(upload: Path) -> str | None:
    record = record_read(upload / "owner.json")
    if record is None:
        return None
    owner = record.get("gateway_id")
    if not isinstance(owner, str):
        raise VaultStoreError("record-invalid")
    return owner


def _conflict_check(upload: Path, wanted: StoredFile) -> bool:
    """Returns whether exactly this is stored already; raises when the name holds other content or the upload is
    closed.
    """
    found = stored_file(upload, wanted.name)
    if found is not None:
        if found[0] != wanted:
            raise VaultStoreError("content-conflict")
        return True
    if (upload / "commit.json").exists():
        raise VaultStoreError("upload-sealed")
    return False


def _part_write(part: Path, source: Readable, wanted: StoredFile) -> None:
    digest = hashlib.sha256()
    missing = wanted.size_bytes
    with os.fdopen(file_create(part), "wb", buffering=0) as file:
        while missing:
            block = source.read(min(BLOCK_BYTES, missing))
            if not block:
                raise VaultStoreError("body-incomplete")
            digest.update(block)
            missing -= len(block)
            _write_all(file.fileno(), block)
        if digest.hexdigest() != wanted.sha256:
            raise VaultStoreError("digest-mismatch")
        failpoint("vault.part")
        os.fsync(file.fileno())
        failpoint("vault.fsynced")


def _write_all(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]


def _adopt(part: Path, upload: Path, wanted: StoredFile) -> bool:
    files = upload / "files"
    with directory_lock(upload):
        if _conflict_check(upload, wanted):
            directory_sync(files)  # whoever linked it may have been killed before this
            return False
        part.rename(files / f"D{wanted.sha256}")
        failpoint("vault.renamed")
        link = files / wanted.name
        link.unlink(missing_ok=True)  # one without its file, left by a crash
        link.symlink_to(f"D{wanted.sha256}")
        directory_sync(files)
        failpoint("vault.linked")
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
