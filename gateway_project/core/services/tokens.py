"""Tokens of programs: made once and shown once, known by their hash, ended by time or by a person."""

import hashlib
import logging
import re
import secrets
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from gateway_project.core.errors import GatewayError
from gateway_project.core.models import ApiToken, AuditEventType
from gateway_project.core.roles import ROLES
from gateway_project.core.services.audit import audit_record

logger = logging.getLogger(__name__)

PREFIX = "gwt"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TOKEN = re.compile(rf"{PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})")
DAYS_MOST = 3650
USED_STEP = timedelta(minutes=1)
# Compared with when no token of that key is known, so that such a request takes as long as any other.
_NOBODY = hashlib.sha256(b"").hexdigest()


class TokenError(GatewayError):
    """A token that cannot be made or revoked."""

    code = "token-invalid"
    permanent = True


def token_create(name: str, *, role: str, days: int, actor: str, now: datetime) -> tuple[ApiToken, str]:
    """A new token and its text, which is kept nowhere: who loses it makes another. Audited.

    The text holds 256 random bits, so a plain SHA-256 of it cannot be turned round. Raises TokenError.
    """
    if not NAME.fullmatch(name):
        raise TokenError("A name has 1 to 64 letters, digits, dots, hyphens or underscores.")
    if role not in ROLES:
        raise TokenError(f"A role is one of {', '.join(ROLES)}.")
    if not 1 <= days <= DAYS_MOST:
        raise TokenError(f"A token lives from 1 to {DAYS_MOST} days.")
    key, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            token = ApiToken.objects.create(
                name=name,
                key=key,
                secret_sha256=_hash(secret),
                role=role,
                created_at=now,
                created_by=actor[:150],
                expires_at=now + timedelta(days=days),
            )
            _audited(token, actor, {"action": "token made", "role": role, "days": days})
    except IntegrityError as error:
        words = f"There is a token {name} already; names are never used again, as the audit trail has them."
        raise TokenError(words, code="token-exists") from error
    return token, f"{PREFIX}_{key}_{secret}"


def token_revoke(token: ApiToken, *, actor: str, now: datetime) -> bool:
    """From now on nobody is let in with it; False when it was revoked before. Audited; may be repeated."""
    with transaction.atomic():
        if not ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now, revoked_by=actor[:150]):
            return False
        _audited(token, actor, {"action": "token revoked"})
    return True


def token_verified(text: str, *, now: datetime) -> ApiToken | None:
    """The token that this text is, if it may be used now. One query; the secret is compared in constant time."""
    match = TOKEN.fullmatch(text)
    if match is None:
        return None
    token = ApiToken.objects.filter(key=match[1]).first()
    known = secrets.compare_digest(token.secret_sha256 if token else _NOBODY, _hash(match[2]))
    return token if token is not None and known and token.usable(now) else None


def token_used(token: ApiToken, *, now: datetime) -> None:
    """Notes that it was used: one write a minute at most, and none by a second process in the same minute."""
    stale = now - USED_STEP
    if token.last_used_at is None or token.last_used_at <= stale:
        unnoted = ApiToken.objects.filter(Q(last_used_at=None) | Q(last_used_at__lte=stale), pk=token.pk)
        unnoted.update(last_used_at=now)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _audited(token: ApiToken, actor: str, detail: dict[str, object]) -> None:
    audit_record(
        AuditEventType.CONFIGURATION, actor=actor, subject=f"token:{token.name}", detail={"key": token.key, **detail}
    )
    logger.info("api token changed", extra={"token": token.name, "action": detail["action"]})
