"""Studies, series and instances as received, the revisions in which they travel, and what was not taken in."""

from typing import Any

from django.core.validators import MinValueValidator
from django.db import models
from django.utils.timezone import now

from gateway_project.core.folding import name_fold


class StudyState(models.TextChoices):
    RECEIVING = "receiving", "receiving"
    SETTLED = "settled", "settled"
    UPLOADING = "uploading", "uploading"
    UPLOADED = "uploaded", "uploaded"
    FAILED_TRANSIENT = "failed_transient", "waiting to try again"
    FAILED_PERMANENT = "failed_permanent", "given up"
    PENDING_DELETION = "pending_deletion", "waiting for deletion"
    DELETED = "deleted", "files deleted"


class Study(models.Model):
    """One study. `state` is what a person sees: a projection of its instances, its revisions and their jobs.

    RECEIVING          some instance is not in a revision yet
    else, over the jobs of its revisions:
    FAILED_PERMANENT   a job was given up
    FAILED_TRANSIENT   a job waits to try again after a failed attempt
    UPLOADING          a job is under way
    SETTLED            a job waits for its first attempt, or there is nothing to upload
    UPLOADED           every required vault has given its receipt for every revision - one with the transport STOW: has
                       confirmed every instance by name (an optional vault's failure is
                       told as the reason, and fails no study)
    PENDING_DELETION, DELETED   the cleanup's (files only; rows and audit stay)
    The wiring's pipeline computes it, in the transaction of whatever changed it.
    """

    study_instance_uid = models.CharField(max_length=64, unique=True)
    key = models.CharField(
        max_length=40, unique=True, editable=False, help_text="Names its folder; ours, not the peer's."
    )
    state = models.CharField(max_length=20, choices=StudyState.choices, default=StudyState.RECEIVING)
    state_since = models.DateTimeField(default=now)
    reason = models.CharField(max_length=400, blank=True, help_text="Why it is where it is, in plain words.")
    patient_name = models.CharField(max_length=324, blank=True)
    patient_name_folded = models.CharField(
        max_length=324,
        blank=True,
        editable=False,
        db_index=True,
        help_text="The name as queries search it: without case, accents and empty components.",
    )
    patient_id = models.CharField(max_length=64, blank=True)
    issuer_of_patient_id = models.CharField(max_length=64, blank=True)
    patient_birth_date = models.DateField(null=True, blank=True)
    patient_sex = models.CharField(max_length=16, blank=True)
    accession_number = models.CharField(max_length=64, blank=True)
    study_id = models.CharField(max_length=64, blank=True)
    study_date = models.DateField(null=True, blank=True)
    study_time = models.TimeField(null=True, blank=True)
    timezone_offset = models.CharField(
        max_length=5, blank=True, help_text="Of date and time, as the instance says that told them: +0100."
    )
    study_description = models.CharField(max_length=256, blank=True)
    referring_physician_name = models.CharField(max_length=324, blank=True)
    institution_name = models.CharField(max_length=256, blank=True)
    source_ae_title = models.CharField(max_length=16, blank=True, help_text="Who sent its latest instance.")
    modalities = models.CharField(max_length=128, blank=True, help_text="Separated by a backslash, as in DICOM.")
    instance_count = models.PositiveIntegerField(default=0)
    series_count = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    conflict = models.BooleanField(default=False, help_text="Its instances name different patients.")
    created_at = models.DateTimeField(default=now)
    open_since = models.DateTimeField(null=True, blank=True, help_text="First instance that is in no revision yet.")
    received_at = models.DateTimeField(default=now, help_text="Latest instance.")
    # what a search compares: databases differ in what they take for the same letter

    class Meta:
        verbose_name_plural = "studies"
        indexes = [
            models.Index(fields=["-received_at", "-id"], name="studies_latest"),
            models.Index(fields=["state", "-received_at", "-id"], name="studies_by_state"),
            models.Index(fields=["open_since"], name="studies_open", condition=models.Q(open_since__isnull=False)),
            models.Index(fields=["received_at"], name="studies_quiet", condition=models.Q(open_since__isnull=False)),
            models.Index(
                fields=["source_ae_title", "received_at"],
                name="studies_quiet_by_source",
                condition=models.Q(open_since__isnull=False),
            ),
            models.Index(
                fields=["source_ae_title", "open_since"],
                name="studies_open_by_source",
                condition=models.Q(open_since__isnull=False),
            ),
            models.Index(fields=["patient_id"], name="studies_patient_id"),
            models.Index(fields=["accession_number"], name="studies_accession"),
            models.Index(fields=["study_date"], name="studies_date"),
        ]

    def __str__(self) -> str:
        return f"study {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """The folded name follows the name, whoever writes it."""
        self.patient_name_folded = name_fold(self.patient_name)[:324]
        names = kwargs.get("update_fields")
        if names is not None and "patient_name" in names:
            kwargs["update_fields"] = {*names, "patient_name_folded"}
        super().save(*args, **kwargs)


class Series(models.Model):
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="series")
    series_instance_uid = models.CharField(max_length=64)
    key = models.CharField(max_length=40, editable=False)
    modality = models.CharField(max_length=16, blank=True)
    series_number = models.IntegerField(null=True, blank=True)
    series_description = models.CharField(max_length=256, blank=True)
    body_part_examined = models.CharField(max_length=64, blank=True)
    protocol_name = models.CharField(max_length=256, blank=True)
    station_name = models.CharField(max_length=64, blank=True)
    manufacturer = models.CharField(max_length=256, blank=True)
    series_date = models.DateField(null=True, blank=True)
    series_time = models.TimeField(null=True, blank=True)
    timezone_offset = models.CharField(max_length=5, blank=True, help_text="Of date and time: +0100.")
    instance_count = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=now)

    class Meta:
        verbose_name_plural = "series"
        constraints = [models.UniqueConstraint(fields=["study", "series_instance_uid"], name="studies_series_once")]

    def __str__(self) -> str:
        return f"series {self.pk}"


class RevisionState(models.TextChoices):
    SETTLED = "settled", "settled"
    DISPATCHED = "dispatched", "dispatched"


class StudyRevision(models.Model):
    """What travels together: frozen when the study settles; a late or changed object opens the next one.

    SETTLED -> DISPATCHED (its job rows are written, in one transaction). Nothing else changes it afterwards.
    """

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=12, choices=RevisionState.choices, default=RevisionState.SETTLED)
    reason = models.CharField(max_length=20, help_text="quiet, open-too-long, asked")
    reason_words = models.CharField(max_length=200, blank=True, help_text="The same with its times, as then set.")
    actor = models.CharField(max_length=150, blank=True)
    instance_count = models.PositiveIntegerField()
    size_bytes = models.BigIntegerField()
    opened_at = models.DateTimeField(help_text="When its first instance came.")
    received_at = models.DateTimeField(help_text="When its last instance came.")
    settled_at = models.DateTimeField(default=now)
    dispatched_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "number"], name="studies_revision_once")]
        indexes = [
            models.Index(
                fields=["settled_at"], name="studies_undispatched", condition=models.Q(dispatched_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"study {self.study_id} revision {self.number}"


class Instance(models.Model):
    """One received object. Another content under a known SOP Instance UID is a new version; the older one is kept.

    `revision` is empty until the study settles, and is written by settling alone.
    """

    # no index of its own: studies_instance_version begins with it, and each index costs every object
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="instances", db_index=False)
    series = models.ForeignKey(Series, on_delete=models.PROTECT, related_name="instances")
    revision = models.ForeignKey(
        StudyRevision, on_delete=models.PROTECT, null=True, blank=True, related_name="instances"
    )
    sop_instance_uid = models.CharField(max_length=64)
    sop_class_uid = models.CharField(max_length=64)
    transfer_syntax_uid = models.CharField(max_length=64)
    version = models.PositiveIntegerField(default=1)
    current = models.BooleanField(default=True)
    key = models.CharField(max_length=40, unique=True, editable=False)
    path = models.CharField(max_length=200, help_text="Below the store's root; unique as the key is, which ends it.")
    size_bytes = models.BigIntegerField(help_text="Of the data set, as it came over the wire.")
    sha256 = models.CharField(max_length=64, help_text="Of the data set, as it came over the wire.")
    instance_number = models.IntegerField(null=True, blank=True)
    number_of_frames = models.IntegerField(null=True, blank=True)
    rows = models.IntegerField(null=True, blank=True)
    columns = models.IntegerField(null=True, blank=True)
    flags = models.CharField(max_length=200, blank=True, help_text="What is ugly about it but was kept.")
    source_ae_title = models.CharField(max_length=16, blank=True)
    receiving_ae_title = models.CharField(max_length=16, blank=True)
    association_id = models.CharField(max_length=40, blank=True)
    received_at = models.DateTimeField(default=now)
    file_deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "sop_instance_uid", "version"], name="studies_instance_version"),
            models.UniqueConstraint(
                fields=["study", "sop_instance_uid"], condition=models.Q(current=True), name="studies_instance_current"
            ),
        ]
        indexes = [
            models.Index(fields=["sop_instance_uid"], name="studies_instance_uid"),
            models.Index(fields=["study"], name="studies_unstamped", condition=models.Q(revision__isnull=True)),
            models.Index(
                fields=["source_ae_title", "size_bytes"],
                name="studies_instance_usage",
                condition=models.Q(file_deleted_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"instance {self.pk}"


class QuarantineState(models.TextChoices):
    OPEN = "open", "waits for a decision"
    ACCEPTED = "accepted", "accepted anyway"
    DISCARDED = "discarded", "discarded"


class QuarantinedObject(models.Model):
    """Bytes that could not be taken in, kept with the reason; one row and one file however often they are sent.

    OPEN -> ACCEPTED (a person wants it all the same: it became `instance`) and stays so, also when it is sent again
    OPEN -> DISCARDED (a person does not) -> OPEN when it is sent again
    `kept` says that the file is there: the row says so before a file is removed, and after it was made.
    """

    sha256 = models.CharField(max_length=64, unique=True)
    size_bytes = models.BigIntegerField()
    code = models.CharField(max_length=64)
    reason = models.CharField(max_length=400)
    state = models.CharField(max_length=10, choices=QuarantineState.choices, default=QuarantineState.OPEN)
    kept = models.BooleanField(default=True, help_text="The bytes are there; not, if the quarantine had no room.")
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    instance = models.ForeignKey(Instance, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    source_ae_title = models.CharField(max_length=16, blank=True)
    receiving_ae_title = models.CharField(max_length=16, blank=True)
    peer_address = models.CharField(max_length=64, blank=True)
    transfer_syntax_uid = models.CharField(max_length=64, blank=True)
    sop_class_uid = models.CharField(max_length=64, blank=True)
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField(default=now)
    latest_at = models.DateTimeField(default=now)

    class Meta:
        indexes = [
            models.Index(fields=["-latest_at"], name="studies_quarantine_latest"),
            models.Index(fields=["size_bytes"], name="studies_quarantine_kept", condition=models.Q(kept=True)),
            models.Index(fields=["id"], name="studies_quarantine_open", condition=models.Q(state="open")),
        ]

    def __str__(self) -> str:
        return f"quarantined object {self.pk}"


ANY_SOURCE = "*"


class Strictness(models.TextChoices):
    LENIENT = "lenient", "keep what is ugly, with a flag"
    STRICT = "strict", "refuse what is flagged"


class SourcePolicy(models.Model):
    """What is set for one calling AE title; "*" stands for every one without a row, and sets no times.

    The times of all others are the options SETTLING.INACTIVITY_SECONDS and SETTLING.MAX_OPEN_SECONDS.
    """

    calling_ae_title = models.CharField(max_length=16, unique=True, help_text="As the device sends it; * for all.")
    strictness = models.CharField(max_length=10, choices=Strictness.choices, default=Strictness.LENIENT)
    quiet_seconds = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0)], help_text="Instead of SETTLING.INACTIVITY_SECONDS."
    )
    max_open_seconds = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Instead of SETTLING.MAX_OPEN_SECONDS."
    )
    silence_watched = models.BooleanField(
        "watch for silence", default=True, help_text="Tell when it is silent against its own usual week."
    )
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "source policies"
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(calling_ae_title="*")
                | models.Q(quiet_seconds__isnull=True, max_open_seconds__isnull=True),
                name="studies_source_policy_any",
                violation_error_message="The row * sets no times; those are the options SETTLING.*.",
            ),
        ]

    def __str__(self) -> str:
        return f"source {self.calling_ae_title}"


class SourceActivity(models.Model):
    """What one calling AE title has sent in all, a rollup of its instances. Counts only grow.

    `stored_bytes` is what of it lies in the store: measured every few minutes, and what came since is added.
    """

    calling_ae_title = models.CharField(max_length=16, unique=True)
    objects_received = models.BigIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    stored_bytes = models.BigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "source activity"
        indexes = [models.Index(fields=["-last_at"], name="studies_source_latest")]

    def __str__(self) -> str:
        return f"activity of {self.calling_ae_title}"


class Arrival(models.Model):
    """How many objects and bytes one calling AE title sent in the ten minutes, or the hour, from `start` on (UTC).

    A rollup: rows of ten minutes are kept for days, rows of an hour for months (services.arrivals).
    """

    minutes = models.PositiveSmallIntegerField()
    start = models.DateTimeField()
    source = models.ForeignKey(SourceActivity, on_delete=models.CASCADE, related_name="arrivals")
    objects_received = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["minutes", "start", "source"], name="studies_arrival_once")]

    def __str__(self) -> str:
        return f"arrival {self.pk}"
