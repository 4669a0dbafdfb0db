"""Every address of the gateway."""

from django.urls import include, path

from gateway_project.core.admin_site import site
from gateway_project.wiring import status

PAGES = "gateway_project.wiring.pages"

urlpatterns = [
    path("", include(f"{PAGES}.now")),
    path("", include(f"{PAGES}.studies")),
    path("", include(f"{PAGES}.study")),
    path("", include(f"{PAGES}.pictures")),
    path("", include(f"{PAGES}.custody")),
    path("", include(f"{PAGES}.connections")),
    path("", include(f"{PAGES}.peers")),
    path("", include(f"{PAGES}.vaults")),
    path("", include(f"{PAGES}.quarantine")),
    path("", include(f"{PAGES}.alerts")),
    path("", include(f"{PAGES}.audit")),
    path("", include(f"{PAGES}.actions")),
    path("", include(f"{PAGES}.account")),
    path("", include(f"{PAGES}.metrics")),
    path("api/", include("gateway_project.wiring.api.urls")),
    path("", include(f"{PAGES}.own_account")),
    path("", include(f"{PAGES}.help")),
    path("health", status.HealthView.as_view(), name="health"),
    path("version", status.VersionView.as_view(), name="version"),
    path("admin/", site.urls),
]
handler400 = "gateway_project.wiring.problems.bad_request"
handler403 = "gateway_project.wiring.problems.permission_denied"
handler404 = "gateway_project.wiring.problems.page_not_found"
handler500 = "gateway_project.wiring.problems.server_error"
