"""The upload queue's work, rung for by the core: translates the vault's and the envelope's errors into job faults."""

from django.db.models import Count
from django.utils.timezone import now

from gateway_project.core.errors import JobFault
from gateway_project.core.models import JobState
from studies.dicom.spool import SpoolError
from studies.selectors import store_open
from uploads.envelope.errors import EnvelopeError
from uploads.models import UploadAttempt, UploadJob, UploadPart
from uploads.ports import DELIVERY, VaultError
from uploads.services.upload import Upload
from uploads.services.vaults import vault_client


def upload_run(job: UploadJob) -> None:
    """Does one upload job. Raises JobFault with a code and words for people."""
    try:
        Upload(job, vault=vault_client(job.vault), store=store_open()).run()
    except VaultError as error:
        raise JobFault(
            str(error),
            code=error.code,
            permanent=error.permanent,
            lane_fault=error.lane_fault,
            retry_after_seconds=error.retry_after_seconds,
        ) from error
    except EnvelopeError as error:
        raise JobFault(str(error), code=error.code, permanent=error.permanent) from error
    except SpoolError as error:
        raise JobFault(str(error), code=error.code, permanent=error.permanent) from error


def upload_changed(job: UploadJob) -> None:
    """Keeps the attempts and the study's state in step with the job, inside the transaction of its transition."""
    if job.state == JobState.RUNNING:
        latest = UploadAttempt.objects.filter(job=job).aggregate(count=Count("pk"))["count"]
        UploadAttempt.objects.create(
            job=job, claim_id=job.claim_id, number=latest + 1, started_at=job.started_at or now()
        )
    else:
        done = job.state == JobState.DONE
        UploadAttempt.objects.filter(job=job, result="running").update(
            result="done" if done else "failed" if job.error_code else "interrupted",
            ended_at=job.ended_at or now(),
            error_code="" if done else job.error_code,
            error_words="" if done else job.error_words,
        )
    UploadJob.objects.filter(pk=job.pk).update(
        files_done=UploadPart.objects.filter(job=job, instance__isnull=False, confirmed_at__isnull=False).count()
    )
    DELIVERY.get().delivery_changed(job.revision.study_id)
