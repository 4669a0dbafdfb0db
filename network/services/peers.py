"""Calling the peers that are known: where they are, as whom we call, how patiently, and whether that works."""

import logging
import time
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.utils.timezone import now

from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.secrets import SecretError
from gateway_project.core.services.audit import audit_record
from network.dimse.access import networks_parse
from network.dimse.errors import AssociationError, ConfigurationError, DimseError
from network.dimse.scu import Timeouts, echo
from network.dimse.scu.pool import PeerAddress
from network.dimse.scu.reach import Reach
from network.dimse.scu.trial import Step, Trial, trial_run
from network.dimse.tls import ClientTlsSettings, client_context_of
from network.models import LocalAE, RemoteAE
from network.services.endpoints import tls_of

logger = logging.getLogger(__name__)
TRIALS_A_MINUTE = 10
ECHOES_A_MINUTE = 30
_MINUTE = 60
_ANSWERED: dict[str, Any] = {"last_error": "", "last_error_at": None}


class TooManyTriesError(Exception):
    """One person tries more peers in a minute than anybody would by hand: nothing was called."""


def peer_address(remote: RemoteAE) -> PeerAddress:
    """How this peer is called. Raises ConfigurationError (`peer-without-address`, and those of its TLS files)."""
    if not remote.host:
        raise ConfigurationError(
            "This peer has no address: enter its host and port to call it.", code="peer-without-address"
        )
    return PeerAddress(
        address=remote.host,
        port=remote.port,
        called_ae_title=remote.ae_title,
        calling_ae_title=remote.calling_ae_title or str(option("DICOM.AE_TITLE")),
        tls=client_context_of(_tls_settings(remote)) if remote.tls else None,
        reach=reach_current(),
    )


def reach_current() -> Reach:
    """Where peers may lie, as the options stand now."""
    return Reach(networks=networks_parse(option("PEER.NETWORKS")), loopback=option("PEER.ALLOW_LOOPBACK"))


def _tls_settings(remote: RemoteAE) -> ClientTlsSettings:
    ours: LocalAE | None = remote.tls_identity
    try:
        identity = tls_of(ours) if ours is not None else None
    except SecretError as error:
        raise ConfigurationError(str(error), code=error.code) from error
    return ClientTlsSettings(
        ca=str(settings.DATA_DIR / "certs" / remote.tls_ca) if remote.tls_ca else "",
        check_name=remote.tls_check_host,
        certificate=identity.certificate if identity else "",
        private_key=identity.private_key if identity else "",
        password=identity.password if identity else "",
    )


def peer_timeouts() -> Timeouts:
    """The options, for whatever we call."""
    return Timeouts(
        connect_seconds=option("DICOM.CONNECTION_SECONDS"),
        acse_seconds=option("DICOM.ACSE_SECONDS"),
        dimse_seconds=option("DICOM.RESPONSE_SECONDS"),
        network_seconds=option("DICOM.RESPONSE_SECONDS"),
    )


def peer_echo(remote: RemoteAE) -> float:
    """The seconds that a C-ECHO took on an association of its own; the row remembers when, or why not.

    Never over a kept association: whether a new one can be opened is what is asked. Raises DimseError.
    """
    try:
        address = peer_address(remote)
        seconds = echo(
            address=address.address,
            port=address.port,
            calling_ae_title=address.calling_ae_title,
            called_ae_title=address.called_ae_title,
            timeouts=peer_timeouts(),
            tls=address.tls,
            reach=address.reach,
        )
    except DimseError as error:
        peer_failed(remote, error)
        raise
    RemoteAE.objects.filter(pk=remote.pk).update(last_echo_at=now(), **_ANSWERED)
    return seconds


def peer_echo_asked(remote: RemoteAE, *, actor: str) -> float:
    """The same for a person, who is held to ECHOES_A_MINUTE. Raises DimseError, TooManyTriesError."""
    _count_try("echo", actor, ECHOES_A_MINUTE)
    return peer_echo(remote)


def peer_try(remote: RemoteAE, *, actor: str, remember: bool = True) -> Trial:
    """Calls a peer that need not be kept yet, step by step. Recorded, because it lets a person reach any address that
    the options allow; held to TRIALS_A_MINUTE. Raises TooManyTriesError.

    `remember`: the kept row has the result.
    """
    _count_try("trial", actor, TRIALS_A_MINUTE)
    trial = _tried(remote)
    failure = trial.failure
    with transaction.atomic():
        audit_record(
            AuditEventType.APPLICATION_ACTIVITY,
            actor=actor,
            subject=f"remote:{remote.ae_title}",
            detail={
                "action": "remote AE tried",
                "host": remote.host,
                "port": remote.port,
                "code": failure.code if failure else "",
            },
            outcome="failure" if failure else "success",
        )
        if remember:
            peer_remember(remote, failure.words if failure else "")
    return trial


def _tried(remote: RemoteAE) -> Trial:
    try:
        return trial_run(peer_address(remote), timeouts=peer_timeouts())
    except ConfigurationError as error:
        return Trial([Step("Read its settings", "failed", str(error), error.code)])


def peer_remember(remote: RemoteAE, failure: str) -> None:
    """The kept row says how a trial went; `failure` is empty when it passed."""
    moment = now()
    told = {"last_error": failure[:200], "last_error_at": moment} if failure else _ANSWERED | {"last_echo_at": moment}
    RemoteAE.objects.filter(pk=remote.pk).update(**told)


def _count_try(kind: str, actor: str, most: int) -> None:
    """Raises TooManyTriesError beyond `most` in a minute of the clock."""
    key = f"peer-{kind}-{actor.encode().hex()}-{int(time.time()) // _MINUTE}"
    cache.add(key, 0, _MINUTE * 2)
    try:
        tries = cache.incr(key)
    except ValueError:  # it has just expired
        return
    if tries > most:
        logger.warning("too many tries of peers", extra={"kind": kind, "tries": tries})
        raise TooManyTriesError("That were many tries within a minute: wait a minute, then try again.")


def peer_answered(ae_title: str) -> None:
    """A peer that was called has done what it was called for: what was wrong is over."""
    RemoteAE.objects.filter(ae_title=ae_title).exclude(last_error="").update(**_ANSWERED)


def peer_failed(remote: RemoteAE, error: DimseError | AssociationError) -> None:
    """The row says why it could not be called; the words are ours and free of PHI."""
    RemoteAE.objects.filter(pk=remote.pk).update(last_error=str(error)[:200], last_error_at=now())
