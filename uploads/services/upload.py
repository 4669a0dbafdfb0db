"""One upload: seal what is not sealed, send what is not confirmed, commit, verify the receipt. All may be repeated."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from typing import BinaryIO

from django.db import transaction

from gateway_project.core.clock import database_now
from gateway_project.core.errors import JobFault
from gateway_project.core.failpoint import failpoint
from gateway_project.core.options import option
from gateway_project.core.services.jobs import job_done, job_note
from studies.dicom.spool import Store
from studies.models import Instance
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.receipt import Commitment, Receipt, StoredFile, commitment_sign, commitment_verify, receipt_verify
from uploads.envelope.seal import SealingRun
from uploads.models import UploadJob, UploadPart
from uploads.ports import VaultError, VaultPort
from uploads.queue import QUEUE
from uploads.selectors import gateway_id_at, upload_instances, upload_study
from uploads.services.anew import ANEW_BY_ITSELF, KEY_ROTATED, UPLOAD_CLOSED, upload_renewed
from uploads.services.attempt import ACTOR, order_check, upload_recorded
from uploads.services.conveyor import Conveyor, Sealing
from uploads.services.documents import study_info, study_map, study_metadata
from uploads.services.identity import identity_ensure, identity_jwk
from uploads.services.ledger import Ledger
from uploads.services.limits import Limits
from uploads.services.pins import pins_verify, recipients_settle
from uploads.services.plan import uploads_follow
from uploads.services.stored import stored_object

DOCUMENTS = ("metadata", "info")
MAP = "map"


class Upload:
    """The state of one attempt in this process: the session key lives here and nowhere else.

    Everything it writes is fenced by the job's claim (services.ledger); files move on a conveyor (services.conveyor).
    """

    def __init__(self, job: UploadJob, *, vault: VaultPort, store: Store) -> None:
        self._job = job
        self._vault = vault
        self._store = store
        self._ledger = Ledger(job)
        self._run: SealingRun | None = None
        self._study: list[Instance] = []
        self._receipt_token = ""

    def run(self) -> None:
        """Ends with the job done and the vault's receipt verified, or raises; what was confirmed is never sent again.

        When gateway and vault no longer agree (a confirmed file is gone, a name holds other content, a staged copy is
        lost or damaged) and the vault has not closed the upload, it is begun anew under a fresh upload id: a name never
        stands for two contents, and what the vault has forgotten we have no longer. Raises JobFault, VaultError,
        EnvelopeError, SpoolError, LeaseLostError, JobWaitsError, LaneWaitsError, StopAskedError.
        """
        order_check(self._job)
        pins_verify(self._job.vault, self._vault)
        self._ledger.renew()
        try:
            if not self._job.commitment:
                self._send_all()
            receipt = self._commit()
        except (VaultError, JobFault) as error:
            if error.code in ANEW_BY_ITSELF:
                self._begin_anew(error.code)
            raise
        failpoint("upload.receipted")
        self._ledger.staging.clear()
        job_done(QUEUE, self._job, now=database_now(), finish=lambda: self._finish(receipt))
        failpoint("upload.done")
        uploads_follow(self._job, now=database_now())

    def _send_all(self) -> None:
        """On return the vault has confirmed everything, and what we stand for is signed and kept.

        In the order of sealing: a run's key documents reach the vault before anything sealed under it, the map comes
        last: it is what the commitment stands on. Everything between travels side by side.
        """
        ledger = self._ledger
        ledger.load()
        self._arrived_note()
        self._study = upload_study(self._job)
        width = option("UPLOAD.PARALLEL_FILES")
        limits = Limits(self._job.vault, now=database_now())
        upload_id = self._job.upload_id
        with Conveyor(ledger, vault=self._vault, limits=limits, upload_id=upload_id, width=width) as conveyor:
            conveyor.run([part for part in ledger.waiting() if part.name.startswith("key-")], ())
            waiting = ledger.waiting()
            sealings = chain(self._file_sealings(conveyor), self._document_sealings(conveyor, DOCUMENTS))
            conveyor.run(waiting, sealings)
            conveyor.run((), self._document_sealings(conveyor, (MAP,)))
        self._commitment_write()

    def _arrived_note(self) -> None:
        """What an earlier attempt had sent without hearing so is confirmed: the vault is asked, once."""
        waiting = self._ledger.waiting()
        if not waiting:
            return
        stored = self._vault.upload_state(self._job.upload_id).files
        arrived = [part for part in waiting if stored.get(part.name) == part_file(part)]
        if arrived:
            self._ledger.record((), arrived, by_us=False)
            self._ledger.staging.remove([part.sha256 for part in arrived])

    def _file_sealings(self, conveyor: Conveyor) -> list[Sealing]:
        """Names are numbers that no file of this upload has yet: a name is never given twice."""
        sealed = {part.instance_id for part in self._ledger.parts.values() if part.instance_id is not None}
        wanted = set(upload_instances(self._job).values_list("pk", flat=True)) - sealed
        missing = [instance for instance in self._study if instance.pk in wanted]
        self._ledger.files_planned(
            len(sealed) + len(missing), missing_bytes=sum(instance.size_bytes for instance in missing)
        )
        if not missing:
            return []
        run = self._sealing_run(conveyor)
        return [
            Sealing(instance.size_bytes, self._file_fill(run, name, instance, conveyor))
            for name, instance in zip(self._free_names(), missing, strict=False)
        ]

    def _free_names(self) -> Iterator[str]:
        names = (f"file-{number:05d}.gve" for number in count(1))
        return (name for name in names if name not in self._ledger.parts)

    def _file_fill(
        self, run: SealingRun, name: str, instance: Instance, conveyor: Conveyor
    ) -> Callable[[BinaryIO], UploadPart]:
        def moved(_read_bytes: int) -> None:
            conveyor.stepped()

        def fill(sink: BinaryIO) -> UploadPart:
            with stored_object(self._store, instance) as source:
                sealed = run.seal(source, sink, file_id=secrets.token_hex(16), on_progress=moved)  # type: ignore[arg-type]
            failpoint("upload.sealed")
            return UploadPart(
                job=self._job,
                name=name,
                sha256=sealed.sha256,
                size_bytes=sealed.size_bytes,
                instance=instance,
                file_id=sealed.file_id,
                run_id=sealed.run_id,
                content_sha256=sealed.content_sha256,
                content_size_bytes=sealed.content_size_bytes,
            )

        return fill

    def _sealing_run(self, conveyor: Conveyor) -> SealingRun:
        """This attempt's session key; its key documents reach the vault before anything sealed with it."""
        if self._run is None:
            vault = self._job.vault
            run = SealingRun.start(
                upload_id=self._job.upload_id,
                recipients=recipients_settle(self._job),
                gateway_id=gateway_id_at(vault),
                vault_id=vault.vault_id,
            )
            conveyor.lead(self._bytes_sealing(document.name, document.content) for document in run.key_documents)
            self._run = run
        return self._run

    def _document_sealings(self, conveyor: Conveyor, kinds: Sequence[str]) -> Iterator[Sealing]:
        for kind in kinds:
            name = f"{kind}.jwe"
            if name not in self._ledger.parts:
                run = self._sealing_run(conveyor)
                content = run.seal_document(self._document(kind), kind=kind, identity=identity_ensure())
                yield self._bytes_sealing(name, content, run_id=run.run_id)

    def _document(self, kind: str) -> dict[str, object]:
        if kind == MAP:
            return study_map(self._job, self._ledger.parts.values(), self._study)
        return study_info(self._job) if kind == "info" else study_metadata(self._job, self._study)

    def _bytes_sealing(self, name: str, content: bytes, *, run_id: str = "") -> Sealing:
        sha256 = hashlib.sha256(content).hexdigest()

        def fill(sink: BinaryIO) -> UploadPart:
            sink.write(content)
            return UploadPart(job=self._job, name=name, sha256=sha256, size_bytes=len(content), run_id=run_id)

        return Sealing(len(content), fill)

    def _commitment_write(self) -> None:
        """What we stand for, signed and kept before the vault sees it: after a crash the very same is sent again."""
        commitment = Commitment(
            upload_id=self._job.upload_id,
            gateway_id=gateway_id_at(self._job.vault),
            vault_id=self._job.vault.vault_id,
            map_sha256=self._ledger.parts["map.jwe"].sha256,
            files=tuple(part_file(part) for part in sorted(self._ledger.parts.values(), key=lambda part: part.name)),
        )
        token = commitment_sign(commitment, identity=identity_ensure())
        job_note(self._job, commitment=token)
        failpoint("upload.committing")

    def _commit(self) -> Receipt:
        token = self._job.commitment
        commitment = commitment_verify(token, identity_jwk())
        self._ledger.renew()
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
        if receipt.demonstration and not self._job.vault.demonstration:
            raise JobFault(
                "The vault's receipt is marked as a demonstration's: it is no proof. Ask the vault's operator.",
                code="receipt-mismatch",
                hard_stop=True,
            )
        self._receipt_token = answer
        return receipt

    def _finish(self, receipt: Receipt) -> None:
        """Runs inside the transaction that marks the job done."""
        job_note(self._job, receipt=self._receipt_token, receipt_id=receipt.receipt_id, receipt_at=database_now())
        upload_recorded(self._job, files=len(receipt.files), receipt_id=receipt.receipt_id)

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
            self._ledger.renew(0)
            job_note(self._job, **upload_renewed(self._job, code=code, actor=ACTOR))
        why = "The vault no longer has what it had confirmed, or a sealed copy was lost here."
        if code == KEY_ROTATED:
            why = "The recipient's key was changed while this upload was under way."
        raise JobFault(f"{why} The study is sent again as a new upload.", code="upload-begun-anew")


def part_file(part: UploadPart) -> StoredFile:
    """The part as the vault knows it."""
    return StoredFile(name=part.name, size_bytes=part.size_bytes, sha256=part.sha256)
