"""Peers: who is known, entering, changing, removing and trying one; and what is kept open to them."""

from typing import Any

from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.request import Request

from gateway_project.core.roles import ADMINISTRATOR, actor_of
from gateway_project.wiring.api import pages
from gateway_project.wiring.api.access import ACTING, SEEING
from gateway_project.wiring.api.contract import NUMBER, ApiView, operation
from gateway_project.wiring.api.fields import (
    Answer,
    Asked,
    Cursor,
    Nothing,
    RowAnswer,
    Text,
    Truth,
    Whole,
    bounded,
    camel,
)
from gateway_project.wiring.problems import Refused
from network.dimse.errors import DimseError
from network.dimse.scu.trial import Trial
from network.models import CommitLevel, CommitmentRequest, LocalAE, RemoteAE
from network.selectors.peers import commitments_latest, peers_page
from network.selectors.pools import pool_lines
from network.services.peers import TooManyTriesError, peer_echo_asked, peer_try
from network.services.remotes import PeerConflictError, PeerInUseError, remote_delete, remote_save

TAG = "Peers"
ADMINISTERING = frozenset({ADMINISTRATOR})
AE_TITLE = r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$"
HOST = r"^[A-Za-z0-9._:-]{0,253}$"


def _text(most: int, **kwargs: Any) -> Text:
    return Text(max_length=most, default=empty, **kwargs)


class PeerFields(Asked):
    """What may be said of a peer; what is left out stays as it is, or gets its default."""

    host = serializers.RegexField(HOST, required=False, allow_blank=True, help_text="Empty: it only calls us.")
    port = Whole(required=False, min_value=1, max_value=65535)
    calling_ae_title = serializers.RegexField(
        AE_TITLE, required=False, allow_blank=True, help_text="What we call ourselves to it; empty: DICOM.AE_TITLE."
    )
    enabled = Truth(required=False)
    note = _text(200)
    may_store = Truth(required=False)
    may_query = Truth(required=False)
    may_retrieve = Truth(required=False)
    may_commit = Truth(required=False)
    query_target = Truth(required=False)
    networks = _text(1000, help_text="Where it calls from: 10.0.0.0/8, separated by spaces.")
    certificates = _text(4000, help_text="SHA-256 of its client certificates, separated by spaces.")
    visible_sources = _text(1000)
    visible_modalities = _text(200)
    visible_conditions = _text(2000)
    commit_level = serializers.ChoiceField(CommitLevel.choices, required=False)
    commit_minutes = Whole(required=False, min_value=1, max_value=525600)
    tls = Truth(required=False)
    tls_identity = Whole(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=2**63 - 1,
        help_text="The endpoint whose certificate we show.",
    )
    tls_ca = _text(400)
    tls_check_host = Truth(required=False)


class NewPeerBody(PeerFields):
    ae_title = serializers.RegexField(AE_TITLE)


class ChangedPeerBody(PeerFields):
    ae_title = serializers.RegexField(AE_TITLE, required=False)
    version = Whole(min_value=1, max_value=2**31 - 1, help_text="That of the peer as it was read.")


class PeerAnswer(RowAnswer):
    tls_identity = serializers.IntegerField(source="tls_identity_id", read_only=True, allow_null=True)

    class Meta:
        model = RemoteAE
        fields = (
            "id", "version", "ae_title", "host", "port", "calling_ae_title", "enabled", "note", "may_store",
            "may_query", "may_retrieve", "may_commit", "query_target", "networks", "certificates", "visible_sources",
            "visible_modalities", "visible_conditions", "commit_level", "commit_minutes", "tls", "tls_identity",
            "tls_ca", "tls_check_host", "last_seen_at", "last_echo_at", "last_error", "last_error_at",
        )  # fmt: skip


class PeerListQuery(Asked):
    limit = bounded(100, 200)
    cursor = Cursor()


class PeerPageAnswer(Answer):
    peers = PeerAnswer(many=True)
    next = serializers.CharField(allow_null=True)


class DeletedAnswer(Answer):
    deleted = serializers.BooleanField()


class EchoAnswer(Answer):
    milliseconds = serializers.FloatField()


class StepAnswer(Answer):
    name = serializers.CharField()
    outcome = serializers.ChoiceField(["passed", "failed", "skipped"])
    words = serializers.CharField()
    code = serializers.CharField()
    seconds = serializers.FloatField()


class OfferAnswer(Answer):
    service = serializers.CharField(source="key")
    label = serializers.CharField()  # type: ignore[assignment]
    accepted = extend_schema_field({"type": "array", "items": {"type": "string"}})(serializers.ListField)()


class TrialAnswer(Answer):
    passed = serializers.BooleanField()
    steps = StepAnswer(many=True)
    offers = OfferAnswer(many=True)


class PoolLineAnswer(Answer):
    process = serializers.CharField()
    pid = serializers.IntegerField()
    called_ae_title = serializers.CharField()
    calling_ae_title = serializers.CharField()
    address = serializers.CharField()
    port = serializers.IntegerField()
    tls = serializers.BooleanField()
    idle = serializers.IntegerField()
    in_use = serializers.IntegerField()
    opened = serializers.IntegerField(help_text="Since the process started, as the next two.")
    reused = serializers.IntegerField()
    failed = serializers.IntegerField()


class PoolAnswer(Answer):
    lines = PoolLineAnswer(many=True)


class Failed(serializers.IntegerField):
    """How many of its objects are not committed; null while that is not decided."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, allow_null=True, **kwargs)

    def get_attribute(self, instance: CommitmentRequest) -> int | None:
        return None if instance.failures is None else len(instance.failures)


class CommitmentAnswer(RowAnswer):
    failed_count = Failed()

    class Meta:
        model = CommitmentRequest
        fields = (
            "id", "transaction_uid", "state", "level", "instance_count", "failed_count", "created_at", "deadline_at",
            "judged_at", "ended_at", "attempts", "error_code", "error_words",
        )  # fmt: skip


class CommitmentsQuery(Asked):
    limit = bounded(100, 200)


class CommitmentsAnswer(Answer):
    commitments = CommitmentAnswer(many=True)


class PeersView(ApiView):
    @operation("Peers", tag=TAG, roles=SEEING, query=PeerListQuery, answer=PeerPageAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """By AE title, with when each was here, when it last answered an echo, and why not."""
        page = peers_page(before=_title_read(self.asked.get("cursor")), size=self.asked["limit"])
        following = pages.cursor_make("peers", page.rows[-1].ae_title.encode().hex()) if page.older else None
        return pages.answer_page("peers", page.rows, following)


class PeerView(ApiView):
    @operation("One peer", tag=TAG, roles=SEEING, path=[NUMBER], answer=PeerAnswer)
    def get(self, request: Request, pk: int) -> RemoteAE:
        """As in the list."""
        return get_object_or_404(RemoteAE, pk=pk)


class PeerCommitmentsView(ApiView):
    @operation(
        "Storage commitments of a peer",
        tag=TAG,
        roles=SEEING,
        path=[NUMBER],
        query=CommitmentsQuery,
        answer=CommitmentsAnswer,
    )
    def get(self, request: Request, pk: int) -> dict[str, Any]:
        """The latest that it has asked for: `done` when it has its report, `parked` when that was given up."""
        remote = get_object_or_404(RemoteAE, pk=pk)
        return {"commitments": commitments_latest(remote, limit=self.asked["limit"])}


class PeerCreateView(ApiView):
    @operation("Enter a peer", tag=TAG, roles=ADMINISTERING, body=NewPeerBody, answer=PeerAnswer, problems=[409])
    def post(self, request: Request) -> RemoteAE:
        """Not tried: `/api/peers/test` does that. Its rights count from its next association on."""
        row = RemoteAE()
        changed = _filled(row, self.sent)
        try:
            remote_save(row, actor=actor_of(request.user), changed=changed)
        except PeerConflictError as error:  # somebody entered it between the look and the saving
            raise _unfit(["ae_title"]) from error
        return row


class PeerChangeView(ApiView):
    @operation(
        "Change a peer",
        tag=TAG,
        roles=ADMINISTERING,
        path=[NUMBER],
        body=ChangedPeerBody,
        answer=PeerAnswer,
        problems=[409],
    )
    def post(self, request: Request, pk: int) -> RemoteAE:
        """What the body names, if nobody has changed the peer since: else 409 `peer-changed`."""
        row = get_object_or_404(RemoteAE, pk=pk)
        values = dict(self.sent)
        row.version = values.pop("version")
        changed = _filled(row, values)
        try:
            remote_save(row, actor=actor_of(request.user), changed=changed)
        except PeerConflictError as error:
            raise Refused(409, "peer-changed", "It was changed meanwhile: read it again, then change it.") from error
        return row


class PeerDeleteView(ApiView):
    @operation(
        "Remove a peer",
        tag=TAG,
        roles=ADMINISTERING,
        path=[NUMBER],
        body=Nothing,
        answer=DeletedAnswer,
        problems=[409],
    )
    def post(self, request: Request, pk: int) -> dict[str, bool]:
        """Refused while something refers to it; from its next association on it is unknown."""
        try:
            remote_delete(get_object_or_404(RemoteAE, pk=pk), actor=actor_of(request.user))
        except PeerInUseError as error:
            raise Refused(409, "peer-in-use", str(error)) from error
        return {"deleted": True}


class PeerEchoView(ApiView):
    @operation("Echo a peer", tag=TAG, roles=ACTING, path=[NUMBER], body=Nothing, answer=EchoAnswer, problems=[409])
    def post(self, request: Request, pk: int) -> dict[str, float]:
        """A C-ECHO on an association of its own; 409 with the reason's code when it does not come through."""
        remote = get_object_or_404(RemoteAE.objects.select_related("tls_identity"), pk=pk)
        try:
            seconds = peer_echo_asked(remote, actor=actor_of(request.user))
        except TooManyTriesError as error:
            raise Refused(429, "too-many-tries", str(error)) from error
        except DimseError as error:
            raise Refused(409, error.code, str(error)) from error
        return {"milliseconds": seconds * 1000}


class PeerTestView(ApiView):
    @operation("Try a peer", tag=TAG, roles=ADMINISTERING, body=NewPeerBody, answer=TrialAnswer, problems=[409])
    def post(self, request: Request) -> Trial:
        """Name, connection, TLS, association, echo, services: each step with its result. Nothing is kept."""
        row = RemoteAE()
        _filled(row, self.sent, known_title=True)
        try:
            return peer_try(row, actor=actor_of(request.user), remember=False)
        except TooManyTriesError as error:
            raise Refused(429, "too-many-tries", str(error)) from error


class PoolView(ApiView):
    @operation("Associations kept open", tag=TAG, roles=SEEING, answer=PoolAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """One line for each process and peer that it has called: in use, kept for what comes next, and counts."""
        return {"lines": pool_lines()}


def _title_read(cursor: str | None) -> str:
    """The AE title at the edge of the page before; empty for the first page."""
    if not cursor:
        return ""
    (text,) = pages.cursor_read("peers", cursor, 1)
    try:
        return bytes.fromhex(text).decode("ascii")
    except ValueError as error:
        raise pages.cursor_refused() from error


def _filled(row: RemoteAE, values: dict[str, Any], *, known_title: bool = False) -> list[str]:
    """The row with these values, judged as a whole; the names of the fields that were set.

    `known_title`: the AE title may be that of a peer that is kept.
    """
    identity = values.get("tls_identity")
    if identity is not None:
        values = {**values, "tls_identity": LocalAE.objects.filter(pk=identity).first()}
        if values["tls_identity"] is None:
            raise _unfit(["tls_identity"])
    for name, value in values.items():
        setattr(row, name, value)
    try:
        row.full_clean(validate_unique=not known_title)
    except ValidationError as error:
        raise _unfit(list(error.message_dict)) from error
    return list(values)


def _unfit(names: list[str]) -> Refused:
    """Names of fields alone: what was sent is not said back."""
    fields = ", ".join(sorted(camel(name) for name in names))
    return Refused(409, "peer-invalid", f"It cannot be kept like this; look at: {fields}.")
