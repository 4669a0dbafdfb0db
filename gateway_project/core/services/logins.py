"""How often one network may fail to prove who it is: counted in the database, so for all web processes together."""

import ipaddress
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Min, Sum

from gateway_project.core.models import AuditEventType, LoginCount
from gateway_project.core.services.audit import audit_record

logger = logging.getLogger(__name__)

WINDOW = timedelta(minutes=15)
MOST_ROWS = 10_000
SWEEP_AFTER = timedelta(minutes=10)
SWEEPER = "process:web"


@dataclass(frozen=True)
class Attempt:
    """`wait_seconds` is 0 when this attempt may be made. `failed_before`: how many of this network have failed lately.

    `first_refused`: this is the one that closed the door.
    """

    network: str
    wait_seconds: int = 0
    failed_before: int = 0
    first_refused: bool = False


def network_of(address: str) -> str:
    """Whom we count as one: an IPv4 address, an IPv6 /64 (one household has a whole one); "unknown" for no address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)


def attempt_begin(address: str, *, limit: int, now: datetime) -> Attempt:
    """Takes one of the network's attempts, before any password is looked at: any number at once get `limit` of them.

    The one beyond closes the door for WINDOW from then on; that is audited once, and later ones write nothing, so that
    nobody keeps the database busy. An attempt that succeeds is given back by `attempt_succeeded`.
    """
    network = network_of(address)
    known = LoginCount.objects.filter(network=network, blocked=True, until__gt=now).first()
    if known is not None:
        return Attempt(network, wait_seconds=_seconds(known.until - now), failed_before=known.count)
    with transaction.atomic():
        _row, created = LoginCount.objects.get_or_create(network=network, defaults={"until": now + WINDOW})
        row = LoginCount.objects.select_for_update().get(network=network)
        if created:
            _sweep(now)
        if row.until <= now:
            _failures_audit(row.count, networks=1)
            row.count, row.blocked, row.until = 0, False, now + WINDOW
        failed_before = row.count
        if row.count >= limit:
            return _refused(row, now)
        row.count += 1
        row.save()
    return Attempt(network, failed_before=failed_before)


def attempt_succeeded(attempt: Attempt) -> None:
    """Gives the attempt back, and no other: whoever has one password must not wash away what they guess at others'."""
    rows = LoginCount.objects.filter(network=attempt.network)
    if not rows.filter(count__lte=1, blocked=False).delete()[0]:
        rows.filter(count__gt=0).update(count=F("count") - 1)


def _refused(row: LoginCount, now: datetime) -> Attempt:
    first = not row.blocked
    if first:
        row.blocked, row.until = True, now + WINDOW
        row.save()
        audit_record(
            AuditEventType.USER_AUTHENTICATION,
            actor=f"address:{row.network}",
            subject="login",
            detail={"action": "address locked out", "failed": row.count, "seconds": _seconds(WINDOW)},
            outcome="failure",
        )
        logger.warning("login attempts of an address refused", extra={"address": row.network, "failed": row.count})
    return Attempt(row.network, wait_seconds=_seconds(row.until - now), failed_before=row.count, first_refused=first)


def _sweep(now: datetime) -> None:
    """Forgets what has run out, at most every ten minutes, and then tells the audit trail how much that was.

    Should more networks than MOST_ROWS try meanwhile, the oldest are forgotten: they get their few attempts anew.
    """
    expired = LoginCount.objects.filter(until__lte=now)
    oldest = expired.aggregate(oldest=Min("until"))["oldest"]
    if oldest is not None and oldest <= now - SWEEP_AFTER:
        failed = expired.filter(blocked=False).aggregate(failed=Sum("count"))["failed"] or 0
        networks = expired.count()
        expired.delete()
        _failures_audit(failed, networks=networks)
    surplus = LoginCount.objects.count() - MOST_ROWS
    if surplus > 0:
        oldest_rows = LoginCount.objects.order_by("until", "pk").values_list("pk", flat=True)[:surplus]
        LoginCount.objects.filter(pk__in=list(oldest_rows)).delete()


def _failures_audit(failed: int, *, networks: int) -> None:
    if failed:
        audit_record(
            AuditEventType.USER_AUTHENTICATION,
            actor=SWEEPER,
            subject="login",
            detail={"action": "logins failed", "failed": failed, "addresses": networks},
            outcome="failure",
        )


def _seconds(wait: timedelta) -> int:
    return max(1, round(wait.total_seconds()))
