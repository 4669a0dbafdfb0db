"""Alerts: what needs a person."""

from typing import Any

from django.db.models import Q
from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.request import Request

from gateway_project.core.models import Alert, Severity
from gateway_project.core.roles import actor_of
from gateway_project.core.selectors import alerts_found
from gateway_project.core.services.alerts import alert_acknowledge
from gateway_project.wiring.api import pages
from gateway_project.wiring.api.access import ACTING, SEEING
from gateway_project.wiring.api.contract import NUMBER, ApiView, operation
from gateway_project.wiring.api.fields import Answer, Asked, Cursor, Nothing, RowAnswer, Truth, bounded

TAG = "Alerts"


class AlertListQuery(Asked):
    healed = Truth(required=False, help_text="false: those that are open still.")
    acknowledged = Truth(required=False)
    severity = serializers.ChoiceField(Severity.choices, required=False)
    limit = bounded(50, 200)
    cursor = Cursor()


class AlertAnswer(RowAnswer):
    class Meta:
        model = Alert
        fields = (
            "id", "key", "code", "severity", "words", "link", "count", "opened_at", "seen_at", "acknowledged_at",
            "acknowledged_by", "healed_at",
        )  # fmt: skip


class AlertPageAnswer(Answer):
    alerts = AlertAnswer(many=True)
    next = serializers.CharField(allow_null=True)


class AlertsView(ApiView):
    @operation("Alerts", tag=TAG, roles=SEEING, query=AlertListQuery, answer=AlertPageAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """The latest first, open and healed ones unless `healed` says which."""
        limit, before = self.asked["limit"], pages.moment_cursor_read("a", self.asked.get("cursor"))
        found = alerts_found(
            healed=self.asked.get("healed"),
            acknowledged=self.asked.get("acknowledged"),
            severity=self.asked.get("severity", ""),
        )
        if before is not None:
            found = found.filter(Q(opened_at__lt=before[0]) | Q(opened_at=before[0], pk__lt=before[1]))
        rows = list(found[: limit + 1])
        shown, following = pages.page_of(rows, limit, lambda row: pages.moment_cursor("a", row.opened_at, row.pk))
        return pages.answer_page("alerts", shown, following)


class AlertAcknowledgeView(ApiView):
    @operation("Acknowledge an alert", tag=TAG, roles=ACTING, path=[NUMBER], body=Nothing, answer=AlertAnswer)
    def post(self, request: Request, pk: int) -> Alert:
        """Notes that somebody has seen it; it stays open until it heals. Who was first stands, however often."""
        alert = get_object_or_404(Alert, pk=pk)
        alert_acknowledge(alert, actor=actor_of(request.user))
        alert.refresh_from_db()
        return alert
