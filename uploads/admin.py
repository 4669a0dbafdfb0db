"""Admin of vaults and uploads. A vault's pins and token are not changed from a form."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.timezone import now

from gateway_project.core.admin_site import AdministratorAdmin, ReadOnlyAdmin, site
from gateway_project.core.models import AuditEventType
from gateway_project.core.roles import actor_of
from gateway_project.core.services.audit import audit_record
from uploads.forms import VaultForm
from uploads.models import UploadAttempt, UploadJob, UploadPart, Vault
from uploads.services.vaults import vault_switch, vault_way_set


@admin.register(Vault, site=site)
class VaultAdmin(AdministratorAdmin):
    list_display = ("name", "base_url", "vault_id", "required", "enabled", "demonstration", "recipient_key_id")
    form = VaultForm
    fields = (
        "name",
        "required",
        "enabled",
        "parallel_studies",
        "bytes_per_second",
        "windows",
        "ca",
        "new_proxy",
        "proxy_state",
        "base_url",
        "vault_id",
        "recipient_key_id",
        "token_state",
        "demonstration",
        "lane",
        "created_at",
    )
    readonly_fields = (
        "base_url",
        "vault_id",
        "recipient_key_id",
        "token_state",
        "proxy_state",
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

    @admin.display(description="proxy is")
    def proxy_state(self, vault: Vault) -> str:
        return "set" if vault.proxy else "not set"

    def save_model(self, request: HttpRequest, obj: Vault, form: VaultForm, change: bool) -> None:
        """The switch and the way to the vault go through their services: what is planned for it waits or flows."""
        actor, enabled = actor_of(request.user), obj.enabled
        changed = [name for name in form.changed_data if name not in ("enabled", "new_proxy")]
        if "enabled" in form.changed_data:
            obj.enabled = not enabled
        super().save_model(request, obj, form, change)
        if "enabled" in form.changed_data:
            vault_switch(obj, enabled=enabled, actor=actor)
            obj.refresh_from_db()
        vault_way_set(obj, proxy=form.proxy_change(), actor=actor, now=now())
        if changed:
            detail = {"action": "vault changed", **{name: getattr(obj, name) for name in changed if name != "ca"}}
            audit_record(AuditEventType.CONFIGURATION, actor=actor, subject=f"vault:{obj.pk}", detail=detail)


class AttemptInline(admin.TabularInline):
    model = UploadAttempt
    fields = ("number", "upload_id", "started_at", "ended_at", "result", "error_words", "files_sent", "bytes_sent")
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
        "error_code",
        "error_words",
        "files_sent",
        "bytes_sent",
        "upload_id",
    )
    list_select_related = ("job",)
    list_filter = ("result",)
    search_fields = ("=upload_id",)
    ordering = ("-id",)


@admin.register(UploadPart, site=site)
class UploadPartAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "job", "size_bytes", "staged_at", "confirmed_at")
    list_select_related = ("job",)
    search_fields = ("=job__upload_id", "=file_id", "=sha256")
    ordering = ("-id",)
