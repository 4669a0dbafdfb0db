"""Admin of vaults and uploads. A vault's pins and token are not changed from a form."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.timezone import localtime, now
from django.views.decorators.csrf import csrf_protect

from gateway_project.core.admin_site import AdministratorAdmin, ChoiceFilter, ReadOnlyAdmin, related, site
from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEventType
from gateway_project.core.roles import actor_of, can_administer
from gateway_project.core.services.audit import audit_record
from uploads.forms import VaultForm, keys_apply
from uploads.models import (
    DeliveryTimes,
    StowVault,
    Transport,
    UploadAttempt,
    UploadJob,
    UploadPart,
    Vault,
    VaultCheck,
)
from uploads.ports import VaultError
from uploads.selectors import deletion_allowed
from uploads.services.canary import canary_send
from uploads.services.pins import PinError, offer_fetch, pin_rows
from uploads.services.stow_vaults import stow_vault_save
from uploads.services.vaults import vault_client, vault_renamed, vault_switch, vault_way_set
from uploads.services.verify import check_ask
from uploads.stow_forms import STOW_WARNING, StowVaultForm
from uploads.verification import vault_verification


@contextmanager
def faults_told(model_admin: admin.ModelAdmin, request: HttpRequest, vault: Vault) -> Iterator[None]:
    """What the vault or its settings refuse is told to who asked, in its own words."""
    try:
        yield
    except (PinError, VaultError, JobFault) as error:
        model_admin.message_user(request, f"{vault}: {error}", messages.ERROR)


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
    form = VaultForm
    readonly_fields = (
        "transport",
        "base_url",
        "vault_id",
        "gateway_id",
        "recipient_key_id",
        "recipient_pinned_at",
        "pinned_keys",
        "canary_upload_id",
        "canary_sent_at",
        "canary_proved_at",
        "recovery_canary_upload_id",
        "recovery_canary_sent_at",
        "recovery_canary_proved_at",
        "verification",
        "deletion",
        "token_state",
        "proxy_state",
        "demonstration",
        "lane",
        "created_at",
    )
    fieldsets = (
        (None, {"fields": ("name", "required", "enabled", *readonly_fields)}),
        (
            "When, how fast and which way",
            {"fields": ("parallel_studies", "bytes_per_second", "windows", "ca", "new_proxy")},
        ),
        ("Address and token", {"fields": VaultForm.ACCESS_FIELDS}),
        (
            "Keys",
            {
                "fields": VaultForm.KEY_FIELDS,
                "description": "Each change needs the fingerprint that the key's owner has told; all is audited.",
            },
        ),
    )
    list_select_related = ("lane",)
    actions = ("pins_compare", "canary_send", "recovery_canary_send", "verify_now")

    def get_fieldsets(self, request: HttpRequest, obj: Vault | None = None) -> Any:
        """A DICOMweb server has no keys, and its address and secret have a page of their own."""
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets[:-2] if obj is not None and obj.transport == Transport.STOW else fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Vault | None = None) -> tuple[str, ...]:
        """The demonstration vault is found again by its name at every start."""
        return ("name", *self.readonly_fields) if obj is not None and obj.demonstration else self.readonly_fields

    @admin.display(description="token")
    def token_state(self, vault: Vault) -> str:
        return "set" if vault.token else "not set"

    @admin.display(description="proxy is")
    def proxy_state(self, vault: Vault) -> str:
        return "set" if vault.proxy else "not set"

    @admin.display(description="pinned keys")
    def pinned_keys(self, vault: Vault) -> str:
        return "\n".join(str(row) for row in pin_rows(vault, None))

    @admin.display(description="verification")
    def verification(self, vault: Vault) -> str:
        """What the vault has said when it was asked for what it has signed for."""
        if vault.transport == Transport.STOW:
            return "A DICOMweb server signs nothing that it could be asked for."
        found = vault_verification(vault, now=now())
        if not found.offered:
            return "This vault's interface does not offer it."
        since = (
            f"all verified since {localtime(found.oldest_at):%Y-%m-%d %H:%M}" if found.oldest_at else "not all verified"
        )
        signed = f"{found.signed}, {since}" if found.signed else "0"
        return f"Uploads in it: {signed}. Due: {found.due}. Lost: {found.lost}."

    @admin.display(boolean=True, description="receipts may allow deletion")
    def deletion(self, vault: Vault) -> bool:
        return deletion_allowed(vault)

    @admin.action(description="Compare the pinned keys with what the vault offers now", permissions=["change"])
    def pins_compare(self, request: HttpRequest, queryset: "QuerySet[Vault]") -> None:
        for vault in queryset.filter(transport=Transport.GVE1):
            with faults_told(self, request, vault):
                offer = offer_fetch(vault_client(vault, asked=True), recipient_key_id=vault.recipient_key_id)
                for row in pin_rows(vault, offer):
                    self.message_user(request, f"{vault}, {row}", messages.INFO if row.same else messages.ERROR)

    @admin.action(description="Send a canary for the recipient to open", permissions=["change"])
    def canary_send(self, request: HttpRequest, queryset: "QuerySet[Vault]") -> None:
        self._canaries_send(request, queryset, recovery=False)

    @admin.action(description="Send a canary for the recovery key to open", permissions=["change"])
    def recovery_canary_send(self, request: HttpRequest, queryset: "QuerySet[Vault]") -> None:
        self._canaries_send(request, queryset, recovery=True)

    def _canaries_send(self, request: HttpRequest, queryset: "QuerySet[Vault]", *, recovery: bool) -> None:
        actor, holder = actor_of(request.user), "the recovery key's holder" if recovery else "the recipient"
        for vault in queryset.filter(transport=Transport.GVE1):
            with faults_told(self, request, vault):
                upload_id = canary_send(vault, vault_client(vault, asked=True), actor=actor, recovery=recovery)
                words = f"{vault}: canary {upload_id} was sent. Let {holder} open it, then enter the proof."
                self.message_user(request, words, messages.SUCCESS)

    @admin.action(description="Verify everything in the vault now", permissions=["change"])
    def verify_now(self, request: HttpRequest, queryset: "QuerySet[Vault]") -> None:
        for vault in queryset.filter(transport=Transport.GVE1):
            check_ask(vault, actor=actor_of(request.user), now=now())
            words = f"{vault}: it is asked for everything that it has, as its time windows allow. Losses open an alert."
            self.message_user(request, words, messages.SUCCESS)

    @method_decorator(csrf_protect)
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Without Django's transaction around it: vaults are asked meanwhile, and nobody else could write until they
        answer. Each service has its own.
        """
        unwrapped = self._changeform_view  # type: ignore[attr-defined]  # Django's, which its stubs do not know
        answer: HttpResponse = unwrapped(request, object_id, form_url, extra_context)
        return answer

    def save_model(self, request: HttpRequest, obj: Vault, form: VaultForm, change: bool) -> None:
        """The switch and the way to the vault go through their services: what is planned for it waits or flows. Only
        what was changed is written: keys may be pinned at the same moment.
        """
        actor = actor_of(request.user)
        apart = {"enabled", "new_proxy", *VaultForm.ACCESS_FIELDS, *VaultForm.KEY_FIELDS}
        changed = [name for name in form.changed_data if name not in apart]
        with transaction.atomic():
            obj.save(update_fields=changed)
            vault_renamed(obj)
            if "enabled" in form.changed_data:
                vault_switch(obj, enabled=obj.enabled, actor=actor)
            vault_way_set(obj, proxy=form.proxy_change(), actor=actor, now=now())
            if changed:
                detail = {"action": "vault changed", **{name: getattr(obj, name) for name in changed if name != "ca"}}
                audit_record(AuditEventType.CONFIGURATION, actor=actor, subject=f"vault:{obj.pk}", detail=detail)
        for words in keys_apply(obj, form.cleaned_data, actor=actor):
            self.message_user(request, f"Not done: {words}", messages.ERROR)


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
        related("vault"),
        related("revision"),
        "state",
        "attempts",
        "run_after",
        "error_words",
        "receipt_id",
        "receipt_at",
        "verified_at",
    )
    list_select_related = ("vault", "revision")
    list_filter = ("state", "vault")
    search_fields = ("=upload_id", "=receipt_id", "=revision__study__study_instance_uid")
    inlines = (AttemptInline,)
    ordering = ("-id",)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """A study's page of rows leads here."""
        return lookup == "revision__study__id__exact" or super().lookup_allowed(lookup, value, request)


class ResultFilter(ChoiceFilter):
    title, parameter_name, field = "result", "result", "result"
    values = tuple((value, value) for value in ("running", "done", "failed", "interrupted"))


@admin.register(VaultCheck, site=site)
class VaultCheckAdmin(ReadOnlyAdmin):
    list_display = (
        "vault",
        "state",
        "run_after",
        "progress_done",
        "progress_total",
        "error_words",
        "offered",
        "ended_at",
    )
    list_select_related = ("vault",)
    ordering = ("vault",)


@admin.register(UploadAttempt, site=site)
class UploadAttemptAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        related("job"),
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
    list_filter = (ResultFilter,)
    search_fields = ("=upload_id",)
    ordering = ("-id",)


@admin.register(UploadPart, site=site)
class UploadPartAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", related("job"), "size_bytes", "staged_at", "confirmed_at")
    list_select_related = ("job",)
    search_fields = ("job__upload_id__exact",)  # a million rows: only what an index answers
    ordering = ("-id",)


@admin.register(DeliveryTimes, site=site)
class DeliveryTimesAdmin(ReadOnlyAdmin):
    list_display = ("source_ae_title", "uploads", "seconds", "size_bytes")
    search_fields = ("=source_ae_title",)
    ordering = ("-uploads", "-id")
