"""What is remembered of associations."""

from django.db import models
from django.utils.timezone import now


class AssociationOutcome(models.TextChoices):
    RELEASED = "released", "released"
    ABORTED = "aborted", "aborted"
    LOST = "lost", "connection lost"
    REJECTED = "rejected", "rejected"


class AssociationRecord(models.Model):
    """One association that has ended. The living ones are in the acceptor's memory."""

    association_id = models.CharField(max_length=40, unique=True)
    calling_ae_title = models.CharField(max_length=16, blank=True)
    called_ae_title = models.CharField(max_length=16, blank=True)
    peer_address = models.CharField(max_length=64, blank=True)
    peer_port = models.PositiveIntegerField(default=0)
    tls = models.BooleanField(default=False)
    outcome = models.CharField(max_length=10, choices=AssociationOutcome.choices)
    reason = models.CharField(max_length=200, blank=True)
    objects_stored = models.PositiveIntegerField(default=0)
    objects_refused = models.PositiveIntegerField(default=0)
    bytes_received = models.BigIntegerField(default=0)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(default=now)

    class Meta:
        indexes = [models.Index(fields=["-closed_at", "-id"], name="network_latest")]

    def __str__(self) -> str:
        return f"association {self.pk}"
