"""Every address of the gateway."""

from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.generic import RedirectView

from gateway_project.core.admin_site import site
from gateway_project.wiring import custody, status, views

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="studies"), name="home"),
    path("studies/", views.studies, name="studies"),
    path("studies/live/", views.studies_live, name="studies-live"),
    path("studies/<int:pk>/", views.study, name="study"),
    path("studies/<int:pk>/live/", views.study_live, name="study-live"),
    path("studies/<int:pk>/settle/", views.study_settle, name="study-settle"),
    path("studies/<int:pk>/retry/", views.study_retry, name="study-retry"),
    path("studies/<int:pk>/custody/", custody.custody, name="study-custody"),
    path("studies/<int:pk>/custody/export/", custody.custody_export, name="study-custody-export"),
    path("lanes/<int:pk>/resume/", views.lane_resume_now, name="lane-resume"),
    path("alerts/<int:pk>/acknowledge/", views.alert_acknowledge_now, name="alert-acknowledge"),
    path("login/", views.GatewayLoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("setup/<str:token>/", views.setup, name="setup"),
    path("health", status.HealthView.as_view(), name="health"),
    path("version", status.VersionView.as_view(), name="version"),
    path("admin/", site.urls),
]
handler400 = "gateway_project.wiring.problems.bad_request"
handler403 = "gateway_project.wiring.problems.permission_denied"
handler404 = "gateway_project.wiring.problems.page_not_found"
handler500 = "gateway_project.wiring.problems.server_error"
