"""One upload: seal what is not sealed, send what is not confirmed, commit, verify the receipt. All may be repeated."""

import hashlib
import secrets
import time
from collections.abc import Iterable
from typing import BinaryIO

from django.db import transaction
from django.db.models import F

from gateway_project.core.clock import database_now
from gateway_project.core.errors import JobFault, StopAskedError
from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.processes import stopping
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.jobs import job_done, job_note, job_progress
from studies.dicom.spool import Store
from studies.models import Instance
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.receipt import Commitment, Receipt, StoredFile, commitment_sign, commitment_verify, receipt_verify
from uploads.envelope.seal import Sealed, SealingRun
from uploads.models import UploadAttempt, UploadJob, UploadPart
from uploads.ports import VaultError, VaultPort
from uploads.queue import QUEUE
from uploads.selectors import earlier_unfinished, upload_instances
from uploads.services.anew import ANEW_BY_ITSELF, KEY_ROTATED, UPLOAD_CLOSED, upload_renewed
from uploads.services.documents import study_info, study_map, study_metadata
from uploads.services.identity import identity_ensure, identity_jwk
from uploads.services.pins import pins_verify, recipients_settle
from uploads.services.plan import EARLIER_REVISION, uploads_follow
from uploads.services.staging import Staging
from uploads.services.stored import stored_object

ACTOR = "process:upload"
DOCUMENTS = ("metadata", "info", "map")
LEASE_RENEWAL_SECONDS = 5.0


class Upload:
    """The state of one attempt in this process: the session key lives here and nowhere else.

    Everything it writes is fenced by the job's claim, in the transaction of the write itself: a worker that has lost
    its lease changes nothing any more. No name is put before its row is committed, and a row never changes its hash.
    """

    def __init__(self, job: UploadJob, *, vault: VaultPort, store: Store) -> None:
        self._job = job
        self._vault = vault
        self._store = store
        self._staging = Staging(job.upload_id)
        self._run: SealingRun | None = None
        self._parts: dict[str, UploadPart] = {}
        self._files_done = 0
        self._done_bytes = 0
        self._total_bytes = job.revision.size_bytes
        self._renewed = time.monotonic()
        self._receipt_token = ""

    def run(self) -> None:
        """Ends with the job done and the vault's receipt verified, or raises; what was confirmed is never sent again.

        When gateway and vault no longer agree (a confirmed file is gone, a name holds other content, a staged copy is
        lost or damaged) and the vault has not closed the upload, it is begun anew under a fresh upload id: a name never
        stands for two contents, and what the vault has forgotten we have no longer. Raises JobFault, VaultError,
        EnvelopeError, SpoolError, LeaseLostError, StopAskedError.
        """
        self._order_check()
        pins_verify(self._job.vault, self._vault)
        self._renew()
        try:
            if not self._job.commitment:
                self._send_all()
            receipt = self._commit()
        except (VaultError, JobFault) as error:
            if error.code in ANEW_BY_ITSELF:
                self._begin_anew(error.code)
            raise
        failpoint("upload.receipted")
        self._staging.clear()
        job_done(QUEUE, self._job, now=database_now(), finish=lambda: self._finish(receipt))
        failpoint("upload.done")
        uploads_follow(self._job, now=database_now())

    def _order_check(self) -> None:
        """A revision goes to a vault after the earlier ones: its map refers to their files by upload id and name."""
        if earlier_unfinished(self._job).exists():
            raise JobFault(
                "An earlier revision of this study is not in this vault yet. This one follows it.",
                code=EARLIER_REVISION,
            )

    def _send_all(self) -> None:
        """On return the vault has confirmed everything, and what we stand for is signed and kept."""
        self._parts = {part.name: part for part in self._job.parts.select_related("job").order_by("pk")}
        confirmed = [part for part in self._parts.values() if part.confirmed_at is not None]
        self._files_done = sum(part.instance_id is not None for part in confirmed)
        self._done_bytes = sum(part.content_size_bytes for part in confirmed)
        waiting = [part for part in self._parts.values() if part.confirmed_at is None]
        self._staging.prepare({part.sha256 for part in waiting})
        for part in waiting:  # in the order of sealing: a run's key documents before what is sealed under it
            self._send(part)
        self._files_send(upload_instances(self._job))
        self._documents_send()
        self._commitment_write()

    def _files_send(self, instances: Iterable[Instance]) -> None:
        """A file's number follows those that have one already, so a name is never given twice."""
        sealed = {part.instance_id for part in self._parts.values() if part.instance_id is not None}
        missing = [instance for instance in instances if instance.pk not in sealed]
        self._total_bytes = self._done_bytes + sum(instance.size_bytes for instance in missing)
        job_note(self._job, files_total=len(sealed) + len(missing))
        for number, instance in enumerate(missing, start=len(sealed) + 1):
            self._send(self._seal(f"file-{number:05d}.gve", instance))

    def _sealing_run(self) -> SealingRun:
        """This attempt's session key; its key documents reach the vault before anything sealed with it."""
        if self._run is None:
            vault = self._job.vault
            run = SealingRun.start(
                upload_id=self._job.upload_id,
                recipients=recipients_settle(self._job),
                gateway_id=str(option("INSTANCE.ID")),
                vault_id=vault.vault_id,
            )
            for document in run.key_documents:
                self._send(self._stage_bytes(document.name, document.content))
            self._run = run
        return self._run

    def _seal(self, name: str, instance: Instance) -> UploadPart:
        run = self._sealing_run()

        def fill(sink: BinaryIO) -> Sealed:
            with stored_object(self._store, instance) as source:
                file_id = secrets.token_hex(16)
                return run.seal(source, sink, file_id=file_id, on_progress=lambda _read: self._progress(0))  # type: ignore[arg-type]

        sealed = self._staging.write(fill)
        failpoint("upload.sealed")
        return self._part_write(
            name,
            sha256=sealed.sha256,
            size_bytes=sealed.size_bytes,
            instance=instance,
            file_id=sealed.file_id,
            run_id=sealed.run_id,
            content_sha256=sealed.content_sha256,
            content_size_bytes=sealed.content_size_bytes,
        )

    def _documents_send(self) -> None:
        """Metadata and info first, the map last: it is what the commitment stands on."""
        for kind in DOCUMENTS:
            name = f"{kind}.jwe"
            if name not in self._parts:
                run = self._sealing_run()
                content = run.seal_document(self._document(kind), kind=kind, identity=identity_ensure())
                self._send(self._stage_bytes(name, content, run_id=run.run_id))

    def _document(self, kind: str) -> dict[str, object]:
        if kind == "map":
            return study_map(self._job, self._parts.values())
        return study_info(self._job) if kind == "info" else study_metadata(self._job)

    def _stage_bytes(self, name: str, content: bytes, *, run_id: str = "") -> UploadPart:
        stored = StoredFile(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

        def fill(sink: BinaryIO) -> StoredFile:
            sink.write(content)
            return stored

        self._staging.write(fill)
        return self._part_write(name, sha256=stored.sha256, size_bytes=stored.size_bytes, run_id=run_id)

    def _part_write(self, name: str, **values: object) -> UploadPart:
        with transaction.atomic():
            self._renew()
            part = UploadPart.objects.create(job=self._job, name=name, staged_at=database_now(), **values)
        self._parts[name] = part
        failpoint("upload.staged")
        return part

    def _send(self, part: UploadPart) -> None:
        """The vault keeps exactly these bytes on return, and our row says so. Sending them again is harmless."""
        source = self._staging.open(part.sha256)
        if source is None:
            self._staged_lost(part)
        else:
            with source:
                self._vault.put(
                    self._job.upload_id,
                    part.name,
                    source,
                    size_bytes=part.size_bytes,
                    sha256=part.sha256,
                    on_progress=lambda sent: self._progress(sent * part.content_size_bytes // part.size_bytes),
                )
            failpoint("upload.sent")
        self._confirm(part)

    def _staged_lost(self, part: UploadPart) -> None:
        """The staged copy is gone: fine if the vault has the very bytes, otherwise the upload is begun anew."""
        stored = self._vault.upload_state(self._job.upload_id).files.get(part.name)
        if stored is None or stored.sha256 != part.sha256:
            raise JobFault("A sealed file was lost before it was sent.", code="staging-lost")

    def _confirm(self, part: UploadPart) -> None:
        part.confirmed_at = database_now()
        done_bytes = self._done_bytes + part.content_size_bytes
        files_done = self._files_done + (part.instance_id is not None)
        with transaction.atomic():
            self._renew(done_bytes)
            part.save(update_fields=["confirmed_at"])
            UploadAttempt.objects.filter(job=self._job, result="running").update(
                files_sent=F("files_sent") + 1, bytes_sent=F("bytes_sent") + part.size_bytes
            )
            job_note(self._job, files_done=files_done)
        self._done_bytes, self._files_done = done_bytes, files_done
        failpoint("upload.confirmed")
        self._staging.remove(part.sha256)

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
        self._renew()
        answer = self._vault.commit(self._job.upload_id, token)
        failpoint("upload.answered")
        try:
            receipt = receipt_verify(answer, self._job.vault.receipt_jwk, commitment_token=token, commitment=commitment)
        except EnvelopeError as error:
            raise JobFault(
                "The vault's receipt does not hold: it is not taken as proof. Ask the vault's operator.",
                code=f"receipt-{error.code.removeprefix('receipt-')}",
                hard_stop=True,
            ) from error
        self._receipt_token = answer
        return receipt

    def _finish(self, receipt: Receipt) -> None:
        """Runs inside the transaction that marks the job done."""
        job_note(self._job, receipt=self._receipt_token, receipt_id=receipt.receipt_id, receipt_at=database_now())
        audit_record(
            AuditEventType.DATA_EXPORT,
            actor=ACTOR,
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

    def _begin_anew(self, code: str) -> None:
        """Raises JobFault in every case: the upload has a fresh id and waits its turn, or the vault has closed it."""
        if self._vault.upload_state(self._job.upload_id).receipt is not None:
            raise JobFault(
                "The vault has closed this upload with other files than ours. "
                "Trying again sends the study as a new upload.",
                code=UPLOAD_CLOSED,
                permanent=True,
            )
        with transaction.atomic():
            self._renew(0)
            job_note(self._job, **upload_renewed(self._job, code=code, actor=ACTOR))
        why = "The vault no longer has what it had confirmed, or a sealed copy was lost here."
        if code == KEY_ROTATED:
            why = "The recipient's key was changed while this upload was under way."
        raise JobFault(f"{why} The study is sent again as a new upload.", code="upload-begun-anew")

    def _progress(self, content_bytes: int) -> None:
        """Called as bytes move: ends the attempt when a stop is asked, and renews the lease every few seconds."""
        if stopping():
            raise StopAskedError
        if time.monotonic() - self._renewed > LEASE_RENEWAL_SECONDS:
            self._renew(self._done_bytes + content_bytes)

    def _renew(self, done_bytes: int | None = None) -> None:
        """This is still our job, its lease lives on; in a transaction it stays ours to the end. Else LeaseLostError."""
        done = min(self._done_bytes if done_bytes is None else done_bytes, self._total_bytes)
        job_progress(QUEUE, self._job, done=done, total=self._total_bytes, now=database_now())
        self._renewed = time.monotonic()
