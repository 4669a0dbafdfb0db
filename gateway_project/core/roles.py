"""Who may do what: four Django groups, read once for each request.

viewer sees; operator also acts (settle now, retry, resume, acknowledge); administrator also administers; integration
is for programs and sees no page. A superuser has every role. An API token has exactly one.
"""

from typing import Any

VIEWER = "viewer"
OPERATOR = "operator"
ADMINISTRATOR = "administrator"
INTEGRATION = "integration"
ROLES = (VIEWER, OPERATOR, ADMINISTRATOR, INTEGRATION)


def roles_of(user: Any) -> frozenset[str]:
    """The roles of a user that can log in; empty for anybody else. One query for each user object."""
    if not (getattr(user, "is_authenticated", False) and user.is_active):
        return frozenset()
    if user.is_superuser:
        return frozenset(ROLES)
    if not hasattr(user, "_gateway_roles"):
        user._gateway_roles = frozenset(user.groups.filter(name__in=ROLES).values_list("name", flat=True))
    roles: frozenset[str] = user._gateway_roles
    return roles


def can_see(user: Any) -> bool:
    return bool(roles_of(user) & {VIEWER, OPERATOR, ADMINISTRATOR})


def can_act(user: Any) -> bool:
    return bool(roles_of(user) & {OPERATOR, ADMINISTRATOR})


def can_administer(user: Any) -> bool:
    return ADMINISTRATOR in roles_of(user)


def actor_of(user: Any) -> str:
    """How the audit trail names this user, or the program that came with a token (`token:NAME`)."""
    return str(getattr(user, "audit_actor", f"user:{user.get_username()}"))[:150]
