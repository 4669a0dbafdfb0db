"""What is asked about verification: which uploads are due, and what is known of a vault's."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F, Min, Q, QuerySet

from gateway_project.core.models import JobState
from gateway_project.core.options import option
from studies.models import Instance
from uploads.models import LOST_CODES, Transport, UploadJob, Vault, VaultCheck
from uploads.selectors import vaults_enabled


def vaults_verifiable() -> QuerySet[Vault]:
    """Vaults that sign receipts, so that there is something to ask them for."""
    return vaults_enabled().filter(transport=Transport.GVE1).order_by("pk")


def uploads_unverified(vault: Vault, *, now: datetime) -> QuerySet[UploadJob]:
    """What the vault has signed for and was not asked about for UPLOAD.VERIFY_DAYS, or since a person asked for it:
    those longest without it first. What it has lost is asked about each day, as it may be found again.
    """
    days = int(option("UPLOAD.VERIFY_DAYS"))
    if not days:
        return UploadJob.objects.none()
    before = now - timedelta(days=days)
    asked_at = VaultCheck.objects.filter(vault=vault).values_list("asked_at", flat=True).first()
    since = max(before, asked_at) if asked_at is not None else before
    kept = Q(state=JobState.DONE) & (Q(checked_at__lt=since) | (Q(checked_at__isnull=True) & Q(receipt_at__lt=since)))
    daily = max(since, now - timedelta(days=1))
    lost = Q(state=JobState.PARKED, error_code__in=LOST_CODES, checked_at__lt=daily)
    found = UploadJob.objects.filter(kept | lost, vault=vault).select_related("revision", "vault")
    return found.defer("commitment", "receipt").order_by(F("checked_at").asc(nulls_first=True), "receipt_at", "pk")


def verification_offered(vault: Vault, *, now: datetime) -> bool:
    """Whether the vault's interface has words for it, as far as is known; what it had not may come with an update."""
    tried = VaultCheck.objects.filter(vault=vault, offered=False).first()
    return (
        tried is None or tried.ended_at is None or tried.ended_at < now - timedelta(days=option("UPLOAD.VERIFY_DAYS"))
    )


def upload_files_here(job: UploadJob) -> bool:
    """Whether everything of the upload's revision is still in the store, so that it can be uploaded anew."""
    return not Instance.objects.filter(revision_id=job.revision_id, file_deleted_at__isnull=False).exists()


@dataclass(frozen=True)
class Verification:
    """What is known of a vault's uploads: how many it has signed for, how many are due, and how many it has lost."""

    signed: int
    due: int
    lost: int
    oldest_at: datetime | None
    offered: bool


def vault_verification(vault: Vault, *, now: datetime) -> Verification:
    """For a vault's page: two counts, and since when every upload has been verified."""
    signed = UploadJob.objects.filter(vault=vault, state=JobState.DONE)
    lost = UploadJob.objects.filter(vault=vault, state=JobState.PARKED, error_code__in=LOST_CODES)
    unverified = signed.filter(verified_at__isnull=True).exists()
    oldest = None if unverified else signed.aggregate(oldest=Min("verified_at"))["oldest"]
    offered = not VaultCheck.objects.filter(vault=vault, offered=False).exists()
    due = uploads_unverified(vault, now=now).count()
    return Verification(signed.count(), due, lost.count(), oldest, offered)
