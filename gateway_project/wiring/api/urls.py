"""Every address below /api/."""

from django.urls import path, register_converter
from django.views.generic import RedirectView

from gateway_project.wiring.api import (
    alerts,
    connections,
    custody,
    peers,
    quarantine,
    schema,
    studies,
    system,
    uploads,
    vaults,
)


class UidConverter:
    """A DICOM UID: digits and dots, at most 64 characters."""

    regex = "[0-9.]{1,64}"

    def to_python(self, value: str) -> str:
        return value

    to_url = to_python


class NumberConverter:
    """A row's number that every database can hold."""

    regex = "[0-9]{1,18}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(UidConverter, "dicomuid")
register_converter(NumberConverter, "number")

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="api-docs"), name="api"),
    path("schema/", schema.SchemaView.as_view(), name="api-schema"),
    path("docs/", schema.swagger, name="api-docs"),
    path("redoc/", schema.redoc, name="api-redoc"),
    path("health", system.ApiHealthView.as_view(), name="api-health"),
    path("status", system.StatusView.as_view(), name="api-status"),
    path("system/diagnostics", system.DiagnosticsView.as_view(), name="api-diagnostics"),
    path("studies", studies.StudiesView.as_view(), name="api-studies"),
    path("studies/search", studies.StudySearchView.as_view(), name="api-study-search"),
    path("studies/<dicomuid:uid>", studies.StudyView.as_view(), name="api-study"),
    path("studies/<dicomuid:uid>/instances", studies.StudyInstancesView.as_view(), name="api-study-instances"),
    path("studies/<dicomuid:uid>/attempts", studies.StudyAttemptsView.as_view(), name="api-study-attempts"),
    path("studies/<dicomuid:uid>/retry", studies.StudyRetryView.as_view(), name="api-study-retry"),
    path("studies/<dicomuid:uid>/settle", studies.StudySettleView.as_view(), name="api-study-settle"),
    path("studies/<dicomuid:uid>/custody", custody.CustodyView.as_view(), name="api-study-custody"),
    path("uploads", uploads.UploadsView.as_view(), name="api-uploads"),
    path("connections", connections.ConnectionsView.as_view(), name="api-connections"),
    path("peers", peers.PeersView.as_view(), name="api-peers"),
    path("peers/create", peers.PeerCreateView.as_view(), name="api-peer-create"),
    path("peers/test", peers.PeerTestView.as_view(), name="api-peer-test"),
    path("peers/<number:pk>", peers.PeerView.as_view(), name="api-peer"),
    path("peers/<number:pk>/commitments", peers.PeerCommitmentsView.as_view(), name="api-peer-commitments"),
    path("peers/<number:pk>/change", peers.PeerChangeView.as_view(), name="api-peer-change"),
    path("peers/<number:pk>/delete", peers.PeerDeleteView.as_view(), name="api-peer-delete"),
    path("peers/<number:pk>/echo", peers.PeerEchoView.as_view(), name="api-peer-echo"),
    path("pool", peers.PoolView.as_view(), name="api-pool"),
    path("vaults", vaults.VaultsView.as_view(), name="api-vaults"),
    path("lanes", vaults.LanesView.as_view(), name="api-lanes"),
    path("lanes/<number:pk>", vaults.LaneView.as_view(), name="api-lane"),
    path("lanes/<number:pk>/pause", vaults.LanePauseView.as_view(), name="api-lane-pause"),
    path("lanes/<number:pk>/resume", vaults.LaneResumeView.as_view(), name="api-lane-resume"),
    path("alerts", alerts.AlertsView.as_view(), name="api-alerts"),
    path("alerts/<number:pk>/acknowledge", alerts.AlertAcknowledgeView.as_view(), name="api-alert-acknowledge"),
    path("quarantine", quarantine.QuarantineView.as_view(), name="api-quarantine"),
    path("quarantine/<number:pk>", quarantine.QuarantinedObjectView.as_view(), name="api-quarantined"),
    path("quarantine/<number:pk>/accept", quarantine.QuarantineAcceptView.as_view(), name="api-quarantine-accept"),
    path("quarantine/<number:pk>/discard", quarantine.QuarantineDiscardView.as_view(), name="api-quarantine-discard"),
]
