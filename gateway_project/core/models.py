"""Rows that every app stands on: lanes, leased jobs, leader leases, alerts, the audit trail, overrides, API tokens."""

import uuid
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.utils.timezone import now

from gateway_project.core.roles import ROLES


class Lane(models.Model):
    """The way to one destination or vault, with its own limits and circuit; its faults never reach another lane.

    Circuit: closed -> (a lane fault) open until `open_until` -> one trial job -> closed, or open for longer.
    `held`: open until a person resumes it, because no retry mends what is wrong (another key, a refused token).
    `paused`: a person stopped it. `waits_until`: outside its time window. All keep the jobs, which cost no attempt
    while they wait.
    """

    name = models.CharField(max_length=80, unique=True)
    title = models.CharField(max_length=120)
    max_parallel = models.PositiveSmallIntegerField(default=1, help_text="Jobs under way at once; 0 pauses the lane.")
    paused = models.BooleanField(default=False)
    held = models.BooleanField(default=False)
    open_until = models.DateTimeField(null=True, blank=True)
    faults = models.PositiveIntegerField(default=0, help_text="Lane faults in a row.")
    fault_code = models.CharField(max_length=64, blank=True)
    fault_words = models.CharField(max_length=400, blank=True)
    waits_until = models.DateTimeField(null=True, blank=True, help_text="Its time window begins then.")
    changed_at = models.DateTimeField(default=now)

    def __str__(self) -> str:
        return self.title

    @property
    def circuit_closed(self) -> bool:
        return self.open_until is None and not self.held


class JobState(models.TextChoices):
    READY = "ready", "waiting"
    RUNNING = "running", "under way"
    DONE = "done", "done"
    PARKED = "parked", "given up"
    CANCELLED = "cancelled", "cancelled"


class LeasedJob(models.Model):
    """One piece of work, written in the business transaction that asks for it; django-q2 only rings.

    READY -> RUNNING (claimed: attempt counted, lease begins) -> DONE
    RUNNING -> READY (failed, waits until `run_after`; or a lane fault, attempt given back) -> ...
    RUNNING -> READY (lease expired: the worker died; `crashes` + 1) -> PARKED at the third crash
    RUNNING -> PARKED (permanent fault, or attempts used up) -> READY (a person retries)
    Every write of a worker is fenced by `claim_id`: after its lease was taken from it, it can change nothing.
    """

    queue = models.CharField(max_length=40)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.READY)
    priority = models.SmallIntegerField(default=0, help_text="Lower goes first.")
    attempts = models.PositiveIntegerField(default=0)
    crashes = models.PositiveSmallIntegerField(default=0)
    run_after = models.DateTimeField(default=now)
    claim_id = models.UUIDField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True)
    progress_done = models.BigIntegerField(default=0)
    progress_total = models.BigIntegerField(default=0)
    progress_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_words = models.CharField(max_length=400, blank=True)
    created_at = models.DateTimeField(default=now)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
        indexes = [
            models.Index(fields=["queue", "state", "priority", "run_after"], name="%(app_label)s_%(class)s_due"),
        ]


class Lease(models.Model):
    """Who leads: one holder of a name at a time; taken over when `until` has passed."""

    name = models.CharField(max_length=80, primary_key=True)
    holder = models.CharField(max_length=80)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class WebSession(AbstractBaseSession):
    """A browser's session, named by an id of our own: its key lets in, so no page, address or log shows it.

    Who, whence and since when are copies of what the session itself holds (core/sessions.py), to be listed by.
    """

    id = models.BigAutoField(primary_key=True)
    session_key = models.CharField(max_length=40, unique=True, editable=False)
    session_data = models.TextField(editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="web_sessions"
    )
    address = models.CharField(max_length=45, blank=True)
    browser = models.CharField(max_length=60, blank=True)
    begun_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "session"

    def __str__(self) -> str:
        return f"session {self.pk}"

    @classmethod
    def get_session_store_class(cls) -> type[SessionBase]:
        from gateway_project.core.sessions import SessionStore

        return SessionStore


class LoginCount(models.Model):
    """How often someone in this network has tried to prove who they are, and failed so far; forgotten after `until`.

    `blocked`: the limit was passed, and nobody from there is listened to until then. One row for each network (an IPv4
    address, an IPv6 /64), bounded in number by services/logins.py.
    """

    network = models.CharField(max_length=50, unique=True)
    count = models.PositiveIntegerField(default=0)
    blocked = models.BooleanField(default=False)
    until = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.network


class Severity(models.TextChoices):
    INFO = "info", "for your information"
    WARNING = "warning", "needs a look"
    CRITICAL = "critical", "needs a hand now"


class Alert(models.Model):
    """Something that needs a person: opened once, counted while it lasts, healed by the code that saw it well again."""

    key = models.CharField(max_length=160, help_text="What it is about, e.g. lane:vault:1.")
    code = models.CharField(max_length=64)
    severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.WARNING)
    words = models.CharField(max_length=400)
    link = models.CharField(max_length=200, blank=True)
    count = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField(default=now)
    seen_at = models.DateTimeField(default=now)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_note = models.CharField(max_length=200, blank=True)
    healed_at = models.DateTimeField(null=True, blank=True)
    notified_at = models.DateTimeField(null=True, blank=True, help_text="Its notices were written; they tell the rest.")
    notified_severity = models.CharField(max_length=10, blank=True, help_text="The highest that was told of.")
    healed_notified_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["key"], condition=models.Q(healed_at__isnull=True), name="core_alert_one_open"
            )
        ]
        indexes = [
            models.Index(fields=["healed_at", "-opened_at"], name="core_alert_open"),
            models.Index(
                fields=["id"],
                name="core_alert_healing_untold",
                condition=models.Q(healed_at__isnull=False, notified_at__isnull=False, healed_notified_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.words


class NoticeWay(models.TextChoices):
    EMAIL = "email", "e-mail"
    WEBHOOK = "webhook", "webhook"


class AlertNotice(LeasedJob):
    """One message about alerts by one way. While it waits, also after it failed, what comes up is added to it: however
    long a server is away, one message waits for it.

    At least once: killed between the server's word and ours it is sent again, its items under the same ids. `dropped`:
    there was nothing left to say (acknowledged meanwhile), or the way was switched off.
    """

    way = models.CharField(max_length=10, choices=NoticeWay.choices)
    dropped = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"notice {self.pk}"


class NoticeKind(models.TextChoices):
    OPENED = "opened", "opened"
    WORSE = "worse", "became more severe"
    HEALED = "healed", "healed"


class AlertNoticeItem(models.Model):
    """What a message says of one alert, as it was when that was written."""

    notice = models.ForeignKey(AlertNotice, on_delete=models.CASCADE, related_name="items")
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notice_items")
    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10, choices=NoticeKind.choices)
    severity = models.CharField(max_length=10, choices=Severity.choices)
    words = models.CharField(max_length=400)
    at = models.DateTimeField(default=now)

    def __str__(self) -> str:
        return f"{self.kind} alert {self.alert_id}"


AUDIT_SUCCESS = "success"


class AuditEventType(models.TextChoices):
    """The event names of PS3.15 A.5.3, and those of our own that it leaves to the product."""

    APPLICATION_ACTIVITY = "Application Activity"
    BEGIN_TRANSFER = "Begin Transferring DICOM Instances"
    DATA_EXPORT = "Data Export"
    DATA_IMPORT = "Data Import"
    INSTANCES_ACCESSED = "DICOM Instances Accessed"
    INSTANCES_TRANSFERRED = "DICOM Instances Transferred"
    STUDY_DELETED = "DICOM Study Deleted"
    NETWORK_ENTRY = "Network Entry"
    QUERY = "Query"
    SECURITY_ALERT = "Security Alert"
    USER_AUTHENTICATION = "User Authentication"
    CONFIGURATION = "Configuration"
    STUDY_STATE = "Study State"


class AppendOnlyError(Exception):
    """Someone tried to change or remove an audit record."""


class AppendOnlyQuerySet(models.QuerySet["AuditEvent"]):
    """Rows may be added and read."""

    def update(self, **_values: Any) -> int:
        raise AppendOnlyError("audit records are append-only")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnlyError("audit records are append-only")


class AuditEvent(models.Model):
    """Who did what to what, when: written once in the business transaction, never changed, never deleted.

    The chain that makes edits visible is made afterwards by a sealer (AuditSeal): no business transaction waits for it.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    at = models.DateTimeField(default=now)
    event = models.CharField(max_length=60, choices=AuditEventType.choices)
    outcome = models.CharField(max_length=20, default=AUDIT_SUCCESS)
    actor = models.CharField(max_length=150, help_text="user:name, ae:TITLE, process:name")
    subject = models.CharField(max_length=160, help_text="study:12, vault:1, option:KEY ...")
    detail = models.JSONField(default=dict)
    correlation_id = models.CharField(max_length=64, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["subject", "-id"], name="core_audit_subject"),
            models.Index(fields=["event", "-id"], name="core_audit_event"),
            models.Index(fields=["actor", "-id"], name="core_audit_actor"),
            models.Index(fields=["at"], name="core_audit_at"),
            models.Index(
                fields=["outcome", "-id"], name="core_audit_amiss", condition=~models.Q(outcome=AUDIT_SUCCESS)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.subject}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError("audit records are append-only")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnlyError("audit records are append-only")


class AuditSeal(models.Model):
    """One link of the chain: hash = SHA-256(previous hash || canonical JSON of the event)."""

    sequence = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(AuditEvent, on_delete=models.PROTECT, related_name="seal")
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.sequence} {self.hash[:12]}"


class RollupMark(models.Model):
    """How far a rollup has counted, so that nothing is counted twice or left out, whatever is killed.

    `counted_to`: rows up to this id (or moment, in microseconds) are in the rollup. `seen_to`: the highest that was
    seen the last time. Counted next is what lies between the two: with PostgreSQL a row may become visible after one of
    a higher id, but not a whole look later. Written in the transaction that writes the rollup, under this row's lock.
    """

    name = models.CharField(max_length=40, primary_key=True)
    counted_to = models.BigIntegerField(default=0)
    seen_to = models.BigIntegerField(default=0)
    total = models.BigIntegerField(default=0, help_text="How many rows were counted in all.")
    changed_at = models.DateTimeField(default=now)

    def __str__(self) -> str:
        return self.name


class ConfigOverride(models.Model):
    """An option that someone changed; the default stays in the code. Secrets are kept encrypted."""

    key = models.CharField(max_length=80, primary_key=True)
    value = models.JSONField()
    updated_at = models.DateTimeField(auto_now=True)
    updated_by = models.CharField(max_length=150)

    def __str__(self) -> str:
        return self.key


class SharedMark(models.Model):
    """By what a set of processes is known to have the same keys and store as the others on this database."""

    name = models.CharField(max_length=40, primary_key=True)
    mark = models.TextField(editable=False)
    made_by = models.CharField(max_length=80, help_text="The set of processes that was there first.")
    made_at = models.DateTimeField(default=now)

    def __str__(self) -> str:
        return self.name


class ConfigVersion(models.Model):
    """One row that every process polls: its number grows with each change of an override."""

    version = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.version)


class ApiToken(models.Model):
    """A program's key to the API: one role, until it expires or is revoked. The secret is shown once, when it is made.

    `key` is the public part that a request names; of the secret only its SHA-256 is kept. A row is never deleted: the
    audit trail names it as token:NAME.
    """

    name = models.CharField(max_length=64, unique=True)
    key = models.CharField(max_length=16, unique=True, editable=False, help_text="The public part of the token.")
    secret_sha256 = models.CharField(max_length=64, editable=False)
    role = models.CharField(max_length=20, choices=[(role, role) for role in ROLES])
    created_at = models.DateTimeField(default=now)
    created_by = models.CharField(max_length=150)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=150, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="Noted once a minute at most.")

    class Meta:
        verbose_name = "API token"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def usable(self, moment: datetime) -> bool:
        return self.revoked_at is None and self.expires_at > moment
