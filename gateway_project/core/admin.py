"""Admin of lanes, alerts, the audit trail, changed options and accounts."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from gateway_project.core.admin_site import ReadOnlyAdmin, site
from gateway_project.core.clock import database_now
from gateway_project.core.models import (
    Alert,
    AlertNotice,
    AlertNoticeItem,
    AuditEvent,
    AuditEventType,
    AuditSeal,
    ConfigOverride,
    Lane,
    Lease,
    RollupMark,
)
from gateway_project.core.options import REGISTRY, OptionUnknownError
from gateway_project.core.roles import ROLES, actor_of, can_administer
from gateway_project.core.services.alerts import alert_acknowledge
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.lanes import lane_pause, lane_resume


@admin.register(Lane, site=site)
class LaneAdmin(ReadOnlyAdmin):
    list_display = (
        "title",
        "name",
        "max_parallel",
        "paused",
        "held",
        "faults",
        "open_until",
        "waits_until",
        "fault_words",
    )
    list_filter = ("paused", "held")
    search_fields = ("name", "title")
    actions = ("pause", "resume")

    @admin.action(description="Pause: what is under way ends, nothing new begins", permissions=["act"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Lane]) -> None:
        for lane in queryset:
            lane_pause(lane, actor=actor_of(request.user), now=database_now())
        self.message_user(request, "Paused. Nothing is lost; resume when you are ready.", messages.WARNING)

    @admin.action(description="Resume: lift pause and hold, try at once", permissions=["act"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Lane]) -> None:
        for lane in queryset:
            lane_resume(lane, actor=actor_of(request.user), now=database_now())
        self.message_user(request, "Resumed.", messages.SUCCESS)


class OpenFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "open"), ("no", "healed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        if self.value() in ("yes", "no"):
            return queryset.filter(healed_at__isnull=self.value() == "yes")
        return queryset


@admin.register(Alert, site=site)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ("words", "severity", "code", "count", "opened_at", "acknowledged_by", "healed_at")
    list_filter = (OpenFilter, "severity")
    search_fields = ("key", "code", "words")
    ordering = ("-opened_at", "-pk")
    actions = ("acknowledge",)

    @admin.action(description="Acknowledge: I have seen it", permissions=["act"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        for alert in queryset:
            alert_acknowledge(alert, actor=actor_of(request.user))
        self.message_user(request, "Acknowledged. An alert stays open until it is healed.", messages.SUCCESS)


@admin.register(AlertNotice, site=site)
class AlertNoticeAdmin(ReadOnlyAdmin):
    list_display = ("id", "way", "state", "dropped", "attempts", "run_after", "ended_at", "error_words")
    list_filter = ("way", "state")
    ordering = ("-id",)


@admin.register(AlertNoticeItem, site=site)
class AlertNoticeItemAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "severity", "words", "notice", "alert", "at")
    list_select_related = ("notice", "alert")
    list_filter = ("kind",)
    raw_id_fields = ("notice", "alert")
    ordering = ("-id",)


@admin.register(AuditEvent, site=site)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "event", "outcome", "actor", "subject", "detail", "correlation_id")
    list_filter = ("event", "outcome")
    search_fields = ("subject", "actor", "correlation_id")


@admin.register(AuditSeal, site=site)
class AuditSealAdmin(ReadOnlyAdmin):
    list_display = ("sequence", "event", "hash")
    list_select_related = ("event",)
    ordering = ("-sequence",)


@admin.register(ConfigOverride, site=site)
class ConfigOverrideAdmin(ReadOnlyAdmin):
    list_display = ("key", "shown", "updated_by", "updated_at")
    fields = ("key", "shown", "updated_by", "updated_at")
    search_fields = ("key",)

    @admin.display(description="value")
    def shown(self, row: ConfigOverride) -> str:
        """A secret, and what no known option declares harmless, is only ever "set"."""
        try:
            secret = REGISTRY.get(row.key).secret
        except OptionUnknownError:
            secret = True
        return "set" if secret else str(row.value)


@admin.register(RollupMark, site=site)
class RollupMarkAdmin(ReadOnlyAdmin):
    list_display = ("name", "counted_to", "seen_to", "total", "changed_at")
    ordering = ("name",)


@admin.register(Lease, site=site)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("name", "holder", "until")


@admin.register(Group, site=site)
class GroupAdmin(ReadOnlyAdmin):
    list_display = ("name",)
    fields = ("name",)
    ordering = ("name",)


@admin.register(User, site=site)
class AccountAdmin(UserAdmin):
    """Accounts and their roles. Only the fields named here can be set: no one makes a superuser from a form."""

    list_display = ("username", "first_name", "last_name", "roles", "is_active", "last_login")
    list_filter = ("is_active", "groups")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Roles", {"fields": ("is_active", "groups")}),
        ("Last seen", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ("groups",)

    @admin.display(description="roles")
    def roles(self, user: User) -> str:
        return (
            "all" if user.is_superuser else ", ".join(group.name for group in user.groups.all() if group.name in ROLES)
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return can_administer(request.user)

    def has_view_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return can_administer(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return can_administer(request.user)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """A superuser's account is changed by a superuser alone: an administrator must not take it over."""
        return can_administer(request.user) and (obj is None or not obj.is_superuser or request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Accounts are switched off, never deleted: the audit trail names them."""
        return False

    def save_related(self, request: HttpRequest, form: ModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        user = form.instance
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor_of(request.user),
            subject=f"user:{user.pk}",
            detail={
                "action": "account changed" if change else "account made",
                "changed": sorted(form.changed_data),
                "active": user.is_active,
                "roles": sorted(user.groups.values_list("name", flat=True)),
            },
        )
