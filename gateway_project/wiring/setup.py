"""Set-up: the one-time link that makes the first administrator, and who may be served before there is one."""

import ipaddress
import os
import secrets
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse

from gateway_project.core.errors import GatewayError
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.roles import ADMINISTRATOR, actor_of
from gateway_project.core.services.audit import audit_record
from gateway_project.wiring.addresses import is_forwarded


class SetupClosedError(GatewayError):
    """There is an administrator already, so nobody can become the first."""

    code = "setup-closed"
    permanent = True


def request_is_local(request: HttpRequest) -> bool:
    """True when the socket's peer is loopback and no proxy speaks for somebody else."""
    if is_forwarded(request):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def administrator_exists() -> bool:
    """An inactive one counts too: switching an account off must not open set-up again."""
    return get_user_model().objects.filter(Q(is_superuser=True) | Q(groups__name=ADMINISTRATOR)).exists()


def setup_link() -> str | None:
    """The address of the set-up page with its token, for `make run` to print; None when there is an administrator.

    The same link until it is used, over any number of restarts.
    """
    if administrator_exists():
        setup_token_remove()
        return None
    return address_absolute(reverse("setup", kwargs={"token": _token_make()}))


def address_absolute(path: str) -> str:
    """A path of ours as a link to print on this machine."""
    scheme = "https" if settings.WEB_HTTPS else "http"
    return f"{scheme}://{_loopback_host()}:{option('WEB.PORT')}{path}"


def setup_token_matches(token: str) -> bool:
    """Compared in constant time; False when no link was made."""
    known = _token_read()
    return bool(known) and secrets.compare_digest(known.encode(), token.encode())


def setup_token_remove() -> None:
    setup_token_path().unlink(missing_ok=True)


def setup_token_path() -> Path:
    return Path(settings.DATA_DIR) / "run" / "setup-token"


def administrator_create(*, username: str, password: str) -> User:
    """Makes the first administrator and uses up the link. Of two at once one wins; the other gets SetupClosedError."""
    with transaction.atomic():
        group, _created = Group.objects.get_or_create(name=ADMINISTRATOR)
        Group.objects.select_for_update().get(pk=group.pk)  # PostgreSQL: two at once wait here, and one finds the other
        if administrator_exists():
            raise SetupClosedError("There is an administrator already. Log in, or ask them for an account.")
        user = User.objects.create_superuser(username=username, password=password)
        user.groups.add(group)
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor_of(user),
            subject=f"user:{user.pk}",
            detail={"action": "first administrator made"},
        )
    setup_token_remove()
    return user


def _token_make() -> str:
    path = setup_token_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        token = _token_read()
        if token:
            return token
        path.unlink(missing_ok=True)  # cut off while it was written
        return _token_make()
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(token)
    return token


def _token_read() -> str:
    try:
        token = setup_token_path().read_text().strip()
    except FileNotFoundError:
        return ""
    return token if len(token) >= 32 else ""


def _loopback_host() -> str:
    host = str(option("WEB.HOST"))
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host if host == "localhost" else "127.0.0.1"
    if not address.is_loopback:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{address}]" if address.version == 6 else str(address)
