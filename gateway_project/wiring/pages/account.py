"""Logging in and out, and set-up."""

import logging
from typing import Any

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from gateway_project.core.models import AuditEventType
from gateway_project.core.roles import actor_of
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.logins import Attempt, attempt_succeeded
from gateway_project.wiring.forms import FirstAdministratorForm
from gateway_project.wiring.login_limit import attempt_of, locked_out
from gateway_project.wiring.pages.access import private
from gateway_project.wiring.setup import (
    SetupClosedError,
    administrator_create,
    administrator_exists,
    request_is_local,
    setup_token_matches,
)

logger = logging.getLogger(__name__)


class GatewayLoginView(LoginView):
    """Django's own: a new session key, one error for every failure, and onwards only to addresses of ours."""

    template_name = "registration/login.html"
    attempt: Attempt

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refused before the password is looked at, once too many from this address were wrong."""
        self.attempt = attempt_of(request)
        if self.attempt.wait_seconds:
            return locked_out(request, self.attempt)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        attempt_succeeded(self.attempt)
        detail: dict[str, Any] = {"action": "logged in", "address": self.request.META.get("REMOTE_ADDR", "")}
        if self.attempt.failed_before:
            detail["failed_before"] = self.attempt.failed_before
        user = form.get_user()
        subject = f"user:{user.pk}"
        audit_record(AuditEventType.USER_AUTHENTICATION, actor=actor_of(user), subject=subject, detail=detail)
        return response

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Not in the audit trail, which strangers could fill; and the name is not logged: it may be a password."""
        if self.request.method == "POST":
            logger.warning("login refused", extra={"address": self.request.META.get("REMOTE_ADDR", "")})
        return super().form_invalid(form)


@private
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Makes the first administrator: once, from this machine, by whoever holds the link."""
    if not request_is_local(request) or administrator_exists() or not setup_token_matches(token):
        raise Http404
    form = FirstAdministratorForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = administrator_create(username=form.cleaned_data["username"], password=form.cleaned_data["password"])
        except SetupClosedError as error:
            raise Http404 from error
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        messages.success(request, f"Welcome, {user.get_username()}. The gateway is yours.")
        return redirect("now")
    return render(request, "setup/administrator.html", {"form": form})


urlpatterns = [
    path("login/", private(GatewayLoginView.as_view()), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("setup/<str:token>/", setup, name="setup"),
]
