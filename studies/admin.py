"""Admin of studies and what hangs below them, to look; of the quarantine and of what is set for a device, to act."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from gateway_project.core.admin_site import (
    AdministratorAdmin,
    ChoiceFilter,
    ReadOnlyAdmin,
    related,
    rows_link,
    site,
)
from gateway_project.core.roles import actor_of, can_administer
from studies.dicom.spool import SpoolError
from studies.errors import QuarantineError
from studies.models import (
    Arrival,
    Instance,
    QuarantinedObject,
    Series,
    SourceActivity,
    SourcePolicy,
    Study,
    StudyRevision,
)
from studies.selectors import store_open
from studies.services.accept import quarantine_accept
from studies.services.policy import source_policy_remove, source_policy_save
from studies.services.quarantine import quarantine_discard
from studies.services.silence import silence_switch


@admin.register(Study, site=site)
class StudyAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "state",
        "modalities",
        "study_date",
        "source_ae_title",
        "instance_count",
        "received_at",
        "reason",
    )
    list_filter = ("state", "conflict")
    search_fields = ("=id", "=study_instance_uid")  # what is searched here stands in an address: nothing of a patient
    search_help_text = "Our id or a whole study UID. Patients are searched on the studies page, outside any address."
    ordering = ("-received_at", "-id")
    date_hierarchy = "study_date"

    @admin.display(description="what hangs below it")
    def below(self, study: Study) -> SafeString:
        links = [
            rows_link(model, words, study__id__exact=study.pk)
            for model, words in ((Series, "series"), (StudyRevision, "revisions"), (Instance, "instances"))
        ]
        return format_html_join(", ", "{}", ((link,) for link in links))

    def get_readonly_fields(self, request: HttpRequest, obj: Study | None = None) -> tuple[str, ...]:
        return ("below",)


@admin.register(Series, site=site)
class SeriesAdmin(ReadOnlyAdmin):
    list_display = ("id", related("study"), "modality", "series_number", "instance_count", "size_bytes", "created_at")
    list_select_related = ("study",)
    search_fields = ("series_instance_uid__exact", "modality__exact")
    search_help_text = "A whole series UID, or a modality."
    raw_id_fields = ("study",)
    ordering = ("-id",)


class ReasonFilter(ChoiceFilter):
    title, parameter_name, field = "reason", "reason", "reason"
    values = (("quiet", "quiet"), ("open-too-long", "open too long"), ("asked", "asked for"))


@admin.register(StudyRevision, site=site)
class StudyRevisionAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        related("study"),
        "number",
        "state",
        "reason",
        "actor",
        "instance_count",
        "settled_at",
        "dispatched_at",
    )
    list_select_related = ("study",)
    list_filter = ("state", ReasonFilter)
    search_fields = ("=study__study_instance_uid",)
    ordering = ("-id",)


@admin.register(Instance, site=site)
class InstanceAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        related("study"),
        related("series"),
        "version",
        "current",
        "size_bytes",
        "flags",
        "source_ae_title",
        "received_at",
    )
    list_select_related = ("study", "series")
    list_filter = ("current",)
    search_fields = ("sop_instance_uid__exact",)  # a million rows: only what an index answers
    ordering = ("-id",)


@admin.register(QuarantinedObject, site=site)
class QuarantinedObjectAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "state",
        "code",
        "reason",
        "source_ae_title",
        "peer_address",
        "size_bytes",
        "kept",
        "count",
        "latest_at",
    )
    list_filter = ("state", "kept")
    search_fields = ("=sha256", "=source_ae_title", "=code", "=peer_address")
    date_hierarchy = "latest_at"
    raw_id_fields = ("instance",)
    ordering = ("-latest_at", "-id")
    actions = ("accept", "discard")

    @admin.action(description="Accept anyway: keep it as if it had been received", permissions=["act"])
    def accept(self, request: HttpRequest, queryset: QuerySet[QuarantinedObject]) -> None:
        self._decide(request, queryset, quarantine_accept, "Accepted: it is in its study now, with a flag.")

    @admin.action(description="Discard: remove the bytes for good", permissions=["act"])
    def discard(self, request: HttpRequest, queryset: QuerySet[QuarantinedObject]) -> None:
        self._decide(request, queryset, quarantine_discard, "Discarded.")

    def _decide(
        self,
        request: HttpRequest,
        queryset: QuerySet[QuarantinedObject],
        decision: Callable[..., object],
        success: str,
    ) -> None:
        """Each object apart: one that cannot be decided about says why, the others are done."""
        store = store_open()
        for row in queryset.order_by("pk"):
            try:
                decision(row, actor=actor_of(request.user), store=store)
            except (QuarantineError, SpoolError) as error:
                self.message_user(request, f"Object {row.pk}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"Object {row.pk}: {success}", messages.SUCCESS)


@admin.register(SourcePolicy, site=site)
class SourcePolicyAdmin(AdministratorAdmin):
    """What is set for one device. Rows are made, changed and removed here, and every change is audited."""

    list_display = (
        "calling_ae_title",
        "strictness",
        "quiet_seconds",
        "max_open_seconds",
        "silence_watched",
        "changed_at",
    )
    list_filter = ("strictness", "silence_watched")
    search_fields = ("calling_ae_title",)
    ordering = ("calling_ae_title",)
    readonly_fields = ("changed_at",)
    actions = None

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def save_model(self, request: HttpRequest, obj: SourcePolicy, form: ModelForm, change: bool) -> None:
        source_policy_save(obj, actor=actor_of(request.user))

    def delete_model(self, request: HttpRequest, obj: SourcePolicy) -> None:
        source_policy_remove(obj, actor=actor_of(request.user))


@admin.register(SourceActivity, site=site)
class SourceActivityAdmin(ReadOnlyAdmin):
    """Who has ever sent something, and how much. What is set for a device stands in Source policies."""

    list_display = ("calling_ae_title", "objects_received", "size_bytes", "stored_bytes", "first_at", "last_at")
    search_fields = ("=calling_ae_title",)
    ordering = ("-last_at", "-id")
    actions = ("watch", "unwatch")

    @admin.action(description="Watch for silence", permissions=["act"])
    def watch(self, request: HttpRequest, queryset: QuerySet[SourceActivity]) -> None:
        self._switch(request, queryset, watched=True)

    @admin.action(description="Do not watch for silence", permissions=["act"])
    def unwatch(self, request: HttpRequest, queryset: QuerySet[SourceActivity]) -> None:
        self._switch(request, queryset, watched=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[SourceActivity], *, watched: bool) -> None:
        for source in queryset.exclude(calling_ae_title=""):
            silence_switch(source.calling_ae_title, watched=watched, actor=actor_of(request.user))
        self.message_user(request, "Set in Source policies.", messages.SUCCESS)


@admin.register(Arrival, site=site)
class ArrivalAdmin(ReadOnlyAdmin):
    list_display = ("id", "source", "minutes", "start", "objects_received", "size_bytes")
    list_select_related = ("source",)
    search_fields = ("=source__calling_ae_title",)
    ordering = ("-id",)
