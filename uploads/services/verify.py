"""Verification: vaults are asked again and again whether they still have what they have signed for.

A receipt proves that a vault had an upload once. What it answers now is not signed: it tells us to act, no more.
"""

import logging
import time
from datetime import datetime

from django.db import transaction

from gateway_project.core.clock import database_now
from gateway_project.core.errors import JobFault, StopAskedError
from gateway_project.core.models import AuditEventType, JobState, Severity
from gateway_project.core.processes import stopping
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.bell import ring
from gateway_project.core.services.jobs import job_note, job_progress, job_subject
from uploads.models import LOST_CODES, VAULT_LOST, VAULT_REMOVED, UploadJob, Vault, VaultCheck
from uploads.ports import DELIVERY, ArchivePort, VaultError
from uploads.queue import VERIFY_NAME, VERIFY_QUEUE
from uploads.services.limits import Limits
from uploads.services.pins import pins_verify
from uploads.verification import upload_files_here, uploads_unverified, vaults_verifiable, verification_offered

logger = logging.getLogger(__name__)

ACTOR = "process:verify"
UPLOADS_AT_ONCE = 100
RUN_SECONDS = 60.0
"""Two bounds of one run: uploads share their workers with it. What is left is taken by the next one."""

_GONE = {
    "not-committed": (VAULT_LOST, "The vault does not know this upload any more."),
    "upload-removed": (VAULT_REMOVED, "The vault's operator has removed this upload."),
}


def checks_plan(now: datetime) -> int:
    """Every vault that has something to be asked for gets its check; answers how many. May be repeated."""
    planned = 0
    for vault in vaults_verifiable():
        if uploads_unverified(vault, now=now).exists() and verification_offered(vault, now=now):
            planned += _check_ready(vault, now)
    if planned:
        ring(VERIFY_NAME)
    return planned


def check_ask(vault: Vault, *, actor: str, now: datetime) -> None:
    """A person wants everything that this vault has verified, from now on and whatever its age."""
    with transaction.atomic():
        _check_ready(vault, now)
        VaultCheck.objects.filter(vault=vault).update(asked_at=now, offered=True)
        detail = {"action": "verification asked for"}
        audit_record(AuditEventType.CONFIGURATION, actor=actor, subject=f"vault:{vault.pk}", detail=detail)
        ring(VERIFY_NAME)


def _check_ready(vault: Vault, now: datetime) -> int:
    values = {"queue": VERIFY_NAME, "lane": vault.lane, "run_after": now, "created_at": now}
    _check, new = VaultCheck.objects.get_or_create(vault=vault, defaults=values)
    ended = VaultCheck.objects.filter(vault=vault, state__in=(JobState.DONE, JobState.PARKED))
    return int(new) + ended.update(state=JobState.READY, run_after=now, attempts=0, crashes=0, ended_at=None)


class VaultVerification:
    """One run: the uploads of one vault that were not verified for longest. Every write stands alone, so it may end
    anywhere and be repeated.
    """

    def __init__(self, check: VaultCheck, *, vault: ArchivePort) -> None:
        self._check = check
        self._vault = vault
        self._limits = Limits(check.vault, now=database_now())
        self._asked = 0

    def run(self) -> None:
        """Ends when nothing is due, or a run's bounds are reached. Raises JobFault, VaultError, LeaseLostError,
        LaneWaitsError, StopAskedError.
        """
        pins_verify(self._check.vault, self._vault)
        until = time.monotonic() + RUN_SECONDS
        due = list(uploads_unverified(self._check.vault, now=database_now())[:UPLOADS_AT_ONCE])
        for self._asked, job in enumerate(due):
            if time.monotonic() > until:
                break
            self._step(len(due))
            if not self._verify(job, len(due)):
                return

    def _step(self, total: int) -> None:
        if stopping():
            raise StopAskedError
        self._limits.check()
        job_progress(VERIFY_QUEUE, self._check, done=self._asked, total=total, now=database_now())

    def _verify(self, job: UploadJob, total: int) -> bool:
        """False when the vault has no words for this."""
        try:
            damaged, count = self._asked_for(job, total)
        except VaultError as error:
            if error.code in _GONE:
                code, words = _GONE[error.code]
                upload_lost(job, code=code, words=words, damaged=0)
                return True
            if error.code == "foreign-upload":  # it was sent under an earlier name of ours: nobody else may ask for it
                UploadJob.objects.filter(pk=job.pk, upload_id=job.upload_id).update(checked_at=database_now())
                return True
            if error.code == "not-found":  # it has just described itself, so the address is right
                job_note(self._check, offered=False)
                return False
            if error.code == "busy":
                words = "The vault is verifying for somebody else; it is asked again later."
                raise JobFault(words, code="busy", retry_after_seconds=error.retry_after_seconds) from error
            raise
        if damaged:
            words = f"The vault has lost or changed {damaged} of the {count} files of this upload."
            upload_lost(job, code=VAULT_LOST, words=words, damaged=damaged)
        else:
            upload_whole(job)
        return True

    def _asked_for(self, job: UploadJob, total: int) -> tuple[int, int]:
        """How many files are not what we stand for, and how many there are."""
        count = job.parts.count()
        after: str | None = ""
        damaged = checked = 0
        while after is not None:
            page = self._vault.verify(job.upload_id, after=after)
            damaged, checked, after = damaged + len(page.damaged), checked + page.checked, page.next_after
            if after is not None:
                self._step(total)
        return max(damaged, count - checked), count


def upload_whole(job: UploadJob) -> None:
    """The vault has everything. What it had lost and has again is done once more, and its alert heals."""
    moment = database_now()
    asked = UploadJob.objects.filter(pk=job.pk, upload_id=job.upload_id)
    if asked.filter(state=JobState.DONE).update(checked_at=moment, verified_at=moment) or not job.lost:
        return
    with transaction.atomic():
        values = {"error_code": "", "error_words": "", "checked_at": moment, "verified_at": moment}
        if asked.filter(state=JobState.PARKED, error_code__in=LOST_CODES).update(state=JobState.DONE, **values):
            _told(job, "upload whole again in the vault", outcome="success", code=job.error_code)
            alert_heal(job_subject(job))


def upload_lost(job: UploadJob, *, code: str, words: str, damaged: int) -> None:
    """The vault has not what it has signed for: the upload is given up, the study says so, and a critical alert opens.

    Nothing of it counts any more: not as uploaded, and not for deletion. May be repeated.
    """
    here = upload_files_here(job)
    words += (
        " Upload it anew." if here else " Its files are deleted here too: ask the vault's operator for a backup, now."
    )
    values = {"error_code": code, "error_words": words, "checked_at": database_now()}
    with transaction.atomic():
        counted = UploadJob.objects.filter(pk=job.pk, upload_id=job.upload_id)
        known = counted.filter(state=JobState.PARKED, error_code__in=LOST_CODES).update(**values)
        if not known and not counted.filter(state=JobState.DONE).update(state=JobState.PARKED, **values):
            return  # begun anew meanwhile
        if not known:
            _told(job, "upload lost by the vault", outcome="failure", code=code, files=damaged)
            logger.error("upload lost by the vault", extra={"upload": job.pk, "code": code, "files": damaged})
        alert_open(
            job_subject(job),
            code=code,
            words=f"{job.vault.name} has lost an upload. {words}",
            severity=Severity.CRITICAL,
            link=f"/studies/{job.revision.study_id}/",
        )


def _told(job: UploadJob, action: str, *, outcome: str, **detail: object) -> None:
    audit_record(
        AuditEventType.SECURITY_ALERT,
        actor=ACTOR,
        subject=f"study:{job.revision.study_id}",
        detail={"action": action, "vault": job.vault_id, "upload_id": job.upload_id, **detail},
        outcome=outcome,
    )
    DELIVERY.get().delivery_changed(job.revision.study_id)
