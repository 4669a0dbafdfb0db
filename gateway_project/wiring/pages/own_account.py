"""What a person does with their own account: see the role and the sessions, end sessions, choose another password."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordResetConfirmView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from gateway_project.core.models import AuditEventType
from gateway_project.core.roles import actor_of, roles_of
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.logins import attempt_succeeded
from gateway_project.wiring.login_limit import attempt_of, locked_out
from gateway_project.wiring.pages.access import private
from gateway_project.wiring.people import ROLE_WORDS, sessions_end, sessions_of
from gateway_project.wiring.words import count_words


@login_required
@private
@require_GET
def account(request: HttpRequest) -> HttpResponse:
    """For whoever can log in, whatever the role."""
    return render(request, "account/own.html", _context(request, PasswordChangeForm(_person(request))))


@sensitive_post_parameters()
@login_required
@private
@require_POST
def password_change(request: HttpRequest) -> HttpResponse:
    """Wrong old passwords count as failed logins do: a session left open must not become a place to guess at."""
    attempt = attempt_of(request)
    if attempt.wait_seconds:
        return locked_out(request, attempt)
    person = _person(request)
    form = PasswordChangeForm(person, request.POST)
    if not form.is_valid():
        if "old_password" not in form.errors:  # the old one was right: nothing was guessed
            attempt_succeeded(attempt)
        return render(request, "account/own.html", _context(request, form))
    form.save()
    attempt_succeeded(attempt)
    update_session_auth_hash(request, person)
    ended = sessions_end(person, but=request.session.session_key)
    _audited(person, "password changed", ended)
    messages.success(request, f"The new password counts from now on.{_ended_words(ended)}")
    return redirect("account")


@login_required
@private
@require_POST
def sessions_end_others(request: HttpRequest) -> HttpResponse:
    person = _person(request)
    ended = sessions_end(person, but=request.session.session_key)
    _audited(person, "sessions ended", ended)
    messages.success(request, _ended_words(ended).strip() or "This is your only session.")
    return redirect("account")


@method_decorator(private, name="dispatch")
class PasswordLinkView(PasswordResetConfirmView):
    """The one-time link: Django's own, which takes the token out of the address before the form is shown.

    Ends every session of the account, and leads to the login page: to have the link is not yet to be the person.
    """

    template_name = "account/link.html"
    success_url = reverse_lazy("login")

    def get_user(self, uidb64: str) -> User | None:
        user: User | None = super().get_user(uidb64)  # type: ignore[assignment]
        return user if user is not None and user.is_active else None

    def form_valid(self, form: "SetPasswordForm[User]") -> HttpResponse:
        response = super().form_valid(form)
        logout(self.request)  # its row is among those that end, and could not be written any more
        _audited(form.user, "password chosen by link", sessions_end(form.user))
        messages.success(self.request, "Your password is set. Log in with it.")
        return response


def _person(request: HttpRequest) -> User:
    return User.objects.get(username=request.user.get_username())


def _context(request: HttpRequest, form: PasswordChangeForm) -> dict[str, Any]:
    person = _person(request)
    sessions = sessions_of(person)
    return {
        "form": form,
        "roles": [(role, ROLE_WORDS[role]) for role in ROLE_WORDS if role in roles_of(request.user)],
        "sessions": [(row, row.session_key == request.session.session_key) for row in sessions],
        "others": len(sessions) > 1,
    }


def _ended_words(ended: int) -> str:
    return f" {count_words(ended, 'other session was', 'other sessions were')} ended." if ended else ""


def _audited(person: User, action: str, ended: int) -> None:
    audit_record(
        AuditEventType.USER_AUTHENTICATION,
        actor=actor_of(person),
        subject=f"user:{person.pk}",
        detail={"action": action, "sessions_ended": ended},
    )


urlpatterns = [
    path("account/", account, name="account"),
    path("account/password/", password_change, name="account-password"),
    path("account/sessions/end/", sessions_end_others, name="account-sessions-end"),
    path("account/link/<str:uidb64>/<str:token>/", PasswordLinkView.as_view(), name="password-link"),
]
