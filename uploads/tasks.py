"""The upload queue's work, rung for by the core: translates the vault's and the envelope's errors into job faults."""

from datetime import datetime

from django.db.models import Max
from django.utils.timezone import now

from gateway_project.core.errors import JobFault, StopAskedError
from gateway_project.core.models import JobState, Lane
from gateway_project.core.queues import LaneLimits
from gateway_project.core.services.lanes import lane_pause
from studies.dicom.spool import SpoolError
from studies.selectors import store_open
from uploads.envelope.errors import EnvelopeError
from uploads.models import Transport, UploadAttempt, UploadJob, VaultCheck
from uploads.ports import DELIVERY, VaultError
from uploads.services.attempt import ACTOR
from uploads.services.catch_up import states_catch_up, uploads_catch_up
from uploads.services.limits import lane_limits
from uploads.services.stow_upload import StowUpload
from uploads.services.stow_vaults import stow_client
from uploads.services.upload import Upload
from uploads.services.vaults import vault_client
from uploads.services.verify import VaultVerification, checks_plan

# Refusals that no retry mends, of whatever study: the lane waits for a person. Words where the vault's do not help.
HARD_STOPS = {
    "unauthorized": "",
    "forbidden": "",
    "commitment-invalid": "The vault refuses this gateway's signature. Register its identity there, then resume.",
}


def upload_run(job: UploadJob) -> None:
    """Does one upload job. Raises JobFault with a code and words for people.

    What waits for a vault that was switched off goes on waiting: its lane is paused, and the attempt given back.
    """
    if not job.vault.enabled:
        lane_pause(job.vault.lane, actor=ACTOR, now=now())
        raise StopAskedError
    try:
        if job.vault.transport == Transport.STOW:
            StowUpload(job, client=stow_client(job.vault), store=store_open()).run()
        else:
            Upload(job, vault=vault_client(job.vault), store=store_open()).run()
    except VaultError as error:
        raise _fault(error) from error
    except (EnvelopeError, SpoolError) as error:
        raise JobFault(str(error), code=error.code, permanent=error.permanent) from error


def verify_run(check: VaultCheck) -> None:
    """Does one run of a vault's verification. Raises JobFault. A vault that was switched off is left alone."""
    if not check.vault.enabled:
        return
    try:
        VaultVerification(check, vault=vault_client(check.vault)).run()
    except VaultError as error:
        raise _fault(error) from error


def verify_changed(_check: VaultCheck) -> None:
    """Nothing is derived from a verification's own state: what it finds is written with the uploads."""


def verify_plan(now: datetime) -> None:
    """Lets vaults be asked for what is due."""
    checks_plan(now)


def catch_up(now: datetime) -> None:
    """Plans what had no vault to go to when it settled; judges anew what a vault's change has made untrue."""
    uploads_catch_up(now=now)
    states_catch_up()


def _fault(error: VaultError) -> JobFault:
    return JobFault(
        HARD_STOPS.get(error.code) or str(error),
        code=error.code,
        permanent=error.permanent,
        lane_fault=error.lane_fault,
        hard_stop=error.code in HARD_STOPS,
        retry_after_seconds=error.retry_after_seconds,
    )


def upload_limits(lane: Lane, now: datetime) -> LaneLimits:
    """What the lane's vault allows at this moment."""
    return lane_limits(lane, now=now)


def upload_changed(job: UploadJob) -> None:
    """Keeps the attempts and the study's state in step with the job, inside the transaction of its transition."""
    if job.state == JobState.RUNNING and job.claim_id is not None:
        latest = UploadAttempt.objects.filter(job=job).aggregate(latest=Max("number"))["latest"] or 0
        UploadAttempt.objects.create(
            job=job,
            claim_id=job.claim_id,
            upload_id=job.upload_id,
            number=latest + 1,
            started_at=job.started_at or now(),
        )
    else:
        done = job.state == JobState.DONE
        UploadAttempt.objects.filter(job=job, result="running").update(
            result="done" if done else "failed" if job.error_code else "interrupted",
            ended_at=job.ended_at or now(),
            error_code="" if done else job.error_code,
            error_words="" if done else job.error_words,
        )
    DELIVERY.get().delivery_changed(job.revision.study_id)
