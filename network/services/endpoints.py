"""Where we listen: rows, those that options make, and what of them the acceptor can be given."""

import logging
from dataclasses import dataclass, field

from django.db import transaction

from gateway_project.core.machine import machine_key, machine_words
from gateway_project.core.models import Alert, AuditEventType
from gateway_project.core.options import option
from gateway_project.core.secrets import SecretError, secret_decrypt, secret_encrypt
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from network.dimse.endpoints import Endpoint
from network.dimse.errors import ConfigurationError
from network.dimse.tls import ClientCertificates, TlsSettings, context_of
from network.models import DEFAULT, DEFAULT_TLS, LocalAE
from network.selectors import local_aes_enabled

logger = logging.getLogger(__name__)
ALERT = "endpoint:"


@dataclass(frozen=True)
class Wanted:
    """The endpoints to listen on, and by name, in words, why others are left out."""

    endpoints: list[Endpoint] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)


def endpoints_of_options() -> dict[str, dict[str, object]]:
    """What the options DICOM.* of this machine say of the rows `default` and `default-tls`."""
    common = {"ae_title": option("DICOM.AE_TITLE"), "host": option("DICOM.HOST"), "enabled": True}
    plain = {**common, "port": option("DICOM.PORT"), "tls": False}
    if not option("DICOM.TLS_CERTIFICATE"):
        return {DEFAULT: plain}
    tls = {
        "port": option("DICOM.TLS_PORT"),
        "tls": True,
        "certificate": option("DICOM.TLS_CERTIFICATE"),
        "private_key": option("DICOM.TLS_PRIVATE_KEY"),
        "min_tls": option("DICOM.TLS_MIN_VERSION"),
        "client_certificates": option("DICOM.TLS_CLIENT_CERTIFICATES"),
        "client_ca": option("DICOM.TLS_CLIENT_CA"),
    }
    return {DEFAULT: plain, DEFAULT_TLS: common | tls}


def endpoints_seed() -> None:
    """Makes the rows `default` and `default-tls` what the options DICOM.* say; writes only what differs.

    Of several machines with different options the one that started or changed last is what the rows show; each listens
    where its own options say.
    """
    wanted = endpoints_of_options()
    for name, values in wanted.items():
        _seed(name, values)
    if DEFAULT_TLS not in wanted:
        LocalAE.objects.filter(name=DEFAULT_TLS).delete()


def _seed(name: str, values: dict[str, object]) -> None:
    row = LocalAE.objects.filter(name=name).values(*values).first()
    if row != values:
        LocalAE.objects.update_or_create(name=name, defaults=values)
        logger.info("endpoint follows the options", extra={"endpoint": name})


def endpoints_wanted(*, loopback_only: bool = False) -> Wanted:
    """What the acceptor should listen on now. An endpoint whose TLS files cannot be used is left out and says why.

    `loopback_only`: until set-up is finished every endpoint binds loopback.
    """
    wanted = Wanted()
    places: dict[tuple[str, int], str] = {}
    # The rows that options make come first: they keep their port when another claims it.
    own = endpoints_of_options()
    for row in sorted(local_aes_enabled(), key=lambda one: (not one.is_locked, one.pk)):
        for name, value in own.get(row.name, {}).items():
            setattr(row, name, value)
        try:
            endpoint = endpoint_of(row, loopback_only=loopback_only)
        except (ConfigurationError, SecretError) as error:
            wanted.faults[row.name] = str(error)
            continue
        holder = places.setdefault((endpoint.host, endpoint.port), row.name)
        if holder == row.name:
            wanted.endpoints.append(endpoint)
        else:
            wanted.faults[row.name] = f"Endpoint {holder} has the same address and port: choose another."
    return wanted


def endpoint_of(row: LocalAE, *, loopback_only: bool = False) -> Endpoint:
    """The row as the acceptor takes it; raises ConfigurationError or SecretError when its TLS cannot be used."""
    host = row.host
    if loopback_only:
        host = "::1" if ":" in host else "127.0.0.1"
    return Endpoint(host=host, port=row.port, name=row.name, ae_title=row.ae_title, tls=tls_of(row))


def tls_of(row: LocalAE, *, password: str | None = None) -> TlsSettings | None:
    """The TLS settings of a row, tried by loading its files; None for a plain one. `password`: not yet kept."""
    if not row.tls:
        return None
    settings = TlsSettings(
        certificate=row.path_of(row.certificate),
        private_key=row.path_of(row.private_key),
        password=_password(row) if password is None else password,
        min_version="1.3" if row.min_tls == "1.3" else "1.2",
        client_certificates=_client_certificates(row.client_certificates),
        client_ca=row.path_of(row.client_ca),
    )
    context_of(settings)
    return settings


def tls_check(row: LocalAE, *, password: str | None = None) -> None:
    """Raises ConfigurationError or SecretError when the row's TLS files cannot be used, with what to correct."""
    tls_of(row, password=password)


def _client_certificates(word: str) -> ClientCertificates:
    return "required" if word == "required" else "optional" if word == "optional" else "none"


def _password(row: LocalAE) -> str:
    if row.name == DEFAULT_TLS:
        return str(option("DICOM.TLS_CERTIFICATE_PASSWORD"))
    return secret_decrypt(row.password) if row.password else ""


def endpoint_save(row: LocalAE, *, actor: str, password: str = "", changed: list[str]) -> None:
    """Keeps a row that was validated, with its password if one was given; audited without any secret."""
    with transaction.atomic():
        if password:
            row.password = secret_encrypt(password)
        row.save()
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor,
            subject=f"endpoint:{row.pk}",
            detail={"action": "endpoint changed", "name": row.name, "changed": sorted(changed)},
        )


def endpoint_delete(row: LocalAE, *, actor: str) -> None:
    """Removes a row; the acceptor stops listening there within two seconds, living associations go on."""
    with transaction.atomic():
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor,
            subject=f"endpoint:{row.pk}",
            detail={"action": "endpoint removed", "name": row.name},
        )
        row.delete()
    alert_heal(machine_key(f"{ALERT}{row.name}"))  # other machines' heal when they look, within seconds


def endpoints_judge(wanted: Wanted, failed: dict[str, str]) -> None:
    """Sees to it that there is an open alert for each endpoint that does not listen, and for no other."""
    faults = failed | wanted.faults
    end = machine_key("")
    opened = Alert.objects.filter(key__startswith=ALERT, key__endswith=end, healed_at__isnull=True)
    told = {key.removeprefix(ALERT).removesuffix(end) for key in opened.values_list("key", flat=True)}
    for name in set(faults) - told:
        words = machine_words(f"Endpoint {name} does not listen. {faults[name]}")
        alert_open(machine_key(f"{ALERT}{name}"), code="endpoint-down", words=words)
    for name in told - set(faults):
        alert_heal(machine_key(f"{ALERT}{name}"))
