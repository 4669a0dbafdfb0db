"""A whole upload as a gateway makes it: sealed files, documents and commitment, ready for any vault."""

import hashlib
import io
import secrets
from dataclasses import dataclass, field

from uploads.envelope.keys import PrivateKey
from uploads.envelope.receipt import Commitment, StoredFile, commitment_sign
from uploads.envelope.seal import SealingRun

STUDY_UID = "1.2.826.0.1.3680043.10.99.1"


@dataclass
class SealedUpload:
    upload_id: str
    files: dict[str, bytes]
    entries: list[dict[str, object]]
    commitment: Commitment
    token: str
    contents: list[bytes] = field(default_factory=list)


def stored(name: str, content: bytes) -> StoredFile:
    return StoredFile(name, len(content), hashlib.sha256(content).hexdigest())


def sealed_upload(
    contents: list[bytes],
    *,
    identity: PrivateKey,
    recipients: list[dict[str, str]],
    gateway_id: str = "gateway-01",
    vault_id: str = "vault-01",
    earlier: list[SealedUpload] | None = None,
    map_changes: dict[str, object] | None = None,
    entry_changes: dict[str, object] | None = None,
) -> SealedUpload:
    """Seals `contents`, one file each; the map lists those of `earlier` uploads first, as a later revision does."""
    upload_id = secrets.token_hex(16)
    run = SealingRun.start(upload_id=upload_id, recipients=recipients, gateway_id=gateway_id, vault_id=vault_id)
    files = {document.name: document.content for document in run.key_documents}
    entries = [entry for each in earlier or [] for entry in each.entries]
    own = []
    for number, content in enumerate(contents, start=1):
        sink = io.BytesIO()
        sealed = run.seal(io.BytesIO(content), sink, file_id=secrets.token_hex(16))
        name = f"file-{number:05}.gve"
        files[name] = sink.getvalue()
        own.append(
            {
                "name": name,
                "file_id": sealed.file_id,
                "run_id": sealed.run_id,
                "upload_id": upload_id,
                "sop_instance_uid": f"{STUDY_UID}.1.{len(entries) + number}",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
                "series_instance_uid": f"{STUDY_UID}.1",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1",
                "size_bytes": sealed.content_size_bytes,
                "sha256": sealed.content_sha256,
                "dataset_sha256": sealed.content_sha256,
                "sealed_size_bytes": sealed.size_bytes,
                "sealed_sha256": sealed.sha256,
                **(entry_changes or {}),
            }
        )
    document = {
        "version": 1,
        "upload_id": upload_id,
        "study_instance_uid": STUDY_UID,
        "revision": 1 + len(earlier or []),
        "previous": [each.upload_id for each in earlier or []],
        "files": entries + own,
        **(map_changes or {}),
    }
    files["info.jwe"] = run.seal_document({"message": "Study uploaded."}, kind="info", identity=identity)
    files["metadata.jwe"] = run.seal_document({"study": {"Modality": "CT"}}, kind="metadata", identity=identity)
    files["map.jwe"] = run.seal_document(document, kind="map", identity=identity)
    commitment = Commitment(
        upload_id=upload_id,
        gateway_id=gateway_id,
        vault_id=vault_id,
        map_sha256=hashlib.sha256(files["map.jwe"]).hexdigest(),
        files=tuple(stored(name, content) for name, content in files.items()),
    )
    token = commitment_sign(commitment, identity=identity)
    return SealedUpload(upload_id, files, [*entries, *own], commitment, token, contents)
