"""Admin of lanes, alerts, the audit trail, changed options, leases, API tokens and sessions."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest

from gateway_project.core.admin_site import ChoiceFilter, ReadOnlyAdmin, related, site
from gateway_project.core.clock import database_now
from gateway_project.core.models import (
    Alert,
    AlertNotice,
    AlertNoticeItem,
    ApiToken,
    AuditEvent,
    AuditEventType,
    AuditSeal,
    ConfigOverride,
    Lane,
    Lease,
    LoginCount,
    RollupMark,
    SharedMark,
    WebSession,
)
from gateway_project.core.options import REGISTRY, OptionUnknownError
from gateway_project.core.roles import actor_of
from gateway_project.core.services.alerts import alert_acknowledge
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.lanes import lane_pause, lane_resume
from gateway_project.core.services.tokens import token_revoke


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
    date_hierarchy = "opened_at"
    search_fields = ("key", "code", "words")
    ordering = ("-opened_at", "-pk")
    actions = ("acknowledge",)

    @admin.action(description="Acknowledge: I have seen it", permissions=["act"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        for alert in queryset:
            alert_acknowledge(alert, actor=actor_of(request.user))
        self.message_user(request, "Acknowledged. An alert stays open until it is healed.", messages.SUCCESS)


class OutcomeFilter(ChoiceFilter):
    title, parameter_name, field = "outcome", "outcome", "outcome"
    values = (("success", "success"), ("failure", "failure"))


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
    """Written once, never changed: to look at. `manage.py auditverify` proves that nobody did."""

    list_display = ("at", "event", "outcome", "actor", "subject", "detail", "correlation_id")
    list_filter = ("event", OutcomeFilter)
    search_fields = ("=subject",)
    search_help_text = "A whole subject, such as study:12, user:3, vault:1, option:KEY or lane:NAME."
    ordering = ("-pk",)


@admin.register(AuditSeal, site=site)
class AuditSealAdmin(ReadOnlyAdmin):
    list_display = ("sequence", related("event"), "hash")
    list_select_related = ("event",)
    search_fields = ("=hash",)
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


@admin.register(ApiToken, site=site)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens are made by `manage.py tokencreate`, where the secret is shown; here they are looked at and ended."""

    list_display = ("name", "role", "created_by", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_filter = ("role",)
    search_fields = ("name",)
    exclude = ("secret_sha256",)
    actions = ("revoke",)

    @admin.action(description="Revoke: the next request with it is refused, for good", permissions=["act"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset:
            token_revoke(token, actor=actor_of(request.user), now=database_now())
        self.message_user(request, "Revoked. A program that still needs access gets a new token.", messages.SUCCESS)


@admin.register(Lease, site=site)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("name", "holder", "until")
    search_fields = ("name", "holder")
    ordering = ("name",)


@admin.register(SharedMark, site=site)
class SharedMarkAdmin(ReadOnlyAdmin):
    list_display = ("name", "made_by", "made_at")
    fields = ("name", "made_by", "made_at")


@admin.register(Group, site=site)
class GroupAdmin(ReadOnlyAdmin):
    list_display = ("name",)
    fields = ("name",)
    ordering = ("name",)


@admin.register(WebSession, site=site)
class WebSessionAdmin(ReadOnlyAdmin):
    """Who is logged in where. The key that lets in is never shown."""

    list_display = ("id", related("user"), "address", "browser", "begun_at", "seen_at", "expire_date")
    list_select_related = ("user",)
    fields = ("user", "address", "browser", "begun_at", "seen_at", "expire_date")
    search_fields = ("=user__username", "=address")
    ordering = ("-seen_at", "-pk")
    actions = ("end",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebSession]:
        """Those of somebody: the others hold nothing but a form's token."""
        return super().get_queryset(request).filter(user__isnull=False)

    @admin.action(description="End: whoever uses it has to log in again", permissions=["act"])
    def end(self, request: HttpRequest, queryset: QuerySet[WebSession]) -> None:
        mine = request.session.session_key
        for session in queryset.exclude(session_key=mine).select_related("user"):
            detail = {"action": "session ended by an administrator", "address": session.address}
            subject = f"user:{session.user_id}"
            session.delete()
            audit_record(
                AuditEventType.USER_AUTHENTICATION, actor=actor_of(request.user), subject=subject, detail=detail
            )
        self.message_user(request, "Ended. Your own session is never among them: log out instead.", messages.SUCCESS)


@admin.register(LoginCount, site=site)
class LoginCountAdmin(ReadOnlyAdmin):
    list_display = ("network", "count", "blocked", "until")
    list_filter = ("blocked",)
    search_fields = ("=network",)
    ordering = ("-until", "-pk")
    actions = ("forget",)

    @admin.action(description="Forget: this address may try again at once", permissions=["act"])
    def forget(self, request: HttpRequest, queryset: QuerySet[LoginCount]) -> None:
        for row in queryset:
            row.delete()
            audit_record(
                AuditEventType.USER_AUTHENTICATION,
                actor=actor_of(request.user),
                subject="login",
                detail={"action": "failed logins of an address forgotten", "address": row.network, "failed": row.count},
            )
        self.message_user(request, "Forgotten.", messages.SUCCESS)
