"""Admin of ended associations: to look, not to change."""

from django.contrib import admin

from gateway_project.core.admin_site import ReadOnlyAdmin, site
from network.models import AssociationRecord


@admin.register(AssociationRecord, site=site)
class AssociationRecordAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "calling_ae_title",
        "called_ae_title",
        "peer_address",
        "outcome",
        "objects_stored",
        "objects_refused",
        "bytes_received",
        "closed_at",
        "reason",
    )
    list_filter = ("outcome", "tls")
    search_fields = ("=calling_ae_title", "=peer_address", "=association_id")
    ordering = ("-closed_at", "-id")
