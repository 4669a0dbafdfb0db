"""Entering and changing a peer: it is tried before it is kept, and kept in spite of a failure if that is wanted."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from gateway_project.core.roles import actor_of
from gateway_project.wiring.pages.access import administering
from network.dimse.scu.trial import Trial
from network.models import RemoteAE
from network.remote_form import CONFLICT, RemoteAEForm
from network.services.peers import TooManyTriesError, peer_remember, peer_try
from network.services.remotes import PeerConflictError, remote_save

TRIED_SECONDS = 1800
CALLED_BY = (
    "ae_title", "host", "port", "calling_ae_title", "tls", "tls_identity_id", "tls_ca", "tls_check_host",
)  # fmt: skip
GROUPS = (
    ("Where it is", "", ("ae_title", "host", "port", "calling_ae_title", "note")),
    ("TLS", "", ("tls", "tls_check_host", "tls_ca", "tls_identity")),
    (
        "What it may do here",
        "Echo is always allowed. Followed within two seconds, from its next association on.",
        ("may_store", "may_query", "may_retrieve", "may_commit"),
    ),
    ("What we do with it", "", ("query_target", "enabled")),
)
MORE = (
    (
        "Who it must be",
        "An AE title is no credential: say where it calls from, or which certificate it shows.",
        ("networks", "certificates"),
    ),
    (
        "Which studies it sees",
        "In queries and retrievals. Nothing set: every study.",
        ("visible_sources", "visible_modalities", "visible_conditions"),
    ),
    ("Storage commitment", "", ("commit_level", "commit_minutes")),
)


class PeerForm(RemoteAEForm):
    class Meta(RemoteAEForm.Meta):
        widgets = {
            name: forms.Textarea(attrs={"rows": 3})
            for name in ("networks", "certificates", "visible_sources", "visible_conditions")
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("ae_title", "host", "calling_ae_title", "tls_ca"):
            self.fields[name].widget.attrs |= {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}

    def groups(self) -> list[tuple[str, str, list[Any]]]:
        return [(title, words, [self[name] for name in names]) for title, words, names in GROUPS]

    def more(self) -> list[tuple[str, str, list[Any]]]:
        return [(title, words, [self[name] for name in names]) for title, words, names in MORE]

    def more_is_open(self) -> bool:
        """Something in it is set, or wrong."""
        fields = [name for _title, _words, names in MORE for name in names]
        row = self.instance
        return any(name in self.errors for name in fields) or (
            row.pk is not None and any(getattr(row, name) for name in fields[:5])
        )


@administering
@require_http_methods(["GET", "POST"])
def peer_new(request: HttpRequest) -> HttpResponse:
    return _serve(request, RemoteAE())


@administering
@require_http_methods(["GET", "POST"])
def peer_edit(request: HttpRequest, pk: int) -> HttpResponse:
    return _serve(request, get_object_or_404(RemoteAE.objects.select_related("tls_identity"), pk=pk))


def _serve(request: HttpRequest, row: RemoteAE) -> HttpResponse:
    shown = _called_by(row) if row.pk is not None else []
    if request.method == "GET":
        return _page(request, PeerForm(instance=row))
    form = PeerForm(request.POST, instance=row)
    if not form.is_valid():
        return _page(request, form, status=409 if form.has_error("__all__", "conflict") else 400)
    tried = _tried_read(request.POST.get("tried", ""), row)
    wants_trial = request.POST.get("act") == "try" or (tried is None and _called_by(row) != shown)
    if row.host and wants_trial:
        return _try(request, form)
    return _keep(request, form, tried if row.host else None)


def _try(request: HttpRequest, form: PeerForm) -> HttpResponse:
    try:
        trial = peer_try(form.instance, actor=actor_of(request.user), remember=False)
    except TooManyTriesError as error:
        form.add_error(None, str(error))
        return _page(request, form, status=429)
    return _page(request, form, trial=trial)


def _keep(request: HttpRequest, form: PeerForm, tried: dict[str, str] | None) -> HttpResponse:
    row = form.instance
    told = "" if tried is None else tried["code"] or "passed"
    try:
        remote_save(row, actor=actor_of(request.user), changed=form.fields_changed, tried=told)
    except PeerConflictError:
        form.add_error(None, CONFLICT)
        return _page(request, form, status=409)
    if tried is not None:
        peer_remember(row, tried["words"])
    if tried is not None and tried["code"]:
        messages.warning(request, f"{row.ae_title} is saved, although it was not reached.")
    else:
        messages.success(request, f"{row.ae_title} is saved. It counts from its next association on.")
    return redirect("peer", row.pk)


def _page(request: HttpRequest, form: PeerForm, *, trial: Trial | None = None, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "remote": form.instance,
        "trial": trial,
        "tried": _tried_write(form.instance, trial) if trial is not None else "",
    }
    return render(request, "peers/form.html", context, status=status)


def _called_by(row: RemoteAE) -> list[str]:
    """All that decides how it is called."""
    return [str(getattr(row, name)) for name in CALLED_BY]


def _tried_write(row: RemoteAE, trial: Trial) -> str:
    """What was tried and how it went, for the form to bring back; only we can write it."""
    failure = trial.failure
    told = {"code": failure.code, "words": failure.words} if failure else {"code": "", "words": ""}
    return signing.dumps([_called_by(row), told], salt="peer-trial")


def _tried_read(text: str, row: RemoteAE) -> dict[str, str] | None:
    """How the trial of exactly this went; None when there was none lately."""
    try:
        tried, told = signing.loads(text, salt="peer-trial", max_age=TRIED_SECONDS)
    except signing.BadSignature:
        return None
    return dict(told) if tried == _called_by(row) else None
