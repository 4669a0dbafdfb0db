"""Who is let in to the API: programs by a token, people by their session; and which role each operation asks for."""

import hashlib
import ipaddress
import logging
import time
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.db import OperationalError
from django.utils.timezone import now
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from gateway_project.core.models import ApiToken
from gateway_project.core.roles import ADMINISTRATOR, INTEGRATION, OPERATOR, VIEWER, roles_of
from gateway_project.core.services.tokens import token_used, token_verified

logger = logging.getLogger(__name__)

SEEING = frozenset({VIEWER, OPERATOR, ADMINISTRATOR})
ACTING = frozenset({OPERATOR, ADMINISTRATOR})
PROGRAMS_SEEING = SEEING | {INTEGRATION}
PROGRAMS_ACTING = ACTING | {INTEGRATION}

REFUSALS_ALLOWED = 20
REFUSALS_SECONDS = 900


@dataclass(frozen=True)
class TokenUser:
    """Who came with a token: no account, one role, and the name that the audit trail gets."""

    name: str
    role: str
    is_authenticated: bool = True
    is_active: bool = True
    is_superuser: bool = False
    pk: None = None

    @property
    def _gateway_roles(self) -> frozenset[str]:
        return frozenset({self.role})

    @property
    def audit_actor(self) -> str:
        return f"token:{self.name}"

    def get_username(self) -> str:
        return self.name


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN`. Unknown, expired and revoked tokens get the same answer.

    An address that sends many of those is told to wait (429). A good token is let in from there all the same: 256
    random bits cannot be guessed, and one broken program must not lock out its neighbours behind a proxy.
    """

    def authenticate(self, request: Request) -> tuple[TokenUser, ApiToken] | None:
        scheme, _space, text = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        moment = now()
        token = token_verified(text.strip(), now=moment)
        if token is None:
            _refuse(request.META.get("REMOTE_ADDR", ""))
            raise AuthenticationFailed
        try:
            token_used(token, now=moment)
        except OperationalError:  # a busy database must not shut out whoever only wants to read
            logger.warning("use of an api token not noted", extra={"token": token.name})
        return TokenUser(token.name, token.role), token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="gateway"'


def _refuse(address: str) -> None:
    """Counts a refused token for its address; raises Throttled beyond what is allowed. Not in the audit trail, which
    strangers could fill; the log has it up to the limit.
    """
    key = f"token-refusals-{hashlib.sha256(_network(address).encode()).hexdigest()}"
    moment = time.time()
    count, until = cache.get(key) or (0, moment + REFUSALS_SECONDS)
    left = until - moment
    if left <= 0:
        count, until, left = 0, moment + REFUSALS_SECONDS, float(REFUSALS_SECONDS)
    cache.set(key, (count + 1, until), timeout=left)
    if count < REFUSALS_ALLOWED:
        logger.warning("api token refused", extra={"address": address, "refusals": count + 1})
        return
    if count == REFUSALS_ALLOWED:
        logger.warning("api token refusals not logged any more", extra={"address": address, "seconds": round(left)})
    raise Throttled(wait=left)


def _network(address: str) -> str:
    """One IPv6 customer has 2^64 addresses: they count as one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address


class RolePermission(BasePermission):
    """One of the roles that the operation names; a method that the address does not answer is left to the 405."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        contract = view.contract(request.method)
        return contract is None or bool(roles_of(request.user) & contract.roles)
