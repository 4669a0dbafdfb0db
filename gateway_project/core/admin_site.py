"""The admin of the gateway: only what is registered here, only for administrators, through the one login page."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from gateway_project.core.roles import can_administer


class GatewayAdminSite(admin.AdminSite):
    """Other packages' admins register on Django's own site, which no address leads to."""

    site_header = "Gateway administration"
    site_title = "Gateway"
    index_title = "What the gateway keeps"
    site_url = "/"
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        return can_administer(request.user)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next") or "/admin/")


site = GatewayAdminSite(name="admin")


class AdministratorAdmin(admin.ModelAdmin):
    """Rights come from the administrator role, not from Django's permission rows. Nothing is deleted from here."""

    list_per_page = 50
    show_full_result_count = False  # one COUNT less over a table of any size

    def has_module_permission(self, request: HttpRequest) -> bool:
        return can_administer(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_administer(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(AdministratorAdmin):
    """Shows rows; adds, changes and deletes nothing. Actions of a subclass stay available."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        """For actions: `@admin.action(permissions=["act"])`."""
        return can_administer(request.user)
