"""Vaults, the uploads to them, every attempt, and every file of an upload."""

import uuid

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.timezone import now

from gateway_project.core.models import JobState, Lane, LeasedJob
from gateway_project.core.windows import windows_parse
from studies.models import Instance, StudyRevision
from uploads.ports import VaultError
from uploads.ways import address_check

SLOWEST_BYTES_PER_SECOND = 16 * 1024
# A finished upload that its vault has no longer: error codes of a job that verification has parked.
VAULT_LOST = "vault-lost"
VAULT_REMOVED = "vault-removed"
LOST_CODES = frozenset({VAULT_LOST, VAULT_REMOVED})


def new_upload_id() -> str:
    return uuid.uuid4().hex


class Transport(models.TextChoices):
    GVE1 = "gve1", "GVE1: sealed for its recipient, with a receipt"
    STOW = "stow", "DICOMweb (STOW-RS): not end-to-end encrypted"


class AuthKind(models.TextChoices):
    NONE = "none", "none"
    BASIC = "basic", "user name and password"
    BEARER = "bearer", "bearer token"
    OAUTH = "oauth", "OAuth client credentials"


def windows_check(text: str) -> None:
    try:
        windows_parse(text)
    except ValueError as error:
        raise ValidationError(str(error), code="windows-invalid") from error


class Vault(models.Model):
    """Where studies are uploaded to, and whose key they are sealed for.

    `recipient_jwk` and `receipt_jwk` are pinned: what the vault says later never replaces them (a difference stops the
    lane). They change only through `services.pins`: by an administrator who compares fingerprints, or by a statement
    under the recipient's own pinned `signing_jwk`. `proved_keys` are the recipient and recovery keys that a
    canary was opened with, and when; nothing may ever be deleted on a receipt for what was sealed for any other key.

    With the transport STOW a vault is any DICOMweb server: it has no keys, reads what it gets, and confirms each
    instance by its name instead of signing a receipt. `token` is then the bearer token, the password or the client's
    secret, as `auth_kind` says.
    """

    name = models.CharField(max_length=60, unique=True)
    base_url = models.URLField(max_length=300)
    vault_id = models.CharField(max_length=80, blank=True)
    gateway_id = models.CharField(
        max_length=128, blank=True, help_text="What this gateway is called there: INSTANCE.ID when it was set up."
    )
    recipient_key_id = models.CharField(
        max_length=80, blank=True, help_text="RFC 7638 thumbprint of the pinned recipient key."
    )
    recipient_jwk = models.JSONField(default=dict, blank=True)
    receipt_jwk = models.JSONField(default=dict, blank=True)
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
    recipient_pinned_at = models.DateTimeField(default=now)
    recovery_jwk = models.JSONField(null=True, blank=True, help_text="A second recipient, whose key is kept offline.")
    signing_jwk = models.JSONField(null=True, blank=True, help_text="The recipient's key that signs rotations.")
    rotation_serial = models.BigIntegerField(default=0, help_text="Of the last statement; an earlier one is refused.")
    canary_upload_id = models.CharField(max_length=32, blank=True)
    canary_proof_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    canary_sent_at = models.DateTimeField(null=True, blank=True)
    canary_proved_at = models.DateTimeField(null=True, blank=True, help_text="For the pinned key; empty: not yet.")
    recovery_canary_upload_id = models.CharField(max_length=32, blank=True)
    recovery_canary_proof_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    recovery_canary_sent_at = models.DateTimeField(null=True, blank=True)
    recovery_canary_proved_at = models.DateTimeField(
        null=True, blank=True, help_text="For the pinned recovery key; empty: not yet."
    )
    proved_keys = models.JSONField(default=dict, blank=True)
    earlier_receipt_keys = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="Pinned before, by their ids: what they signed still counts.",
    )
    transport = models.CharField(max_length=8, choices=Transport.choices, default=Transport.GVE1)
    auth_kind = models.CharField(max_length=8, choices=AuthKind.choices, default=AuthKind.NONE)
    auth_user = models.CharField(max_length=200, blank=True, help_text="User name, or OAuth client id.")
    oauth_token_url = models.URLField(max_length=300, blank=True)
    oauth_scope = models.CharField(max_length=300, blank=True)
    batch_instances = models.PositiveIntegerField(
        default=100, validators=[MinValueValidator(1), MaxValueValidator(1000)], help_text="Most objects in a request."
    )
    batch_bytes = models.PositiveBigIntegerField(
        default=256_000_000,
        validators=[MinValueValidator(1)],
        help_text="Most bytes in a request; an object that is larger goes alone.",
    )
    deletion_allowed = models.BooleanField(
        default=False,
        help_text="Let files be deleted here once this server has confirmed them by name. It signs no receipt: "
        "nothing proves later that it had them.",
    )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """What each transport needs; the fields of the other one stay empty."""
        if self.transport == Transport.STOW:
            _stow_clean(self)
        elif not (self.vault_id and self.recipient_key_id and self.recipient_jwk and self.receipt_jwk):
            raise ValidationError("A GVE1 vault needs its id, the pinned recipient key and the pinned receipt key.")


def _stow_clean(vault: Vault) -> None:
    needed = {
        AuthKind.BASIC: ("auth_user",),
        AuthKind.OAUTH: ("auth_user", "oauth_token_url"),
    }.get(AuthKind(vault.auth_kind), ())
    faults = {name: "Needed for this way to prove who we are." for name in needed if not getattr(vault, name)}
    for name in ("base_url", "oauth_token_url"):
        if address := getattr(vault, name):
            try:
                address_check(address)
            except VaultError as error:
                faults[name] = str(error)
    if faults:
        raise ValidationError(faults)


class StowVault(Vault):
    """The vaults with the transport STOW, for the form that makes and changes them."""

    class Meta:
        proxy = True
        verbose_name = "DICOMweb vault"


class UploadJob(LeasedJob):
    """One revision of a study to one vault: at most one upload for each, whatever is killed and repeated.

    `upload_id` names it at the vault for ever; `commitment` is what we signed, `receipt` what the vault answered
    (verified). It changes only when the upload is begun anew (services.anew), which leaves the old one uncommitted, or
    given up by its vault.

    Verification (services.verify) asks a vault whether it still has what it has signed for: `checked_at` is when it
    last answered, `verified_at` when it last had everything. DONE -> PARKED with one of LOST_CODES when it has not;
    PARKED -> DONE when it has again, PARKED -> READY when a person lets it be uploaded anew.
    """

    vault = models.ForeignKey(Vault, on_delete=models.PROTECT, related_name="jobs")
    revision = models.ForeignKey(StudyRevision, on_delete=models.PROTECT, related_name="upload_jobs")
    upload_id = models.CharField(max_length=32, unique=True, default=new_upload_id, editable=False)
    files_total = models.PositiveIntegerField(default=0)
    files_done = models.PositiveIntegerField(default=0)
    recipient_key_ids = models.CharField(
        max_length=180, blank=True, help_text="For whom it is sealed, the recipient first; never mixed in one upload."
    )
    commitment = models.TextField(blank=True, editable=False)
    receipt = models.TextField(blank=True, editable=False)
    receipt_id = models.CharField(max_length=80, blank=True)
    receipt_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    verified_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(LeasedJob.Meta):
        constraints = [models.UniqueConstraint(fields=["vault", "revision"], name="uploads_job_once")]
        indexes = [
            *LeasedJob.Meta.indexes,
            models.Index(fields=["vault", "state", "checked_at"], name="uploads_job_checked"),
            models.Index(fields=["ended_at"], name="uploads_job_done", condition=models.Q(state=JobState.DONE)),
        ]

    def __str__(self) -> str:
        return f"upload {self.pk}"

    @property
    def key_ids(self) -> list[str]:
        """For whom it is sealed, the recipient first; until it is sealed the key that is pinned now."""
        return self.recipient_key_ids.split() or [self.vault.recipient_key_id]

    @property
    def lost(self) -> bool:
        """Whether the vault had it, and has it no longer whole."""
        return self.state == JobState.PARKED and self.error_code in LOST_CODES


class VaultCheck(LeasedJob):
    """The verification of one vault: ready when some of its uploads are due, done when they have been asked for.

    `asked_at`: a person wants everything verified that was not since. `offered` is False for a vault whose interface
    has no words for it; it is asked again as seldom as an upload would be verified.
    """

    vault = models.OneToOneField(Vault, on_delete=models.PROTECT, related_name="check_job")
    asked_at = models.DateTimeField(null=True, blank=True)
    offered = models.BooleanField(default=True)

    class Meta(LeasedJob.Meta):
        verbose_name = "verification of a vault"
        verbose_name_plural = "verifications of vaults"

    def __str__(self) -> str:
        return f"verification {self.pk}"


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

    With the transport STOW one instance that was sent or could not be: `sha256` is that of the file as it travelled,
    nothing is staged, and `result_words` says why the server did not store it, or how it changed it.

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
    result_code = models.CharField(max_length=40, blank=True, help_text="STOW: the server's reason, or ours.")
    result_words = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="uploads_part_once")]
        indexes = [
            models.Index(
                fields=["job", "instance"],
                name="uploads_part_unconfirmed",
                condition=models.Q(confirmed_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return self.name


class DeliveryTimes(models.Model):
    """How long the studies of one calling AE title took from their last object to the vault: a rollup, it only grows.

    `counts`: for each bound of services.delivery.BOUNDS (as text, "+Inf" the last) the uploads that took no longer than
    it, but longer than the bound before.
    """

    source_ae_title = models.CharField(max_length=16, unique=True)
    uploads = models.BigIntegerField(default=0)
    seconds = models.FloatField(default=0.0, help_text="Of all of them together.")
    size_bytes = models.BigIntegerField(default=0)
    counts = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "delivery times"

    def __str__(self) -> str:
        return f"delivery times of {self.source_ae_title}"
