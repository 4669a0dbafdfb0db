"""The recipient's tool: proves what a vault directory holds, and opens it with the private key that only it has.

Trusts neither the vault nor the disk: every octet written out is authenticated up to the gateway's signature, and the
gateway is the expected one only if its fingerprint is given. Nothing gets its final name before it is verified.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from uploads.envelope.errors import EnvelopeError
from uploads.envelope.jose import signer_claimed
from uploads.envelope.keys import PrivateKey, fingerprint, fingerprint_matches, jwk_from_key, thumbprint
from uploads.envelope.receipt import Receipt, StoredFile, receipt_verify
from uploads.envelope.unseal import DOCUMENT_BYTES_MAX, KEY_DOCUMENT_BYTES_MAX, Opener
from uploads.vault.durable import directory_make, directory_sync, file_create, file_write, record_write
from uploads.vault.errors import VaultStoreError
from uploads.vault.layout import (
    REMOVED_FILE,
    REWRAPPED_DIRECTORY,
    CommitRecord,
    UploadSummary,
    commit_record_read,
    stored_file,
    upload_directory,
    upload_ids,
    upload_summary,
)
from uploads.vault.registry import vault_receipt_jwk, vault_receipt_jwks
from uploads.vault.store import MAP_NAME
from uploads.vault.study_map import MapFile, StudyMap, study_map_parse

DOCUMENTS: tuple[Literal["info", "metadata"], ...] = ("info", "metadata")


@dataclass(frozen=True)
class VerifiedUpload:
    """An upload whose receipt, commitment and stored octets agree; fingerprints are for people to compare."""

    upload_id: str
    gateway_id: str
    gateway_fingerprint: str
    vault_id: str
    stored_at: str
    demonstration: bool
    file_count: int
    size_bytes: int


@dataclass(frozen=True)
class OpenedFile:
    """A file given back: `path` is its name in the target folder, `sha256` and `size_bytes` those of the Part 10
    file.
    """

    path: str
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be given back, and the stable code of why."""

    name: str
    upload_id: str
    sop_instance_uid: str
    code: str


@dataclass(frozen=True)
class OpenedUpload:
    """What `open_upload` has written; complete when nothing failed."""

    upload_id: str
    gateway_id: str
    gateway_fingerprint: str
    study_instance_uid: str
    revision: int
    previous: tuple[str, ...]
    files: tuple[OpenedFile, ...]
    failed: tuple[FailedFile, ...]
    documents: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every file of the study map was given back."""
        return not self.failed


def uploads_list(directory: Path) -> list[UploadSummary]:
    """Returns every upload of the vault directory, committed or not, by id."""
    found = (upload_summary(directory, upload_id) for upload_id in upload_ids(directory))
    return [each for each in found if each is not None]


def upload_verify(directory: Path, upload_id: str, *, gateway_fingerprint: str | None = None) -> VerifiedUpload:
    """Returns only when receipt, commitment and every stored octet agree; needs no private key, reads everything.

    Proves that the vault still holds what the gateway signed. Raises `upload-unknown`, `not-committed`, `file-damaged`,
    `gateway-unexpected`, `record-invalid`, or EnvelopeError for a signature.
    """
    record = _committed(directory, upload_id, gateway_fingerprint=gateway_fingerprint)
    receipt = _receipt(directory, record)
    upload = upload_directory(directory, upload_id)
    for file in record.commitment.files:
        _octets_check(upload, file)
    return VerifiedUpload(
        upload_id=upload_id,
        gateway_id=record.gateway_id,
        gateway_fingerprint=fingerprint(record.gateway_jwk),
        vault_id=receipt.vault_id,
        stored_at=receipt.stored_at,
        demonstration=receipt.demonstration,
        file_count=len(record.commitment.files),
        size_bytes=sum(file.size_bytes for file in record.commitment.files),
    )


def open_upload(
    directory: Path,
    upload_id: str,
    *,
    private_key: PrivateKey,
    target: Path,
    gateway_fingerprint: str | None = None,
) -> OpenedUpload:
    """Writes a study byte for byte into `target`: `<n>.dcm` in the map's order, info.json, metadata.json,
    manifest.json.

    Files are 0600 and durable, named by us alone, and get their name only when verified against the signed map; a file
    that fails is listed in `failed` and leaves nothing, the others are given back. manifest.json comes last. Files that
    the map says lie in earlier uploads are taken from there. `target` has to be absent or empty: `target-in-use`.
    `gateway_fingerprint` (spaces ignored) makes any other gateway `gateway-unexpected`; without it the result says
    whose the study claims to be. Raises as `upload_verify`, `map-invalid`, or EnvelopeError when the map cannot be
    opened.
    """
    session = Session(directory, private_key)
    record = session.record(upload_id, gateway_fingerprint=gateway_fingerprint)
    study_map = session.study_map(record)
    _target_prepare(target)
    opened: list[OpenedFile] = []
    failed: list[FailedFile] = []
    for number, entry in enumerate(study_map.files, start=1):
        try:
            opened.append(_file_open(session, record, entry, target / f"{number}.dcm"))
        except (VaultStoreError, EnvelopeError) as error:
            failed.append(FailedFile(entry.name, entry.upload_id, entry.sop_instance_uid, error.code))
    result = OpenedUpload(
        upload_id=upload_id,
        gateway_id=record.gateway_id,
        gateway_fingerprint=fingerprint(record.gateway_jwk),
        study_instance_uid=study_map.study_instance_uid,
        revision=study_map.revision,
        previous=study_map.previous,
        files=tuple(opened),
        failed=tuple(failed),
        documents=tuple(_documents_open(session, record, target)),
    )
    directory_sync(target)
    record_write(target / "manifest.json", {"version": 1, "complete": result.complete, **asdict(result)})
    return result


class Session:
    """One opening: the private key, and the uploads and sealing runs it has come across."""

    def __init__(self, directory: Path, private_key: PrivateKey) -> None:
        self._directory = directory
        self._opener = Opener(private_key)
        self._kid = thumbprint({**jwk_from_key(private_key)})
        self._records: dict[str, CommitRecord] = {}
        self._runs: set[str] = set()

    @property
    def opener(self) -> Opener:
        return self._opener

    def record(self, upload_id: str, *, gateway_fingerprint: str | None) -> CommitRecord:
        """Returns a committed upload whose receipt is good and whose keys have been added as far as they are ours."""
        known = self._records.get(upload_id)
        if known is None:
            known = _committed(self._directory, upload_id, gateway_fingerprint=gateway_fingerprint)
            _receipt(self._directory, known)
            self._keys_add(known)
            self._records[upload_id] = known
        return known

    def study_map(self, record: CommitRecord) -> StudyMap:
        """Returns the signed study map of an upload, opened and checked."""
        return study_map_parse(self.map_document(record), upload_id=record.upload_id)

    def map_document(self, record: CommitRecord) -> dict[str, object]:
        """Returns what the signed map of an upload says, whatever it is a map of."""
        content = self.content(record, MAP_NAME)
        if hashlib.sha256(content).hexdigest() != record.commitment.map_sha256:
            raise VaultStoreError("file-damaged")
        return self._opener.open_document(content, kind="map", gateway_jwk=record.gateway_jwk)

    def content(self, record: CommitRecord, name: str, *, size_bytes_max: int = DOCUMENT_BYTES_MAX) -> bytes:
        """Returns the octets of a small stored file; `file-damaged` unless they are what the gateway committed."""
        listed = {file.name: file for file in record.commitment.files}.get(name)
        found = stored_file(upload_directory(self._directory, record.upload_id), name)
        if found is None or found[0].size_bytes > size_bytes_max:
            raise VaultStoreError("file-damaged")
        content = found[1].read_bytes()
        if listed is not None and hashlib.sha256(content).hexdigest() != listed.sha256:
            raise VaultStoreError("file-damaged")
        return content

    def _keys_add(self, record: CommitRecord) -> None:
        refused: list[EnvelopeError] = []
        added = 0
        for file in record.commitment.files:
            if not (file.name.startswith("key-") and file.name.endswith(".jwe")):
                continue
            try:
                self._opener.add_key(self.content(record, file.name, size_bytes_max=KEY_DOCUMENT_BYTES_MAX))
                added += 1
            except EnvelopeError as error:
                refused.append(error)  # most often sealed for another recipient, beside ours
        added += self._rewrapped_add(record)
        if not added:
            raise refused[0] if refused else EnvelopeError("key-unknown")

    def _rewrapped_add(self, record: CommitRecord) -> int:
        """Adds what the recipient has made for this key later on; a forged one among them opens nothing."""
        folder = upload_directory(self._directory, record.upload_id) / REWRAPPED_DIRECTORY
        added = 0
        for path in sorted(folder.glob(f"key-*-{self._kid}.jwe")):
            try:
                with path.open("rb") as file:
                    self._opener.add_key(file.read(KEY_DOCUMENT_BYTES_MAX + 1))
                added += 1
            except EnvelopeError:
                continue  # what it should have opened says so itself
        return added

    def source(self, upload_id: str, entry: MapFile) -> Path:
        """Returns where the sealed file of a map entry lies; `file-damaged` when it is not there with that size."""
        found = stored_file(upload_directory(self._directory, upload_id), entry.name)
        if found is None or (found[0].size_bytes, found[0].sha256) != (entry.sealed_size_bytes, entry.sealed_sha256):
            raise VaultStoreError("file-damaged")
        return found[1]


def _committed(directory: Path, upload_id: str, *, gateway_fingerprint: str | None) -> CommitRecord:
    if not upload_directory(directory, upload_id).is_dir():
        raise VaultStoreError("upload-unknown")
    record = commit_record_read(directory, upload_id)
    if record is None:
        raise VaultStoreError("not-committed")
    if (upload_directory(directory, upload_id) / REMOVED_FILE).exists():
        raise VaultStoreError("upload-removed")
    if gateway_fingerprint is not None and not fingerprint_matches(gateway_fingerprint, record.gateway_jwk):
        raise VaultStoreError("gateway-unexpected")
    return record


def _receipt(directory: Path, record: CommitRecord) -> Receipt:
    """Verified under the vault's receipt key, or the one before that the receipt names."""
    jwk = vault_receipt_jwks(directory).get(signer_claimed(record.receipt), vault_receipt_jwk(directory))
    return receipt_verify(record.receipt, jwk, commitment_token=record.commitment_token, commitment=record.commitment)


def _octets_check(upload: Path, file: StoredFile) -> None:
    found = stored_file(upload, file.name)
    if found is None or found[0] != file:
        raise VaultStoreError("file-damaged")
    with found[1].open("rb") as source:
        if hashlib.file_digest(source, "sha256").hexdigest() != file.sha256:
            raise VaultStoreError("file-damaged")


def _target_prepare(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise VaultStoreError("target-in-use")
    directory_make(target)


def _file_open(session: Session, record: CommitRecord, entry: MapFile, path: Path) -> OpenedFile:
    origin = session.record(entry.upload_id, gateway_fingerprint=fingerprint(record.gateway_jwk))
    source_path = session.source(origin.upload_id, entry)
    # The run's own word on whose it is: the map is signed, so a run of another upload cannot slip in.
    run = session.opener.run(entry.run_id)
    if (run.upload_id, run.gateway_id) != (entry.upload_id, record.gateway_id):
        raise VaultStoreError("map-invalid")
    part = path.with_name(f".{path.name}.part")
    try:
        with source_path.open("rb") as source, os.fdopen(file_create(part), "wb") as sink:
            found = session.opener.open(
                source, sink, file_id=entry.file_id, content_size_bytes=entry.size_bytes, content_sha256=entry.sha256
            )
            if (found.run_id, found.sha256, found.size_bytes) != (
                entry.run_id,
                entry.sealed_sha256,
                entry.sealed_size_bytes,
            ):
                raise VaultStoreError("file-damaged")
            sink.flush()
            os.fsync(sink.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return OpenedFile(
        path=path.name,
        sop_instance_uid=entry.sop_instance_uid,
        sop_class_uid=entry.sop_class_uid,
        series_instance_uid=entry.series_instance_uid,
        transfer_syntax_uid=entry.transfer_syntax_uid,
        size_bytes=found.content_size_bytes,
        sha256=found.content_sha256,
    )


def _documents_open(session: Session, record: CommitRecord, target: Path) -> list[str]:
    """Writes info.json and metadata.json where the upload has them; both are signed by the gateway like the map."""
    written = []
    listed = {file.name for file in record.commitment.files}
    for kind in DOCUMENTS:
        if f"{kind}.jwe" not in listed:
            continue
        document = session.opener.open_document(
            session.content(record, f"{kind}.jwe"), kind=kind, gateway_jwk=record.gateway_jwk
        )
        file_write(target / f"{kind}.json", json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
        written.append(f"{kind}.json")
    return written
