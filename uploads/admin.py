"""Admin of vaults and uploads. A vault's pins and token are not changed from a form."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from gateway_project.core.admin_site import AdministratorAdmin, ReadOnlyAdmin, site
from gateway_project.core.models import AuditEventType
from gateway_project.core.roles import actor_of, can_administer
from gateway_project.core.services.audit import audit_record
from uploads.forms import STOW_WARNING, StowVaultForm
from uploads.models import StowVault, Transport, UploadAttempt, UploadJob, UploadPart, Vault
from uploads.services.stow_vaults import stow_vault_save
from uploads.services.vaults import vault_switch


@admin.register(Vault, site=site)
class VaultAdmin(AdministratorAdmin):
    list_display = (
        "name",
        "base_url",
        "transport",
        "vault_id",
        "required",
        "enabled",
        "demonstration",
        "recipient_key_id",
    )
    fields = (
        "name",
        "required",
        "enabled",
        "transport",
        "base_url",
        "vault_id",
        "recipient_key_id",
        "token_state",
        "demonstration",
        "lane",
        "created_at",
    )
    readonly_fields = (
        "transport",
        "base_url",
        "vault_id",
        "recipient_key_id",
        "token_state",
        "demonstration",
        "lane",
        "created_at",
    )
    list_select_related = ("lane",)

    def get_readonly_fields(self, request: HttpRequest, obj: Vault | None = None) -> tuple[str, ...]:
        """The demonstration vault is found again by its name at every start."""
        return ("name", *self.readonly_fields) if obj is not None and obj.demonstration else self.readonly_fields

    @admin.display(description="token")
    def token_state(self, vault: Vault) -> str:
        return "set" if vault.token else "not set"

    def save_model(self, request: HttpRequest, obj: Vault, form: ModelForm, change: bool) -> None:
        """The switch goes through its service: what is planned for the vault waits or flows with it."""
        actor, enabled = actor_of(request.user), obj.enabled
        changed = [name for name in form.changed_data if name != "enabled"]
        if "enabled" in form.changed_data:
            obj.enabled = not enabled
        super().save_model(request, obj, form, change)
        if "enabled" in form.changed_data:
            vault_switch(obj, enabled=enabled, actor=actor)
            obj.refresh_from_db()
        if changed:
            detail = {"action": "vault changed", **{name: getattr(obj, name) for name in changed}}
            audit_record(AuditEventType.CONFIGURATION, actor=actor, subject=f"vault:{obj.pk}", detail=detail)


@admin.register(StowVault, site=site)
class StowVaultAdmin(AdministratorAdmin):
    """DICOMweb servers: made and changed here, as they have no keys to pin."""

    form = StowVaultForm
    list_display = ("name", "base_url", "auth_kind", "required", "enabled", "deletion_allowed")
    fieldsets = (
        (None, {"fields": ("name", "base_url", "required"), "description": STOW_WARNING}),
        ("How the server knows us", {"fields": ("auth_kind", "auth_user", "secret", "oauth_token_url", "oauth_scope")}),
        ("Requests", {"fields": ("batch_instances", "batch_bytes")}),
        ("Deleting files here", {"fields": ("deletion_allowed",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[StowVault]:
        return StowVault.objects.filter(transport=Transport.STOW)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def save_model(self, request: HttpRequest, obj: StowVault, form: ModelForm, change: bool) -> None:
        stow_vault_save(obj, secret=form.cleaned_data["secret"], actor=actor_of(request.user))


class AttemptInline(admin.TabularInline):
    model = UploadAttempt
    fields = ("number", "started_at", "ended_at", "result", "error_words", "files_sent", "bytes_sent")
    readonly_fields = fields
    can_delete = False
    extra = 0

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return site.has_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(UploadJob, site=site)
class UploadJobAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "vault",
        "revision",
        "state",
        "attempts",
        "run_after",
        "error_words",
        "receipt_id",
        "receipt_at",
    )
    list_select_related = ("vault", "revision")
    list_filter = ("state", "vault")
    search_fields = ("=upload_id", "=receipt_id", "=revision__study__study_instance_uid")
    inlines = (AttemptInline,)
    ordering = ("-id",)


@admin.register(UploadAttempt, site=site)
class UploadAttemptAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "job",
        "number",
        "started_at",
        "ended_at",
        "result",
        "error_words",
        "files_sent",
        "bytes_sent",
    )
    list_select_related = ("job",)
    list_filter = ("result",)
    search_fields = ("=job__upload_id",)
    ordering = ("-id",)


@admin.register(UploadPart, site=site)
class UploadPartAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "job", "size_bytes", "staged_at", "confirmed_at")
    list_select_related = ("job",)
    search_fields = ("=job__upload_id", "=file_id", "=sha256")
    ordering = ("-id",)
