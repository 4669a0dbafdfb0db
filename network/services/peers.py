"""Calling the peers that are known: where they are, as whom we call, and how patiently."""

from django.utils.timezone import now

from gateway_project.core.options import option
from network.dimse.errors import AssociationError, ConfigurationError, DimseError
from network.dimse.scu import Timeouts, echo
from network.dimse.scu.pool import PeerAddress
from network.dimse.tls import ClientTlsSettings, client_context_of
from network.models import LocalAE, RemoteAE
from network.services.endpoints import tls_of


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
    )


def _tls_settings(remote: RemoteAE) -> ClientTlsSettings:
    ours: LocalAE | None = remote.tls_identity
    identity = tls_of(ours) if ours is not None else None
    return ClientTlsSettings(
        ca=remote.tls_ca,
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
    """The seconds that a C-ECHO took; the row remembers when, or why not. Raises DimseError."""
    try:
        address = peer_address(remote)
        seconds = echo(
            address=address.address,
            port=address.port,
            calling_ae_title=address.calling_ae_title,
            called_ae_title=address.called_ae_title,
            timeouts=peer_timeouts(),
            tls=address.tls,
        )
    except DimseError as error:
        peer_failed(remote, error)
        raise
    RemoteAE.objects.filter(pk=remote.pk).update(last_echo_at=now(), last_error="", last_error_at=None)
    return seconds


def peer_failed(remote: RemoteAE, error: DimseError | AssociationError) -> None:
    """The row says why it could not be called; the words are ours and free of PHI."""
    RemoteAE.objects.filter(pk=remote.pk).update(last_error=str(error)[:200], last_error_at=now())
