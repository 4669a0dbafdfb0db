"""Accounts: who has one, the one-time link to choose a password, whose sessions there are, and who must stay."""

from django.contrib.auth.models import Group, User
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.timezone import now

from gateway_project.core.errors import GatewayError
from gateway_project.core.models import AuditEventType, WebSession
from gateway_project.core.roles import ADMINISTRATOR, INTEGRATION, OPERATOR, ROLES, VIEWER
from gateway_project.core.services.audit import audit_record

ROLE_WORDS = {
    VIEWER: "sees the pages",
    OPERATOR: "sees, and presses the buttons that help: settle, retry, resume, acknowledge",
    ADMINISTRATOR: "sees, acts, and administers: accounts, devices, vaults, settings",
    INTEGRATION: "is for programs; it opens no page",
}


class AccountError(GatewayError):
    """An account that cannot be made or changed like that."""

    code = "account-refused"
    permanent = True


def administrators_active() -> QuerySet[User]:
    """Who can administer now."""
    return User.objects.filter(Q(is_superuser=True) | Q(groups__name=ADMINISTRATOR), is_active=True).distinct()


def administrator_must_stay(user: User) -> bool:
    """True when this is the last one. Within a transaction nobody else's answer changes until that ends."""
    group, _created = Group.objects.get_or_create(name=ADMINISTRATOR)
    Group.objects.select_for_update().get(pk=group.pk)
    found = administrators_active()
    return found.filter(pk=user.pk).exists() and not found.exclude(pk=user.pk).exists()


def account_create(*, username: str, role: str, actor: str) -> User:
    """An account that nobody can log in to before its link was used. Raises AccountError."""
    if role not in ROLES:
        raise AccountError(f"There is no such role. Choose one of {', '.join(ROLES)}.")
    User.username_validator(username)
    if User.objects.filter(username__iexact=username).exists():
        raise AccountError("There is an account of this name already. Choose another, or make a link for that one.")
    with transaction.atomic():
        user = User.objects.create_user(username)
        user.groups.add(Group.objects.get_or_create(name=role)[0])
        account_audit(user, actor=actor, action="account made")
    return user


def account_audit(user: User, *, actor: str, action: str, changed: list[str] | None = None) -> None:
    audit_record(
        AuditEventType.CONFIGURATION,
        actor=actor,
        subject=f"user:{user.pk}",
        detail={
            "action": action,
            "changed": sorted(changed or []),
            "active": user.is_active,
            "roles": sorted(user.groups.values_list("name", flat=True)),
        },
    )


def password_link(user: User, *, actor: str) -> str:
    """The path at which this person chooses a password: works once, for a day, and until they log in some other way.

    Their present password stays valid until then. Raises AccountError for an account that is switched off.
    """
    user.refresh_from_db()  # the token holds when they last logged in
    if not user.is_active:
        raise AccountError("This account is switched off. Switch it on first.")
    audit_record(
        AuditEventType.CONFIGURATION, actor=actor, subject=f"user:{user.pk}", detail={"action": "password link made"}
    )
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return reverse("password-link", kwargs={"uidb64": uid, "token": default_token_generator.make_token(user)})


def sessions_of(user: User) -> list[WebSession]:
    """Those that still let in, the latest seen first."""
    return list(WebSession.objects.filter(user=user, expire_date__gt=now()).order_by("-seen_at", "-pk")[:100])


def sessions_end(user: User, *, but: str | None = None) -> int:
    """Ends this person's sessions at once, all but the one with that key; answers how many that were."""
    sessions = WebSession.objects.filter(user=user, expire_date__gt=now())
    if but:
        sessions = sessions.exclude(session_key=but)
    return sessions.delete()[0]
