"""Admin of endpoints and known peers, and of ended associations: those to look at, not to change."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.timezone import now

from gateway_project.core.admin_site import AdministratorAdmin, ReadOnlyAdmin, site
from gateway_project.core.roles import actor_of, can_administer
from gateway_project.core.secrets import SecretError
from network.dimse.errors import ConfigurationError
from network.models import (
    AssociationRecord,
    CommitmentRequest,
    LocalAE,
    ProcedureStep,
    ProcedureStepMessage,
    ProcedureStepStudy,
    RemoteAE,
)
from network.remote_form import CONFLICT, RemoteAEForm
from network.services.commitment import commitment_report_again
from network.services.endpoints import endpoint_delete, endpoint_save, tls_check
from network.services.remotes import PeerConflictError, remote_delete, remote_save

RIGHT_WORDS = {"store": "may_store", "query": "may_query", "retrieve": "may_retrieve", "commit": "may_commit"}


class LocalAEForm(forms.ModelForm):
    """The password is only ever set; the TLS files are tried before the row is kept."""

    new_password = forms.CharField(
        label="password",
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Of the PFX or the private key. Empty: as it is.",
    )

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if cleaned and cleaned.get("tls") and cleaned.get("certificate"):
            row = LocalAE(**{name: value for name, value in cleaned.items() if name != "new_password"})
            row.password = self.instance.password
            try:
                tls_check(row, password=cleaned.get("new_password") or None)
            except (ConfigurationError, SecretError) as error:
                raise ValidationError({"certificate": str(error)}) from error
        return cleaned


@admin.register(LocalAE, site=site)
class LocalAEAdmin(AdministratorAdmin):
    """Changes are followed in two seconds and end no association. What options DICOM.* make is changed there."""

    form = LocalAEForm
    list_display = ("name", "ae_title", "host", "port", "tls", "min_tls", "client_certificates", "enabled", "made_by")
    fieldsets = (
        (None, {"fields": ("name", "ae_title", "host", "port", "enabled")}),
        (
            "TLS",
            {
                "fields": (
                    "tls",
                    "certificate",
                    "private_key",
                    "new_password",
                    "min_tls",
                    "client_certificates",
                    "client_ca",
                ),
                "description": "TLS needs a certificate; optional or required client certificates need a client CA.",
            },
        ),
    )

    @admin.display(description="made by")
    def made_by(self, row: LocalAE) -> str:
        return "options DICOM.*" if row.is_locked else "hand"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def has_change_permission(self, request: HttpRequest, obj: LocalAE | None = None) -> bool:
        return can_administer(request.user) and (obj is None or not obj.is_locked)

    def has_delete_permission(self, request: HttpRequest, obj: LocalAE | None = None) -> bool:
        return can_administer(request.user) and (obj is None or not obj.is_locked)

    def get_fieldsets(self, request: HttpRequest, obj: LocalAE | None = None) -> Any:
        """A row that cannot be changed is shown without the field for a password."""
        if obj is None or not obj.is_locked:
            return self.fieldsets
        return [(None, {"fields": [field.name for field in LocalAE._meta.fields if field.editable]})]

    def save_model(self, request: HttpRequest, obj: LocalAE, form: Any, change: bool) -> None:
        password = form.cleaned_data.get("new_password", "")
        endpoint_save(obj, actor=actor_of(request.user), password=password, changed=form.changed_data)

    def delete_model(self, request: HttpRequest, obj: LocalAE) -> None:
        endpoint_delete(obj, actor=actor_of(request.user))

    def delete_queryset(self, request: HttpRequest, queryset: "QuerySet[LocalAE]") -> None:
        for row in queryset:
            if not row.is_locked:
                endpoint_delete(row, actor=actor_of(request.user))


@admin.register(RemoteAE, site=site)
class RemoteAEAdmin(AdministratorAdmin):
    form = RemoteAEForm
    list_display = ("ae_title", "enabled", "may", "sees", "address", "last_seen_at", "last_error", "note")
    list_filter = ("enabled", "may_query", "may_retrieve", "query_target")
    search_fields = ("=ae_title",)
    formfield_overrides = {models.TextField: {"widget": forms.Textarea(attrs={"rows": 3, "cols": 60})}}
    readonly_fields = ("last_seen_at", "last_echo_at", "last_error", "last_error_at")
    fieldsets = (
        (None, {"fields": ("ae_title", "enabled", "note", "shown_version")}),
        (
            "Who it is",
            {
                "fields": ("networks", "certificates"),
                "description": "An AE title is no credential: say where it calls from, or which certificate it shows.",
            },
        ),
        (
            "What it may do",
            {
                "fields": ("may_store", "may_query", "may_retrieve", "may_commit"),
                "description": "Followed within two seconds, from its next association on. Echo is always allowed.",
            },
        ),
        (
            "Which studies it sees",
            {
                "fields": ("visible_sources", "visible_modalities", "visible_conditions"),
                "description": "In queries and retrievals. Nothing set: every study.",
            },
        ),
        (
            "How we call it",
            {
                "fields": (
                    "host",
                    "port",
                    "calling_ae_title",
                    "query_target",
                    "commit_level",
                    "commit_minutes",
                    "tls",
                    "tls_identity",
                    "tls_ca",
                    "tls_check_host",
                )
            },
        ),
        ("Last", {"fields": ("last_seen_at", "last_echo_at", "last_error", "last_error_at")}),
    )

    @admin.display(description="may")
    def may(self, row: RemoteAE) -> str:
        return ", ".join(name for name, may in RIGHT_WORDS.items() if getattr(row, may)) or "echo only"

    @admin.display(description="sees")
    def sees(self, row: RemoteAE) -> str:
        if not (row.may_query or row.may_retrieve):
            return "nothing"
        limits = (row.visible_sources, row.visible_modalities, row.visible_conditions)
        return "some studies" if any(text.strip() for text in limits) else "every study"

    @admin.display(description="address")
    def address(self, row: RemoteAE) -> str:
        return f"{row.host}:{row.port}{' (TLS)' if row.tls else ''}" if row.host else ""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def save_model(self, request: HttpRequest, obj: RemoteAE, form: Any, change: bool) -> None:
        try:
            remote_save(obj, actor=actor_of(request.user), changed=form.fields_changed)
        except PeerConflictError:  # between the look at the form and this
            self.message_user(request, CONFLICT, level=messages.ERROR)

    def delete_model(self, request: HttpRequest, obj: RemoteAE) -> None:
        remote_delete(obj, actor=actor_of(request.user))

    def delete_queryset(self, request: HttpRequest, queryset: "QuerySet[RemoteAE]") -> None:
        for row in queryset:
            self.delete_model(request, row)


@admin.register(AssociationRecord, site=site)
class AssociationRecordAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "calling_ae_title",
        "called_ae_title",
        "peer_address",
        "outcome",
        "times",
        "objects_stored",
        "objects_refused",
        "bytes_received",
        "closed_at",
        "reason",
    )
    list_filter = ("outcome", "tls")
    search_fields = ("=calling_ae_title", "=peer_address", "=association_id")
    ordering = ("-closed_at", "-id")


@admin.register(CommitmentRequest, site=site)
class CommitmentRequestAdmin(ReadOnlyAdmin):
    """What was asked, decided and reported; *report again* for a device that has lost its report."""

    list_display = ("id", "calling_ae_title", "state", "level", "instance_count", "failed", "created_at", "judged_at",
                    "attempts", "error_words")  # fmt: skip
    list_filter = ("state", "level")
    search_fields = ("=calling_ae_title", "transaction_uid__exact")
    ordering = ("-pk",)
    exclude = ("references", "claim_id")
    actions = ("report_again",)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[CommitmentRequest]":
        return super().get_queryset(request).defer("references").select_related("remote")

    @admin.display(description="failed")
    def failed(self, row: CommitmentRequest) -> str:
        return "not decided" if row.failures is None else str(len(row.failures))

    @admin.action(description="Report again: call the peer with the same report", permissions=["act"])
    def report_again(self, request: HttpRequest, queryset: "QuerySet[CommitmentRequest]") -> None:
        count = sum(commitment_report_again(row, actor=actor_of(request.user), now=now()) for row in queryset)
        self.message_user(request, f"{count} will be reported again.", messages.SUCCESS)


class MissingFilter(admin.SimpleListFilter):
    title = "objects"
    parameter_name = "missing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "some are missing"), ("no", "all are here")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[ProcedureStep]") -> "QuerySet[ProcedureStep]":
        ended = queryset.filter(closed_at__isnull=False)
        if self.value() == "yes":
            return ended.filter(here_count__lt=models.F("instance_count"))
        return ended.filter(here_count__gte=models.F("instance_count")) if self.value() == "no" else queryset


@admin.register(ProcedureStep, site=site)
class ProcedureStepAdmin(ReadOnlyAdmin):
    list_display = ("id", "calling_ae_title", "state", "modality", "accession_number", "started_at", "ended_at",
                    "instance_count", "here_count", "overdue_at", "done_at")  # fmt: skip
    list_filter = ("state", MissingFilter)
    # nothing of a patient: it stands in the address
    search_fields = ("=calling_ae_title", "sop_instance_uid__exact", "studies__study_instance_uid__exact")
    ordering = ("-created_at", "-id")
    exclude = ("performed_series",)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[ProcedureStep]":
        return super().get_queryset(request).defer("performed_series")


@admin.register(ProcedureStepStudy, site=site)
class ProcedureStepStudyAdmin(ReadOnlyAdmin):
    list_display = ("id", "step", "study_instance_uid")
    list_select_related = ("step",)
    search_fields = ("study_instance_uid__exact",)
    ordering = ("-pk",)


@admin.register(ProcedureStepMessage, site=site)
class ProcedureStepMessageAdmin(ReadOnlyAdmin):
    """The data sets themselves are for programs; here is which there are."""

    list_display = ("id", "step", "operation", "transfer_syntax_uid", "association_id", "received_at")
    list_filter = ("operation",)
    ordering = ("-pk",)
    exclude = ("data",)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[ProcedureStepMessage]":
        return super().get_queryset(request).defer("data").select_related("step")
