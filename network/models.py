"""Where we listen, whom we know, and what is remembered of associations."""

import re

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.timezone import now

from gateway_project.core.models import LeasedJob
from network.dimse.access import networks_parse
from network.dimse.errors import ConfigurationError
from network.dimse.rights import MAX_SOURCES, Rights, Visible, conditions_parse, items_of
from network.step_models import ProcedureStep, ProcedureStepMessage, ProcedureStepStudy, StepState

__all__ = ["ProcedureStep", "ProcedureStepMessage", "ProcedureStepStudy", "StepState"]

HOST = re.compile(r"[A-Za-z0-9._:-]*")
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
DEFAULT = "default"
DEFAULT_TLS = "default-tls"


def ae_title_validate(title: str) -> None:
    """1 to 16 printable ASCII characters, no backslash, no space around them (PS3.5 6.2, VR AE)."""
    if not re.fullmatch(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?", title):
        raise ValidationError("An AE title has 1 to 16 printable ASCII characters and no backslash.")


def networks_validate(text: str) -> None:
    try:
        networks_parse(words_of(text))
    except ConfigurationError as error:
        raise ValidationError(str(error)) from error


def fingerprints_validate(text: str) -> None:
    if not all(FINGERPRINT.fullmatch(fingerprint_clean(word)) for word in words_of(text)):
        raise ValidationError("A fingerprint is the SHA-256 of the certificate: 64 hexadecimal digits.")


def ae_titles_validate(text: str) -> None:
    titles = items_of(text)
    for title in titles:
        ae_title_validate(title)
    if len(titles) > MAX_SOURCES:
        raise ValidationError(f"At most {MAX_SOURCES} AE titles.")


def conditions_validate(text: str) -> None:
    try:
        conditions_parse(text.splitlines())
    except ConfigurationError as error:
        raise ValidationError(str(error)) from error


def fingerprint_clean(word: str) -> str:
    """As `openssl x509 -fingerprint -sha256` writes it, or without colons: 64 lower-case digits."""
    return word.replace(":", "").lower()


def hosts_overlap(one: str, other: str) -> bool:
    """True when both cannot listen on the same port: the same address, or one of them is every address."""
    if (":" in one) != (":" in other):
        return False
    return one == other or bool({one, other} & {"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound


def words_of(text: str) -> list[str]:
    return text.replace(",", " ").split()


class MinTls(models.TextChoices):
    TLS_1_2 = "1.2", "TLS 1.2"
    TLS_1_3 = "1.3", "TLS 1.3"


class ClientCertificates(models.TextChoices):
    NONE = "none", "not asked for"
    OPTIONAL = "optional", "verified when sent"
    REQUIRED = "required", "required"


class LocalAE(models.Model):
    """One address on which we listen, under one AE title. A change is followed in 2 s and ends no association.

    The rows `default` and `default-tls` are made from the options DICOM.* and follow them; nobody else changes them.
    """

    name = models.CharField(max_length=40, unique=True)
    ae_title = models.CharField("AE title", max_length=16, validators=[ae_title_validate])
    host = models.CharField(max_length=64, default="0.0.0.0", help_text="Address to bind; 0.0.0.0 or :: is every one.")  # noqa: S104
    port = models.PositiveIntegerField()
    tls = models.BooleanField("TLS", default=False, help_text="Needs a certificate.")
    certificate = models.CharField(
        max_length=400,
        blank=True,
        help_text="PEM chain or PFX (.pfx, .p12): an absolute path, or one below certs/ in the data directory.",
    )
    private_key = models.CharField(
        max_length=400, blank=True, help_text="PEM; empty when the certificate's file has it."
    )
    password = models.TextField(blank=True, editable=False, help_text="Encrypted; never shown.")
    min_tls = models.CharField("least TLS version", max_length=3, choices=MinTls.choices, default=MinTls.TLS_1_2)
    client_certificates = models.CharField(
        max_length=8,
        choices=ClientCertificates.choices,
        default=ClientCertificates.NONE,
        help_text="Optional and required need a client CA.",
    )
    client_ca = models.CharField(
        "client CA", max_length=400, blank=True, help_text="PEM; who signs the certificates that peers show."
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        verbose_name = "local AE"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_locked(self) -> bool:
        """True when options make this row."""
        return self.name in (DEFAULT, DEFAULT_TLS)

    def clean(self) -> None:
        """What needs what; the files themselves are tried by `services.endpoints.tls_check`."""
        faults: dict[str, str] = {}
        if not 1 <= (self.port or 0) <= 65535:
            faults["port"] = "A port is a number from 1 to 65535."
        elif self.enabled and any(
            hosts_overlap(self.host, other.host)
            for other in LocalAE.objects.filter(port=self.port, enabled=True).exclude(pk=self.pk)
        ):
            faults["port"] = "Another endpoint has this port."
        if self.tls and not self.certificate:
            faults["certificate"] = "TLS needs a certificate."
        if self.client_certificates != ClientCertificates.NONE and not self.client_ca:
            faults["client_ca"] = "Client certificates can be verified only against a CA."
        for field in ("certificate", "private_key", "client_ca"):
            if ".." in getattr(self, field).split("/"):
                faults[field] = "A path may not climb with `..`."
        if faults:
            raise ValidationError(faults)

    def path_of(self, path: str) -> str:
        """The absolute path of one of its files; "" stays so."""
        return str(settings.DATA_DIR / "certs" / path) if path else ""


class CommitLevel(models.TextChoices):
    LOCAL = "local", "kept by this gateway"
    VAULT = "vault", "in every required vault"


class RemoteAE(models.Model):
    """A peer that we know by its AE title: what it must come with (another that uses the title is refused), what it may
    do here, and where and how we call it.

    An unknown caller may echo and store; all else needs a row here. Rights count from the peer's next association on.
    """

    ae_title = models.CharField("AE title", max_length=16, unique=True, validators=[ae_title_validate])
    networks = models.TextField(
        blank=True,
        validators=[networks_validate],
        help_text="Addresses or networks (10.0.0.0/8) that it calls from; empty: from anywhere.",
    )
    certificates = models.TextField(
        blank=True,
        validators=[fingerprints_validate],
        help_text="SHA-256 fingerprints of its client certificates; needs a TLS endpoint that verifies them.",
    )
    enabled = models.BooleanField(default=True, help_text="Off: its associations are refused.")
    note = models.CharField(max_length=200, blank=True)

    may_store = models.BooleanField("may store", default=True, help_text="Send objects to us.")
    may_query = models.BooleanField("may query", default=False, help_text="Ask which studies we have (C-FIND).")
    may_retrieve = models.BooleanField("may retrieve", default=False, help_text="Have them sent (C-MOVE, C-GET).")
    may_commit = models.BooleanField("may commit", default=False, help_text="Ask for storage commitment.")
    visible_sources = models.TextField(
        "sources",
        blank=True,
        max_length=1000,
        validators=[ae_titles_validate],
        help_text="AE titles, separated by commas: only studies that one of them sent last. Empty: from anyone.",
    )
    visible_modalities = models.CharField(
        "modalities",
        blank=True,
        max_length=200,
        help_text="Separated by commas (CT, MR): only studies with one of them. Empty: all.",
    )
    visible_conditions = models.TextField(
        "conditions",
        blank=True,
        max_length=2000,
        validators=[conditions_validate],
        help_text="One a line, such as StudyDescription != *RESEARCH* or InstitutionName = Clinic N*; all must hold.",
    )

    host = models.CharField(
        max_length=253, blank=True, help_text="Address or name at which we call it; empty: it only calls us."
    )
    port = models.PositiveIntegerField(default=104, validators=[MinValueValidator(1), MaxValueValidator(65535)])
    calling_ae_title = models.CharField(
        "our AE title",
        max_length=16,
        blank=True,
        validators=[ae_title_validate],
        help_text="What we call ourselves when we call it; empty: DICOM.AE_TITLE.",
    )
    commit_level = models.CharField(
        "commitment means",
        max_length=5,
        choices=CommitLevel.choices,
        default=CommitLevel.LOCAL,
        help_text="What is promised when it asks for storage commitment.",
    )
    commit_minutes = models.PositiveIntegerField(
        "commitment deadline",
        default=1440,
        validators=[MinValueValidator(1), MaxValueValidator(525600)],
        help_text="Minutes after which what is not committed yet is reported as failed.",
    )
    query_target = models.BooleanField("we may query it", default=False, help_text="It answers queries of ours.")
    tls = models.BooleanField("TLS", default=False, help_text="Call it over TLS.")
    tls_identity = models.ForeignKey(
        LocalAE,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name="our certificate",
        help_text="The endpoint whose certificate we show it; empty: none.",
    )
    tls_ca = models.CharField(
        "its CA", max_length=400, blank=True, help_text="PEM; who signs its certificate. Empty: who the system trusts."
    )
    tls_check_host = models.BooleanField(
        "check its name", default=True, help_text="Its certificate must be for the host that we call."
    )

    version = models.PositiveIntegerField(default=1, editable=False, help_text="Grows with each change by a person.")
    last_seen_at = models.DateTimeField("last seen", null=True, blank=True, editable=False)
    last_echo_at = models.DateTimeField("last echo", null=True, blank=True, editable=False)
    last_error = models.CharField(max_length=200, blank=True, editable=False)
    last_error_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "remote AE"
        ordering = ["ae_title"]

    def __str__(self) -> str:
        return self.ae_title

    def clean(self) -> None:
        """What needs what; nothing is tried here."""
        faults: dict[str, str] = {}
        if not HOST.fullmatch(self.host):
            faults["host"] = "A host is a name or an address: letters, digits, dots, hyphens, colons."
        elif self.query_target and not self.host:
            faults["host"] = "Without an address we cannot query it."
        if self.tls_identity is not None and not self.tls_identity.certificate:
            faults["tls_identity"] = "This endpoint has no certificate."
        if ".." in self.tls_ca.split("/"):
            faults["tls_ca"] = "A path may not climb with `..`."
        if faults:
            raise ValidationError(faults)

    def rights(self) -> Rights:
        """What its associations may do. Raises ConfigurationError (`condition-invalid`)."""
        return Rights(
            store=self.may_store,
            query=self.may_query,
            retrieve=self.may_retrieve,
            commit=self.may_commit,
            visible=self.visible(),
        )

    def visible(self) -> Visible:
        """Which studies it may see. Raises ConfigurationError (`condition-invalid`)."""
        return Visible(
            sources=items_of(self.visible_sources),
            modalities=items_of(self.visible_modalities),
            conditions=conditions_parse(self.visible_conditions.splitlines()),
        )


class AssociationOutcome(models.TextChoices):
    RELEASED = "released", "released"
    ABORTED = "aborted", "aborted"
    LOST = "lost", "connection lost"
    REJECTED = "rejected", "rejected"


class AssociationRecord(models.Model):
    """One association that has ended, or what one address was refused for in a minute (`times`). The living ones are in
    the acceptor's memory.
    """

    association_id = models.CharField(max_length=40, unique=True)
    calling_ae_title = models.CharField(max_length=16, blank=True)
    called_ae_title = models.CharField(max_length=16, blank=True)
    peer_address = models.CharField(max_length=64, blank=True)
    peer_port = models.PositiveIntegerField(default=0)
    tls = models.BooleanField(default=False)
    outcome = models.CharField(max_length=10, choices=AssociationOutcome.choices)
    reason = models.CharField(max_length=200, blank=True)
    times = models.PositiveIntegerField(default=1, help_text="Rejections of one peer within a minute share a row.")
    objects_stored = models.PositiveIntegerField(default=0)
    objects_refused = models.PositiveIntegerField(default=0)
    bytes_received = models.BigIntegerField(default=0)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(default=now)

    class Meta:
        indexes = [models.Index(fields=["-closed_at", "-id"], name="network_latest")]

    def __str__(self) -> str:
        return f"association {self.pk}"


class CommitmentRequest(LeasedJob):
    """One request for storage commitment (PS3.4 annex J): written before the N-ACTION is answered, reported until the
    peer has taken the N-EVENT-REPORT.

    READY (waits for the vault, or for the peer) -> RUNNING -> DONE (the peer has its report), or PARKED.
    `failures` is None until it has been judged; then it never changes.
    """

    remote = models.ForeignKey(RemoteAE, on_delete=models.PROTECT, related_name="commitments")
    calling_ae_title = models.CharField(max_length=16)
    transaction_uid = models.CharField(max_length=64)
    association_id = models.CharField(max_length=40, blank=True)
    level = models.CharField(max_length=5, choices=CommitLevel.choices)
    deadline_at = models.DateTimeField()
    references = models.JSONField(help_text="Pairs of SOP class and SOP instance UID, in the order of the request.")
    instance_count = models.PositiveIntegerField()
    failures = models.JSONField(null=True, blank=True, help_text="SOP instance UID and failure reason of each failure.")
    judged_at = models.DateTimeField(null=True, blank=True)

    class Meta(LeasedJob.Meta):
        constraints = [
            models.UniqueConstraint(fields=["calling_ae_title", "transaction_uid"], name="network_commitment_once")
        ]

    def __str__(self) -> str:
        return f"commitment {self.pk}"
