"""The admin of the gateway: only what is registered here, only for administrators, through the one login page."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

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

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One place to change one's own password, and that one counts failures."""
        return redirect("account")

    def password_change_done(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect("account")


site = GatewayAdminSite(name="admin")


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than a person turns pages: a list costs the same over a million rows."""

    MOST = 5_000

    @cached_property
    def _counted(self) -> int:
        return int(self.object_list.order_by()[: self.MOST + 1].count())  # type: ignore[attr-defined]

    @cached_property
    def count(self) -> int:
        return min(self._counted, self.MOST)

    @property
    def is_cut(self) -> bool:
        return self._counted > self.MOST


def related(field: str, *, title: str = "") -> Callable[[Any], SafeString | str]:
    """A column that leads to the row which a foreign key names; select it with `list_select_related`."""

    @admin.display(description=title or field.replace("_", " "), ordering=f"{field}_id")
    def show(row: Any) -> SafeString | str:
        other = getattr(row, field)
        return _link(other, str(other)) if other is not None else "-"

    return show


def rows_link(model: type[Model], words: str, **filters: object) -> SafeString:
    """A link to the list of another model, narrowed to what belongs to this row."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return format_html('<a href="{}?{}">{}</a>', address, urlencode(filters), words)


def _link(row: Model, words: str) -> SafeString:
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[row.pk]), words)


class ChoiceFilter(admin.SimpleListFilter):
    """A filter over values known beforehand: asks the table for none."""

    field = ""
    values: tuple[tuple[str, str], ...] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.values)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(**{self.field: chosen}) if chosen in dict(self.values) else queryset


class AdministratorAdmin(admin.ModelAdmin):
    """Rights come from the administrator role, not from Django's permission rows. Nothing is deleted from here."""

    list_per_page = 50
    list_max_show_all = 50
    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER  # a COUNT for each choice of each filter
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
