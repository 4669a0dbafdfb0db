"""Vaults, and the lanes that lead to them: seen, paused, resumed."""

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils.timezone import now
from rest_framework import serializers
from rest_framework.request import Request

from gateway_project.core.clock import database_now
from gateway_project.core.models import JobState, Lane
from gateway_project.core.roles import actor_of
from gateway_project.core.selectors import lane_state
from gateway_project.core.services.lanes import lane_pause, lane_resume
from gateway_project.wiring.api.access import ACTING, SEEING
from gateway_project.wiring.api.contract import NUMBER, ApiView, operation
from gateway_project.wiring.api.fields import Answer, Nothing, RowAnswer
from uploads.models import Vault
from uploads.selectors import lane_uploads

TAG = "Vaults"
LANE_STATES = [
    ("flowing", "nothing holds it up"),
    ("held", "waits for a person"),
    ("paused", "paused by a person"),
    ("resting", "rests after a fault"),
    ("waiting", "waits for its time window"),
]


class LaneAnswer(RowAnswer):
    state = serializers.ChoiceField(LANE_STATES)
    jobs_waiting = serializers.IntegerField()
    jobs_running = serializers.IntegerField()
    jobs_given_up = serializers.IntegerField()

    class Meta:
        model = Lane
        fields = (
            "id", "name", "title", "state", "paused", "held", "faults", "fault_code", "fault_words", "open_until",
            "waits_until", "changed_at", "jobs_waiting", "jobs_running", "jobs_given_up",
        )  # fmt: skip


class LaneListAnswer(Answer):
    lanes = LaneAnswer(many=True)


class VaultAnswer(RowAnswer):
    """No token, no proxy, no key: only what tells one vault from another."""

    lane = serializers.IntegerField(source="lane_id", read_only=True)

    class Meta:
        model = Vault
        fields = (
            "id", "name", "transport", "base_url", "vault_id", "recipient_key_id", "enabled", "required",
            "demonstration", "windows", "bytes_per_second", "created_at", "recipient_pinned_at", "canary_proved_at",
            "lane",
        )  # fmt: skip


class VaultListAnswer(Answer):
    vaults = VaultAnswer(many=True)


def _lanes(lanes: list[Lane]) -> list[Lane]:
    counted, moment = lane_uploads(), now()
    for lane in lanes:
        jobs = counted.get(lane.pk, {})
        lane.state = lane_state(lane, moment)  # type: ignore[attr-defined]
        lane.jobs_waiting = jobs.get(JobState.READY, 0)  # type: ignore[attr-defined]
        lane.jobs_running = jobs.get(JobState.RUNNING, 0)  # type: ignore[attr-defined]
        lane.jobs_given_up = jobs.get(JobState.PARKED, 0)  # type: ignore[attr-defined]
    return lanes


def _lane(pk: int) -> Lane:
    return _lanes([get_object_or_404(Lane, pk=pk)])[0]


class VaultsView(ApiView):
    @operation("Vaults", tag=TAG, roles=SEEING, answer=VaultListAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """By name. Secrets are never shown."""
        return {"vaults": Vault.objects.order_by("name")}


class LanesView(ApiView):
    @operation("Lanes", tag=TAG, roles=SEEING, answer=LaneListAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """The way to each vault: what holds it up, and how many uploads wait, run or were given up."""
        return {"lanes": _lanes(list(Lane.objects.order_by("pk")))}


class LaneView(ApiView):
    @operation("One lane", tag=TAG, roles=SEEING, path=[NUMBER], answer=LaneAnswer)
    def get(self, request: Request, pk: int) -> Lane:
        """As in the list."""
        return _lane(pk)


class LanePauseView(ApiView):
    @operation("Pause a lane", tag=TAG, roles=ACTING, path=[NUMBER], body=Nothing, answer=LaneAnswer)
    def post(self, request: Request, pk: int) -> Lane:
        """What is under way ends, nothing new begins; nothing is lost. May be repeated."""
        lane_pause(get_object_or_404(Lane, pk=pk), actor=actor_of(request.user), now=database_now())
        return _lane(pk)


class LaneResumeView(ApiView):
    @operation("Resume a lane", tag=TAG, roles=ACTING, path=[NUMBER], body=Nothing, answer=LaneAnswer)
    def post(self, request: Request, pk: int) -> Lane:
        """Lifts pause and hold, and lets it try again at once. May be repeated."""
        lane_resume(get_object_or_404(Lane, pk=pk), actor=actor_of(request.user), now=database_now())
        return _lane(pk)
