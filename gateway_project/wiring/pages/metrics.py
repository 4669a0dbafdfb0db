"""/metrics: the figures for Prometheus."""

from typing import Any

from django.http import HttpResponse
from django.urls import path
from prometheus_client.exposition import choose_encoder
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from gateway_project.core.roles import roles_of
from gateway_project.wiring.metrics.collect import GatewayCollector
from gateway_project.wiring.setup import request_is_local


class LocalOrRole(BasePermission):
    """Anonymous from this machine without a proxy; from elsewhere whoever has a role, also by a token."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request_is_local(request._request) or bool(roles_of(request.user))


class MetricsView(APIView):
    """The text format of Prometheus, or OpenMetrics where that is asked for. No patient's data in it."""

    permission_classes = [LocalOrRole]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """The formats are not REST framework's: any Accept is good, an error is a problem in JSON."""
        return super().perform_content_negotiation(request, force=True)

    def get(self, request: Request) -> HttpResponse:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return HttpResponse(
            encode(GatewayCollector()), content_type=content_type, headers={"Cache-Control": "no-store"}
        )


urlpatterns = [
    path("metrics", MetricsView.as_view(), name="metrics"),
]
