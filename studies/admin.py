"""Admin of studies and what hangs below them: to look, not to change."""

from django.contrib import admin

from gateway_project.core.admin_site import ReadOnlyAdmin, site
from studies.models import Instance, QuarantinedObject, Series, Study, StudyRevision


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


@admin.register(Series, site=site)
class SeriesAdmin(ReadOnlyAdmin):
    list_display = ("id", "study", "modality", "series_number", "instance_count", "size_bytes", "created_at")
    list_select_related = ("study",)
    list_filter = ("modality",)
    search_fields = ("=series_instance_uid",)
    raw_id_fields = ("study",)
    ordering = ("-id",)


@admin.register(StudyRevision, site=site)
class StudyRevisionAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "study",
        "number",
        "state",
        "reason",
        "actor",
        "instance_count",
        "settled_at",
        "dispatched_at",
    )
    list_select_related = ("study",)
    list_filter = ("state", "reason")
    search_fields = ("=study__study_instance_uid",)
    ordering = ("-id",)


@admin.register(Instance, site=site)
class InstanceAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "study",
        "series",
        "version",
        "current",
        "size_bytes",
        "flags",
        "source_ae_title",
        "received_at",
    )
    list_select_related = ("study", "series")
    list_filter = ("current",)
    search_fields = ("=sop_instance_uid",)
    ordering = ("-id",)


@admin.register(QuarantinedObject, site=site)
class QuarantinedObjectAdmin(ReadOnlyAdmin):
    list_display = ("id", "code", "reason", "source_ae_title", "peer_address", "size_bytes", "count", "latest_at")
    list_filter = ("code",)
    search_fields = ("=sha256", "=source_ae_title", "code")
    ordering = ("-latest_at", "-id")
