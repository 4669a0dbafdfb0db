"""Who may come in: the rules from options and rows, and the trail of those who were refused."""

import datetime as dt
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from gateway_project.core.models import Alert, AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from network.dimse.acceptor import ConnectionLimits
from network.dimse.access import IDENTITY_REASONS, KnownPeer, Policy, networks_parse
from network.dimse.errors import ConfigurationError
from network.dimse.floods import Refusal
from network.dimse.rights import Rights
from network.models import AssociationOutcome, AssociationRecord, RemoteAE, fingerprint_clean, words_of
from network.services.associations import ae_title_shown, history_trim

logger = logging.getLogger(__name__)
WINDOW = dt.timedelta(minutes=1)
QUIET = dt.timedelta(hours=1)
IDENTITY_ALERT = "peer-identity:"
# A port scan or a check of health looks like this: worth a record only in numbers.
NOISE = frozenset({"no-association", "tls-handshake-failed", "tls-handshake-timeout", "not-served"})
NOISE_COUNT = 20


def policy_current() -> Policy:
    """The rules as options and RemoteAE rows stand now."""
    return Policy(
        accept_unknown=option("DICOM.ACCEPT_UNKNOWN_CALLING"),
        allowed_calling=frozenset(option("DICOM.ALLOWED_CALLING")),
        blocked_calling=frozenset(option("DICOM.BLOCKED_CALLING")),
        networks=networks_parse(option("DICOM.ALLOWED_NETWORKS")),
        check_called=option("DICOM.CHECK_CALLED_AE"),
        max_associations=option("DICOM.MAX_ASSOCIATIONS"),
        max_associations_per_peer=option("DICOM.MAX_ASSOCIATIONS_PER_PEER"),
        peers={row.ae_title: _known(row) for row in RemoteAE.objects.all()},
    )


def _known(row: RemoteAE) -> KnownPeer:
    return KnownPeer(
        ae_title=row.ae_title,
        networks=networks_parse(words_of(row.networks)),
        certificates=frozenset(fingerprint_clean(word) for word in words_of(row.certificates)),
        enabled=row.enabled,
        rights=_rights(row),
    )


def _rights(row: RemoteAE) -> Rights:
    """A row whose conditions cannot be read (nobody could have saved it in the admin) sees nothing."""
    try:
        return row.rights()
    except ConfigurationError:
        logger.error("conditions of a remote AE cannot be read, it may query nothing", extra={"remote_ae": row.pk})  # noqa: TRY400
        return Rights(store=row.may_store)


def limits_current() -> ConnectionLimits:
    """The bounds on sockets as the options stand now."""
    return ConnectionLimits(
        in_all=option("DICOM.MAX_CONNECTIONS"),
        per_address=option("DICOM.MAX_CONNECTIONS_PER_ADDRESS"),
        per_second=option("DICOM.CONNECTIONS_PER_SECOND"),
    )


@dataclass
class _Window:
    """What one address was refused for since `begun`; `unwritten` is not in the trail yet."""

    begun: dt.datetime
    refusal: Refusal
    total: int = 0
    unwritten: int = 0
    record: int | None = None


class RefusalLog:
    """Writes refusals into trail and history: the first at once, the rest as a number when its minute is over.

    However many come, one address and reason cost two records of the trail and one of the history a minute. One
    thread only; what was counted and not written is lost when the process is killed, the first of each never.
    """

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], _Window] = {}

    def write(self, refusals: Iterable[Refusal], *, now: dt.datetime, all_of_it: bool = False) -> None:
        """Take these in and write what is due; `all_of_it` at the end, when no minute will be over."""
        for refusal in refusals:
            self._count(refusal, now)
        for key, window in list(self._windows.items()):
            if all_of_it or now - window.begun >= WINDOW:
                self._write(window, now)
                del self._windows[key]

    def _count(self, refusal: Refusal, now: dt.datetime) -> None:
        key = (refusal.address, refusal.reason)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(now, refusal)
        window.total += refusal.count
        window.unwritten += refusal.count
        window.refusal = refusal
        if window.record is None:
            self._write(window, now)
        else:
            AssociationRecord.objects.filter(pk=window.record).update(times=window.total, closed_at=now)

    def _write(self, window: _Window, now: dt.datetime) -> None:
        refusal, count = window.refusal, window.unwritten
        if not count or (refusal.reason in NOISE and count < NOISE_COUNT and window.record is None):
            return
        with transaction.atomic():
            if window.record is None:
                window.record = _history(refusal, count, now).pk
            audit_record(
                AuditEventType.SECURITY_ALERT,
                actor=f"ae:{_shown(refusal.calling_ae_titles[:1])}" if refusal.calling_ae_titles else "peer",
                subject=f"association:{window.record}",
                detail={
                    "address": refusal.address,
                    "reason": refusal.reason,
                    "count": count,
                    "calling": [ae_title_shown(title) for title in refusal.calling_ae_titles],
                    "called": [ae_title_shown(title) for title in refusal.called_ae_titles],
                },
                outcome="refused",
            )
        window.unwritten = 0
        if refusal.reason in IDENTITY_REASONS:
            _identity_alert(refusal)


def _shown(titles: tuple[str, ...]) -> str:
    return ae_title_shown(titles[0]) if titles else ""


def _history(refusal: Refusal, count: int, now: dt.datetime) -> AssociationRecord:
    record = AssociationRecord.objects.create(
        association_id=f"refused-{uuid.uuid4().hex}",
        calling_ae_title=_shown(refusal.calling_ae_titles),
        called_ae_title=_shown(refusal.called_ae_titles),
        peer_address=refusal.address[:64],
        peer_port=refusal.port,
        tls=refusal.tls,
        outcome=AssociationOutcome.REJECTED,
        reason=refusal.reason[:200],
        times=count,
        opened_at=now,
        closed_at=now,
    )
    history_trim(rejected=True)
    return record


def _identity_alert(refusal: Refusal) -> None:
    title = _shown(refusal.calling_ae_titles)
    words = {
        "address-of-another": f"{refusal.address} called as {title}, which is known to call from elsewhere.",
        "certificate-missing": f"{refusal.address} called as {title} without the certificate that it must show.",
    }.get(refusal.reason, f"{refusal.address} called as {title} with a certificate that is not that peer's.")
    alert_open(
        f"{IDENTITY_ALERT}{refusal.reason}",
        code=refusal.reason,
        words=f"{words} It was refused. If it is right, correct the remote AE.",
    )


def identity_alerts_heal(now: dt.datetime) -> None:
    """Heals what has not been seen for an hour."""
    stale = Alert.objects.filter(key__startswith=IDENTITY_ALERT, healed_at__isnull=True, seen_at__lt=now - QUIET)
    for alert in stale:
        alert_heal(alert.key)
