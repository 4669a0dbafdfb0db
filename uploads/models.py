"""Vaults, the uploads to them, every attempt, and every file of an upload."""

import uuid

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils.timezone import now

from gateway_project.core.models import Lane, LeasedJob
from studies.models import Instance, StudyRevision
from uploads.windows import windows_parse

SLOWEST_BYTES_PER_SECOND = 16 * 1024


def new_upload_id() -> str:
    return uuid.uuid4().hex


def windows_check(text: str) -> None:
    try:
        windows_parse(text)
    except ValueError as error:
        raise ValidationError(str(error), code="windows-invalid") from error


class Vault(models.Model):
    """Where studies are uploaded to, and whose key they are sealed for.

    `recipient_jwk` and `receipt_jwk` are pinned: what the vault says later never replaces them (a difference stops the
    lane).
    """

    name = models.CharField(max_length=60, unique=True)
    base_url = models.URLField(max_length=300)
    vault_id = models.CharField(max_length=80)
    recipient_key_id = models.CharField(max_length=80, help_text="RFC 7638 thumbprint of the pinned recipient key.")
    recipient_jwk = models.JSONField()
    receipt_jwk = models.JSONField()
    token = models.TextField(blank=True, editable=False, help_text="Encrypted; never shown.")
    required = models.BooleanField(
        default=True, help_text="A study is uploaded when every required vault has receipted it."
    )
    enabled = models.BooleanField(default=True)
    demonstration = models.BooleanField(default=False, help_text="Its receipts never allow deletion.")
    parallel_studies = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Studies sent to it at once; empty: as UPLOAD.PARALLEL_STUDIES says; 0: none."
    )
    bytes_per_second = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(SLOWEST_BYTES_PER_SECOND)],
        help_text="The most that is sent to it in a second, in all; empty: no limit.",
    )
    windows = models.CharField(
        max_length=200,
        blank=True,
        validators=[windows_check],
        help_text="When it may be sent to, in this machine's time zone: 22:00-06:00, 12:30-13:30. Empty: always.",
    )
    ca = models.TextField(
        blank=True,
        help_text="Certificate authority that alone is trusted for it: PEM text, or the path of a PEM file. "
        "Empty: the well-known ones.",
    )
    proxy = models.TextField(blank=True, editable=False, help_text="Encrypted address of a proxy; never shown.")
    lane = models.OneToOneField(Lane, on_delete=models.PROTECT, related_name="vault")
    created_at = models.DateTimeField(default=now)

    def __str__(self) -> str:
        return self.name


class UploadJob(LeasedJob):
    """One revision of a study to one vault: at most one upload for each, whatever is killed and repeated.

    `upload_id` names it at the vault for ever; `commitment` is what we signed, `receipt` what the vault answered
    (verified). It changes only when the upload is begun anew (services.anew), which leaves the old one uncommitted.
    """

    vault = models.ForeignKey(Vault, on_delete=models.PROTECT, related_name="jobs")
    revision = models.ForeignKey(StudyRevision, on_delete=models.PROTECT, related_name="upload_jobs")
    upload_id = models.CharField(max_length=32, unique=True, default=new_upload_id, editable=False)
    files_total = models.PositiveIntegerField(default=0)
    files_done = models.PositiveIntegerField(default=0)
    commitment = models.TextField(blank=True, editable=False)
    receipt = models.TextField(blank=True, editable=False)
    receipt_id = models.CharField(max_length=80, blank=True)
    receipt_at = models.DateTimeField(null=True, blank=True)

    class Meta(LeasedJob.Meta):
        constraints = [models.UniqueConstraint(fields=["vault", "revision"], name="uploads_job_once")]

    def __str__(self) -> str:
        return f"upload {self.pk}"


class UploadAttempt(models.Model):
    """One try: when, how it ended, and why in plain words."""

    job = models.ForeignKey(UploadJob, on_delete=models.PROTECT, related_name="tries")
    claim_id = models.UUIDField(unique=True, editable=False)
    upload_id = models.CharField(max_length=32, blank=True, help_text="What it was called at the vault.")
    number = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=now)
    ended_at = models.DateTimeField(null=True, blank=True)
    result = models.CharField(max_length=12, default="running", help_text="running, done, failed, interrupted")
    error_code = models.CharField(max_length=64, blank=True)
    error_words = models.CharField(max_length=400, blank=True)
    files_sent = models.PositiveIntegerField(default=0)
    bytes_sent = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="uploads_attempt_once")]

    def __str__(self) -> str:
        return f"attempt {self.number} of upload {self.job_id}"


class UploadPart(models.Model):
    """One file of an upload: a key document, a sealed instance, or a document. Its ciphertext never changes.

    staged     the ciphertext is durable below `uploads/<upload id>/` (written and synced before this row)
    confirmed  the vault said that it keeps exactly these bytes; the staged copy is removed
    A later attempt sends what is staged as it is, and seals only what has no row: no name ever stands for two contents.
    """

    job = models.ForeignKey(UploadJob, on_delete=models.PROTECT, related_name="parts")
    name = models.CharField(max_length=80)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, null=True, blank=True, related_name="upload_parts")
    file_id = models.CharField(max_length=32, blank=True)
    run_id = models.CharField(max_length=32, blank=True)
    sha256 = models.CharField(max_length=64, help_text="Of the ciphertext.")
    size_bytes = models.BigIntegerField(help_text="Of the ciphertext.")
    content_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the Part 10 file that was sealed.")
    content_size_bytes = models.BigIntegerField(default=0)
    staged_at = models.DateTimeField(default=now)
    confirmed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="uploads_part_once")]

    def __str__(self) -> str:
        return self.name
