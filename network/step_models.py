"""Performed procedure steps: what modalities say that they do, and have done (PS3.4 annex F)."""

from django.db import models
from django.utils.timezone import now


class StepState(models.TextChoices):
    IN_PROGRESS = "in_progress", "in progress"
    COMPLETED = "completed", "completed"
    DISCONTINUED = "discontinued", "discontinued"


class ProcedureStep(models.Model):
    """One performed procedure step, written before its N-CREATE or N-SET is answered.

    IN_PROGRESS -> COMPLETED or DISCONTINUED, and then no peer changes it any more. From then on it is looked whether
    its objects have come, until `done_at`: all are here and their study is settled, or they were waited for long
    enough (then `here_count` is less than `instance_count`).
    """

    sop_instance_uid = models.CharField("SOP Instance UID", max_length=64, unique=True)
    state = models.CharField(max_length=12, choices=StepState.choices, default=StepState.IN_PROGRESS)
    calling_ae_title = models.CharField(
        "calling AE title", max_length=16, help_text="Who began it; nobody else ends it."
    )
    step_id = models.CharField(max_length=64, blank=True)
    scheduled_step_id = models.CharField(max_length=16, blank=True)
    description = models.CharField(max_length=64, blank=True)
    modality = models.CharField(max_length=16, blank=True)
    station_ae_title = models.CharField("station AE title", max_length=16, blank=True)
    station_name = models.CharField(max_length=16, blank=True)
    accession_number = models.CharField(max_length=16, blank=True)
    patient_name = models.CharField(max_length=324, blank=True)
    patient_id = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField(help_text="As the modality says, in the machine's time zone.")
    ended_at = models.DateTimeField(null=True, blank=True, help_text="The same.")
    created_at = models.DateTimeField(default=now, help_text="N-CREATE came.")
    changed_at = models.DateTimeField(default=now, help_text="The latest N-SET came.")
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="The N-SET came that completed or discontinued it."
    )
    performed_series = models.JSONField(
        default=list, blank=True, help_text="Series Instance UID, and pairs of SOP class and SOP instance UID, of each."
    )
    instance_count = models.PositiveIntegerField(default=0, help_text="Objects that it names.")
    here_count = models.PositiveIntegerField(default=0, help_text="Of these, those that had come when it was looked.")
    look_after = models.DateTimeField(default=now, help_text="When it is looked again.")
    overdue_at = models.DateTimeField(null=True, blank=True, help_text="Objects were missing after the settling time.")
    done_at = models.DateTimeField(null=True, blank=True, help_text="It is not looked after any more.")

    class Meta:
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="network_step_latest"),
            models.Index(
                fields=["look_after"],
                name="network_step_due",
                condition=models.Q(closed_at__isnull=False, done_at__isnull=True),
            ),
            models.Index(fields=["created_at"], name="network_step_open", condition=models.Q(state="in_progress")),
        ]

    def __str__(self) -> str:
        return f"procedure step {self.pk}"


class ProcedureStepStudy(models.Model):
    """A study that a step is for: most have one, group cases several."""

    step = models.ForeignKey(ProcedureStep, on_delete=models.CASCADE, related_name="studies", db_index=False)
    study_instance_uid = models.CharField(max_length=64, db_index=True)

    class Meta:
        verbose_name_plural = "procedure step studies"
        constraints = [models.UniqueConstraint(fields=["step", "study_instance_uid"], name="network_step_study_once")]

    def __str__(self) -> str:
        return f"study of procedure step {self.step_id}"


class ProcedureStepMessage(models.Model):
    """A step's data sets as they came: the N-CREATE's, and the latest N-SET's."""

    step = models.ForeignKey(ProcedureStep, on_delete=models.CASCADE, related_name="messages", db_index=False)
    operation = models.CharField(max_length=6, choices=[("create", "N-CREATE"), ("set", "N-SET")])
    transfer_syntax_uid = models.CharField(max_length=64)
    data = models.BinaryField()
    association_id = models.CharField(max_length=40, blank=True)
    received_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["step", "operation"], name="network_step_message_once")]

    def __str__(self) -> str:
        return f"{self.operation} of procedure step {self.step_id}"
