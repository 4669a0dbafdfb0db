"""What every page shows of the gateway as a whole; /health and /version."""

import os
import platform
from dataclasses import dataclass
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject
from django.utils.timezone import now
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway_project import __version__
from gateway_project.core.core_options import INSTANCE_ID
from gateway_project.core.logs import correlation_get
from gateway_project.core.options import OptionError, StoreUnavailableError, option, option_bootstrap, restart_pending
from gateway_project.core.roles import can_act, can_administer, can_see
from gateway_project.core.selectors import alerts_open
from gateway_project.wiring.pages.navigation import navigation
from gateway_project.wiring.setup import request_is_local
from uploads.selectors import demonstration_exists

# The gateway's start, which `rungateway` tells its children; a web run by itself has its own.
STARTED_AT = os.environ.get("GATEWAY_STARTED_AT") or now().isoformat()


@dataclass(frozen=True)
class Banner:
    """Costs two short queries, and only on a page that shows it."""

    instance_id: str
    demonstration: bool
    alerts: int
    restart: list[str]


def banner() -> Banner:
    return Banner(
        instance_id=instance_id(),
        demonstration=demonstration_exists(),
        alerts=alerts_open().count(),
        restart=_restart(),
    )


def instance_id() -> str:
    """Our name, also while the table of settings cannot be read."""
    try:
        return str(option(INSTANCE_ID.key))
    except StoreUnavailableError:
        return str(option_bootstrap(INSTANCE_ID))


def _restart() -> list[str]:
    try:
        return restart_pending()
    except OptionError:  # a process that never noted what it started with: a test, a management command
        return []


def page_context(request: HttpRequest) -> dict[str, Any]:
    """Roles and banner for every template; nothing is asked of the database until a template uses it."""
    user = getattr(request, "user", None)
    return {
        "banner": SimpleLazyObject(banner),
        "navigation": SimpleLazyObject(lambda: navigation(user, request.path)),
        "may_see": SimpleLazyObject(lambda: can_see(user)),
        "may_act": SimpleLazyObject(lambda: can_act(user)),
        "may_administer": SimpleLazyObject(lambda: can_administer(user)),
        "correlation_id": correlation_get() or "",
    }


class LocalOrAuthenticated(BasePermission):
    """Anonymous from this machine without a proxy; from elsewhere only with an account."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request_is_local(request._request) or bool(request.user and request.user.is_authenticated)


class HealthView(APIView):
    """200 while the database answers, else 503."""

    permission_classes = [LocalOrAuthenticated]

    def get(self, request: Request) -> Response:
        alive = _database_answers()
        body = {
            "status": "ok" if alive else "database-unavailable",
            "instanceId": instance_id(),
            "startupTime": STARTED_AT,
            "utcNow": now().isoformat(),
        }
        return Response(body, status=200 if alive else 503, headers={"Cache-Control": "no-store"})


class VersionView(APIView):
    permission_classes = [LocalOrAuthenticated]

    def get(self, request: Request) -> Response:
        return Response({"name": "gateway", "version": __version__, "python": platform.python_version()})


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except DatabaseError:
        return False
    return True
