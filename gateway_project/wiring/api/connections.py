"""Who is connected over DICOM now, and who was."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from gateway_project.core.options import option
from gateway_project.wiring.api.access import PROGRAMS_SEEING
from gateway_project.wiring.api.contract import ApiView, operation
from gateway_project.wiring.api.fields import Answer, Moment, RowAnswer
from network.models import AssociationRecord
from network.selectors import associations_latest, associations_live

TAG = "Connections"


class ActiveAnswer(Answer):
    association_id = serializers.CharField(help_text="Empty until an association is asked for.")
    calling_ae_title = serializers.CharField()
    called_ae_title = serializers.CharField()
    address = serializers.CharField()
    port = serializers.IntegerField()
    endpoint = serializers.CharField()
    tls = serializers.BooleanField()
    connected_at = Moment()
    objects_stored = serializers.IntegerField()
    objects_refused = serializers.IntegerField()
    bytes_received = serializers.IntegerField()
    bytes_per_second = serializers.FloatField()


class EndedAnswer(RowAnswer):
    class Meta:
        model = AssociationRecord
        fields = (
            "association_id", "calling_ae_title", "called_ae_title", "peer_address", "peer_port", "tls", "outcome",
            "reason", "times", "objects_stored", "objects_refused", "bytes_received", "opened_at", "closed_at",
        )  # fmt: skip


class ConnectionsAnswer(Answer):
    listening = serializers.BooleanField(help_text="False: no listener answers, so nobody is connected.")
    active = ActiveAnswer(many=True)
    history = EndedAnswer(many=True)


class ConnectionsView(ApiView):
    @operation("Associations, living and ended", tag=TAG, roles=PROGRAMS_SEEING, answer=ConnectionsAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """Active ones with their rates, and the latest DICOM.CONNECTION_HISTORY that have ended."""
        live = associations_live()
        history = associations_latest(option("DICOM.CONNECTION_HISTORY"))
        return {"listening": live.running, "active": live.associations, "history": history}
