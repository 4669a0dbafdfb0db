"""A vault in memory that keeps to docs/vault-api.md, can be told to fail at any call, and can be looked into."""

import contextlib
import datetime as dt
import hashlib
import io
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import PrivateKey, jwk_from_key, key_generate, thumbprint
from uploads.envelope.receipt import Commitment, StoredFile, commitment_verify, receipt_sign
from uploads.envelope.unseal import Opener
from uploads.ports import UploadPage, UploadState, VaultDescription, VaultError, VerifyPage
from uploads.vault.study_map import StudyMap, study_map_parse

BLOCK_BYTES = 16 * 1024
RECIPIENT = key_generate()
SIGNER = key_generate()


@dataclass
class Committed:
    token: str
    commitment: Commitment
    receipt: str


@dataclass
class MemoryVault:
    """An `ArchivePort`. `calls` holds what was asked; `before` and `after` are called around each with its number."""

    gateway_jwk: dict[str, str]
    vault_id: str = "vault-01"
    gateway_id: str = "gateway-01"
    demonstration: bool = False
    receipt_jwk: dict[str, str] = field(default_factory=lambda: jwk_from_key(SIGNER))
    recipients: dict[str, dict[str, str]] = field(
        default_factory=lambda: {thumbprint(jwk_from_key(RECIPIENT)): jwk_from_key(RECIPIENT)}
    )
    uploads: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: dict[str, Committed] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    opener_key: PrivateKey = RECIPIENT
    before: Callable[[int, str], None] = lambda _number, _call: None
    after: Callable[[int, str], None] = lambda _number, _call: None
    receipt_changed: Callable[[str], str] = lambda receipt: receipt
    counting: threading.Lock = field(default_factory=threading.Lock)

    def _called(self, call: str, effect: Callable[[], Any]) -> Any:
        with self.counting:
            self.calls.append(call)
            number = len(self.calls)
        self.before(number, call)
        answer = effect()
        self.after(number, call)
        return answer

    def describe(self) -> VaultDescription:
        description = VaultDescription(self.vault_id, self.receipt_jwk, 1, self.demonstration)
        return self._called("describe", lambda: description)

    def recipient_key(self, key_id: str) -> dict[str, str]:
        def effect() -> dict[str, str]:
            if key_id not in self.recipients:
                raise VaultError("key-unknown", "The vault does not know the key.", lane_fault=True)
            return self.recipients[key_id]

        return self._called("recipient_key", effect)

    def upload_state(self, upload_id: str) -> UploadState:
        def effect() -> UploadState:
            files = {name: stored(name, content) for name, content in self.uploads.get(upload_id, {}).items()}
            committed = self.commits.get(upload_id)
            return UploadState(files, committed.receipt if committed else None)

        return self._called("upload_state", effect)

    def put(
        self,
        upload_id: str,
        name: str,
        source: BinaryIO | bytes,
        *,
        size_bytes: int,
        sha256: str,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        def effect() -> None:
            content, stream = b"", io.BytesIO(source) if isinstance(source, bytes) else source
            while block := stream.read(min(BLOCK_BYTES, size_bytes - len(content))):
                content += block
                if on_progress is not None:
                    on_progress(len(content))
            if stored(name, content) != StoredFile(name, size_bytes, sha256):
                raise VaultError("source-changed", "The staged ciphertext is not what was sealed.")
            self._put(upload_id, name, content)

        self._called(f"put {name}", effect)

    def _put(self, upload_id: str, name: str, content: bytes) -> None:
        files = self.uploads.setdefault(upload_id, {})
        if name in files and files[name] != content:
            raise VaultError("content-conflict", "Other content has this name.", permanent=True)
        if name not in files and upload_id in self.commits:
            raise VaultError("upload-sealed", "The upload is committed.", permanent=True)
        files[name] = content

    def commit(self, upload_id: str, commitment: str) -> str:
        return self._called(
            f"commit {upload_id}", lambda: self.receipt_changed(self._commit(upload_id, commitment).receipt)
        )

    def _commit(self, upload_id: str, token: str) -> Committed:
        try:
            commitment = commitment_verify(token, self.gateway_jwk)
        except EnvelopeError as error:
            raise VaultError("commitment-invalid", "The vault rejects the request.", permanent=True) from error
        said = (commitment.upload_id, commitment.gateway_id, commitment.vault_id)
        if said != (upload_id, self.gateway_id, self.vault_id):
            raise VaultError("commitment-mismatch", "Another upload.", permanent=True)
        known = self.commits.get(upload_id)
        if known is not None:
            if known.token != token:
                raise VaultError("upload-committed", "Closed with other files.", permanent=True)
            return known
        files = self.uploads.get(upload_id, {})
        if any(file.name not in files or stored(file.name, files[file.name]) != file for file in commitment.files):
            raise VaultError("file-missing", "The vault lacks a file of the upload.")
        if commitment.map_sha256 != stored("map.jwe", files["map.jwe"]).sha256:
            raise VaultError("commitment-mismatch", "Another map.", permanent=True)
        receipt = receipt_sign(
            token,
            commitment,
            receipt_id=secrets.token_hex(16),
            stored_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            demonstration=self.demonstration,
            key=SIGNER,
        )
        return self.commits.setdefault(upload_id, Committed(token, commitment, receipt))

    def verify(self, upload_id: str, *, after: str = "") -> VerifyPage:
        """Two files a page, so that there is always a next one."""

        def effect() -> VerifyPage:
            committed = self.commits.get(upload_id)
            if committed is None:
                raise VaultError("not-committed", "The vault rejects the request.", permanent=True)
            files = sorted(committed.commitment.files, key=lambda file: file.name)
            page = [file for file in files if file.name > after][:2]
            held = self.uploads.get(upload_id, {})
            damaged = tuple(f.name for f in page if f.name not in held or stored(f.name, held[f.name]) != f)
            last = not page or page[-1] == files[-1]
            return VerifyPage(len(files), len(page), damaged, None if last else page[-1].name)

        return self._called(f"verify {upload_id}", effect)

    def uploads_page(self, *, after: str = "") -> UploadPage:
        known = sorted(upload_id for upload_id in self.uploads if upload_id > after)
        page = tuple((upload_id, upload_id in self.commits) for upload_id in known)
        return self._called("uploads", lambda: UploadPage(page, None))

    # Looking into it, as the recipient

    def puts(self) -> list[str]:
        return [call.removeprefix("put ") for call in self.calls if call.startswith("put ")]

    def opener(self, *upload_ids: str) -> Opener:
        opener = Opener(self.opener_key)
        for upload_id in upload_ids:
            for file in self.commits[upload_id].commitment.files:
                if file.name.startswith("key-"):
                    with contextlib.suppress(EnvelopeError):  # for another recipient, beside ours
                        opener.add_key(self.uploads[upload_id][file.name])
        return opener

    def document(self, upload_id: str, kind: str) -> dict[str, Any]:
        content = self.uploads[upload_id][f"{kind}.jwe"]
        return self.opener(upload_id).open_document(content, kind=kind, gateway_jwk=self.gateway_jwk)

    def opened(self, upload_id: str) -> dict[tuple[str, int], bytes]:
        """Every file that the map lists, in this upload and in earlier ones: content by instance and version."""
        document = self.document(upload_id, "map")
        study_map: StudyMap = study_map_parse(document, upload_id=upload_id)
        opener, found = self.opener(upload_id, *study_map.previous), {}
        for entry, raw in zip(study_map.files, document["files"], strict=True):
            sink = io.BytesIO()
            opener.open(
                io.BytesIO(self.uploads[entry.upload_id][entry.name]),
                sink,
                file_id=entry.file_id,
                content_size_bytes=entry.size_bytes,
                content_sha256=entry.sha256,
            )
            found[entry.sop_instance_uid, raw["version"]] = sink.getvalue()
        return found


def stored(name: str, content: bytes) -> StoredFile:
    return StoredFile(name, len(content), hashlib.sha256(content).hexdigest())


def lane_error(number: int) -> VaultError:
    return VaultError("server-error", f"The vault has an error of its own ({number}).", lane_fault=True)
