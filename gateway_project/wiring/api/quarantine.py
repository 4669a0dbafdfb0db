"""What was not taken in, with its reason, and the decision about it."""

from collections.abc import Callable
from typing import Any

from django.db.models import Q
from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.request import Request

from gateway_project.core.roles import actor_of
from gateway_project.wiring.api import pages
from gateway_project.wiring.api.access import ACTING, SEEING
from gateway_project.wiring.api.contract import NUMBER, ApiView, operation
from gateway_project.wiring.api.fields import Answer, Asked, Cursor, Nothing, RowAnswer, Text, bounded
from gateway_project.wiring.problems import Refused
from studies.dicom.spool import SpoolError
from studies.errors import QuarantineError
from studies.listing import quarantined_objects
from studies.models import QuarantinedObject, QuarantineState
from studies.selectors import store_open
from studies.services.accept import quarantine_accept
from studies.services.quarantine import quarantine_discard

TAG = "Quarantine"


class QuarantineListQuery(Asked):
    state = serializers.ChoiceField(QuarantineState.choices, required=False)
    source = Text(max_length=16, help_text="Calling AE title.")  # type: ignore[assignment]
    code = Text(max_length=64, help_text="Why it was refused.")
    limit = bounded(50, 200)
    cursor = Cursor()


class QuarantineAnswer(RowAnswer):
    study_instance_uid = serializers.CharField(
        source="instance.study.study_instance_uid",
        read_only=True,
        allow_null=True,
        default=None,
        help_text="Where it is since it was accepted.",
    )

    class Meta:
        model = QuarantinedObject
        fields = (
            "id", "state", "code", "reason", "kept", "sha256", "size_bytes", "count", "source_ae_title",
            "receiving_ae_title", "peer_address", "sop_class_uid", "transfer_syntax_uid", "first_at", "latest_at",
            "decided_by", "decided_at", "study_instance_uid",
        )  # fmt: skip


class QuarantinePageAnswer(Answer):
    objects = QuarantineAnswer(many=True)
    next = serializers.CharField(allow_null=True)


def _object(pk: int) -> QuarantinedObject:
    return get_object_or_404(QuarantinedObject.objects.select_related("instance__study"), pk=pk)


def _decide(request: Request, pk: int, decision: Callable[..., object]) -> QuarantinedObject:
    row = _object(pk)
    try:
        decision(row, actor=actor_of(request.user), store=store_open())
    except QuarantineError as error:
        raise Refused(409, error.code, str(error)) from error
    except SpoolError as error:
        raise Refused(503, error.code, str(error)) from error
    return _object(pk)


class QuarantineView(ApiView):
    @operation("Refused objects", tag=TAG, roles=SEEING, query=QuarantineListQuery, answer=QuarantinePageAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """The latest first, each content once however often it was sent."""
        asked = dict(self.asked)
        limit, before = asked.pop("limit"), pages.moment_cursor_read("q", asked.pop("cursor", None))
        found = quarantined_objects(**asked).select_related("instance__study")
        if before is not None:
            found = found.filter(Q(latest_at__lt=before[0]) | Q(latest_at=before[0], pk__lt=before[1]))
        rows = list(found[: limit + 1])
        shown, following = pages.page_of(rows, limit, lambda row: pages.moment_cursor("q", row.latest_at, row.pk))
        return pages.answer_page("objects", shown, following)


class QuarantinedObjectView(ApiView):
    @operation("One refused object", tag=TAG, roles=SEEING, path=[NUMBER], answer=QuarantineAnswer)
    def get(self, request: Request, pk: int) -> QuarantinedObject:
        """As in the list."""
        return _object(pk)


class QuarantineAcceptView(ApiView):
    @operation(
        "Accept anyway",
        tag=TAG,
        roles=ACTING,
        path=[NUMBER],
        body=Nothing,
        answer=QuarantineAnswer,
        problems=(409,),
    )
    def post(self, request: Request, pk: int) -> QuarantinedObject:
        """Placed in its study as if it had been received, with a flag; 409 when it was decided, or cannot be placed."""
        return _decide(request, pk, quarantine_accept)


class QuarantineDiscardView(ApiView):
    @operation("Discard", tag=TAG, roles=ACTING, path=[NUMBER], body=Nothing, answer=QuarantineAnswer, problems=(409,))
    def post(self, request: Request, pk: int) -> QuarantinedObject:
        """Its bytes go for good; the row stays. May be repeated; 409 when it was accepted."""
        return _decide(request, pk, quarantine_discard)
