"""One upload: seal what is not sealed, send what is not confirmed, commit, verify the receipt. Repeatable at any point."""

import hashlib
import logging
import secrets
import time
import os
from typing import BinaryIO

from django.db.models import F

from gateway_project.core.clock import database_now
from gateway_project.core.processes import stopping
from gateway_project.core.errors import JobFault, StopAskedError
from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.jobs import job_done, job_note, job_progress
from studies.dicom.spool import Store
from studies.models import Instance
from studies.selectors import revision_instances
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import thumbprint
from uploads.envelope.receipt import Commitment, Receipt, StoredFile, commitment_sign, commitment_verify, receipt_verify
from uploads.envelope.seal import SealingRun
from uploads.models import UploadAttempt, UploadJob, UploadPart
from uploads.ports import VaultPort
from uploads.queue import QUEUE
from uploads.services.documents import study_info, study_map, study_metadata
from uploads.services.identity import identity_ensure, identity_jwk
from uploads.services.staging import Staging

logger = logging.getLogger(__name__)

DOCUMENTS = ("metadata", "info", "map")
LEASE_RENEWAL_SECONDS = 5.0
CONTENT_DAMAGED = "object-damaged"


class CheckedReader:
    """Reads a stored Part 10 file and hashes its data set on the way: its last `size_bytes` bytes."""

    def __init__(self, stream: BinaryIO, *, size_bytes: int) -> None:
        self._stream = stream
        self._skip = max(os.fstat(stream.fileno()).st_size - size_bytes, 0)
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(memoryview(data)[self._skip :])
        self._skip = max(self._skip - len(data), 0)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class Upload:
    """The state of one attempt in this process: the session key lives here and nowhere else."""

    def __init__(self, job: UploadJob, *, vault: VaultPort, store: Store) -> None:
        self._job = job
        self._vault = vault
        self._store = store
        self._staging = Staging(job.upload_id)
        self._run: SealingRun | None = None
        self._parts = {part.name: part for part in job.parts.select_related("job")}
        self._done_bytes = sum(p.content_size_bytes for p in self._parts.values() if p.confirmed_at)
        self._renewed = time.monotonic()

    def run(self) -> None:
        """Ends with the job done and the vault's receipt verified, or raises; what was confirmed is never sent again."""
        self._pins_check()
        self._staging.prepare(set(self._parts))
        if not self._job.commitment:
            self._files_send()
            self._documents_send()
            self._commitment_write()
        receipt = self._commit()
        failpoint("upload.receipted")
        job_done(QUEUE, self._job, now=database_now(), finish=lambda: self._finish(receipt))
        failpoint("upload.done")
        self._staging.clear()

    def _pins_check(self) -> None:
        """The vault must still show the recipient's and its own key as they were pinned; otherwise the lane stops for good."""
        pinned = self._job.vault
        description = self._vault.describe()
        if description.vault_id != pinned.vault_id or thumbprint(description.receipt_jwk) != thumbprint(
            pinned.receipt_jwk
        ):
            raise JobFault(
                "The vault shows another identity than the one pinned. Nothing was sent. Ask its operator before you resume.",
                code="vault-identity-differs",
                hard_stop=True,
            )
        offered = self._vault.recipient_key(pinned.recipient_key_id)
        if thumbprint(offered) != pinned.recipient_key_id:
            raise JobFault(
                "The vault offers another recipient key than the one pinned. Nothing was sent. Compare fingerprints first.",
                code="recipient-key-differs",
                hard_stop=True,
            )

    def _files_send(self) -> None:
        for number, instance in enumerate(revision_instances(self._job.revision), start=1):
            if stopping():
                raise StopAskedError
            name = f"file-{number:05d}.gve"
            part = self._parts.get(name) or self._seal(name, instance)
            if part.confirmed_at is None:
                self._send(part)
                self._done_bytes += part.content_size_bytes
                self._progress(0, force=True)

    def _sealing_run(self) -> SealingRun:
        """This attempt's session key; its key documents reach the vault before anything sealed with it."""
        if self._run is None:
            vault = self._job.vault
            self._run = SealingRun.start(
                upload_id=self._job.upload_id,
                recipients=[vault.recipient_jwk],
                gateway_id=str(option("INSTANCE.ID")),
                vault_id=vault.vault_id,
            )
            for document in self._run.key_documents:
                self._send(self._stage_bytes(document.name, document.content))
        return self._run

    def _seal(self, name: str, instance: Instance) -> UploadPart:
        run = self._sealing_run()
        file_id = secrets.token_hex(16)
        sealed = None

        def fill(sink: BinaryIO) -> None:
            nonlocal sealed
            with self._store.open(instance.path) as stream:
                source = CheckedReader(stream, size_bytes=instance.size_bytes)
                sealed = run.seal(source, sink, file_id=file_id, on_progress=self._progress)  # type: ignore[arg-type]
                if source.hexdigest() != instance.sha256:
                    raise JobFault(
                        "A stored object is not what was received (its hash differs). The upload waits for a person.",
                        code=CONTENT_DAMAGED,
                        permanent=True,
                    )

        self._staging.write(name, fill)
        failpoint("upload.sealed")
        if sealed is None:
            raise JobFault("Sealing did not happen.", code="internal")
        return self._part_write(
            name,
            sha256=sealed.sha256,
            size_bytes=sealed.size_bytes,
            instance=instance,
            file_id=file_id,
            run_id=sealed.run_id,
            content_sha256=sealed.content_sha256,
            content_size_bytes=sealed.content_size_bytes,
        )

    def _documents_send(self) -> None:
        """Metadata and info first, the map last: it is what the commitment stands on."""
        for kind in DOCUMENTS:
            name = f"{kind}.jwe"
            part = self._parts.get(name)
            if part is None:
                content = self._sealing_run().seal_document(self._document(kind), kind=kind, identity=identity_ensure())
                part = self._stage_bytes(name, content)
            if part.confirmed_at is None:
                self._send(part)

    def _document(self, kind: str) -> dict[str, object]:
        if kind == "map":
            return study_map(self._job, self._parts.values())
        return study_info(self._job) if kind == "info" else study_metadata(self._job)

    def _stage_bytes(self, name: str, content: bytes) -> UploadPart:
        self._staging.write(name, lambda sink: sink.write(content))
        return self._part_write(name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))

    def _part_write(self, name: str, **values: object) -> UploadPart:
        self._parts[name] = UploadPart.objects.create(job=self._job, name=name, staged_at=database_now(), **values)
        failpoint("upload.staged")
        return self._parts[name]

    def _send(self, part: UploadPart) -> None:
        """The vault keeps exactly these bytes on return, and our row says so. Sending them again is harmless."""
        source = self._staging.open(part.name)
        if source is None:
            self._confirm_lost(part)
            return
        with source:
            self._vault.put(
                self._job.upload_id,
                part.name,
                source,
                size_bytes=part.size_bytes,
                sha256=part.sha256,
                on_progress=lambda _bytes: self._progress(0),
            )
        failpoint("upload.sent")
        self._confirm(part)

    def _confirm(self, part: UploadPart) -> None:
        part.confirmed_at = database_now()
        part.save(update_fields=["confirmed_at"])
        UploadAttempt.objects.filter(claim_id=self._job.claim_id).update(
            files_sent=F("files_sent") + 1, bytes_sent=F("bytes_sent") + part.size_bytes
        )
        failpoint("upload.confirmed")
        self._staging.remove(part.name)

    def _confirm_lost(self, part: UploadPart) -> None:
        """The staged copy is gone: fine if the vault has the bytes; otherwise the part is sealed anew under the same name."""
        stored = self._vault.upload_state(self._job.upload_id).files.get(part.name)
        if stored is not None and stored.sha256 == part.sha256:
            self._confirm(part)
            return
        part.delete()
        del self._parts[part.name]
        raise JobFault("A sealed file was lost before it was sent; it is sealed again.", code="staging-lost")

    def _commitment_write(self) -> None:
        """What we stand for, signed and kept before the vault sees it: after a crash the very same is sent again."""
        commitment = Commitment(
            upload_id=self._job.upload_id,
            gateway_id=str(option("INSTANCE.ID")),
            vault_id=self._job.vault.vault_id,
            map_sha256=self._parts["map.jwe"].sha256,
            files=tuple(
                StoredFile(name=p.name, size_bytes=p.size_bytes, sha256=p.sha256)
                for p in sorted(self._parts.values(), key=lambda p: p.name)
            ),
        )
        token = commitment_sign(commitment, identity=identity_ensure())
        job_note(self._job, commitment=token)
        failpoint("upload.committing")

    def _commit(self) -> Receipt:
        token = self._job.commitment
        commitment = commitment_verify(token, identity_jwk())
        answer = self._vault.commit(self._job.upload_id, token)
        failpoint("upload.answered")
        try:
            receipt = receipt_verify(answer, self._job.vault.receipt_jwk, commitment_token=token, commitment=commitment)
        except EnvelopeError as error:
            raise JobFault(
                "The vault's receipt does not hold: it is not taken as proof. Ask the vault's operator.",
                code=f"receipt-{error.code}"[:64],
                hard_stop=True,
            ) from error
        self._receipt_token = answer
        return receipt

    def _finish(self, receipt: Receipt) -> None:
        """Runs inside the transaction that marks the job done."""
        job_note(self._job, receipt=self._receipt_token, receipt_id=receipt.receipt_id, receipt_at=database_now())
        audit_record(
            AuditEventType.DATA_EXPORT,
            actor="process:upload",
            subject=f"study:{self._job.revision.study_id}",
            detail={
                "action": "uploaded",
                "vault": self._job.vault_id,
                "revision": self._job.revision.number,
                "upload_id": self._job.upload_id,
                "receipt_id": receipt.receipt_id,
                "files": len(receipt.files),
            },
        )

    def _progress(self, _bytes: int, *, force: bool = False) -> None:
        """Renews the lease, because something moved; at most every few seconds unless a file has just been finished."""
        if force or time.monotonic() - self._renewed > LEASE_RENEWAL_SECONDS:
            self._renewed = time.monotonic()
            total = self._job.revision.size_bytes
            job_progress(QUEUE, self._job, done=min(self._done_bytes, total), total=total, now=database_now())
