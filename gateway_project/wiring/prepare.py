"""What must be there before the gateway runs: directories, database, keys, static files, the demonstration vault."""

import hashlib
import ipaddress
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError

from gateway_project import __version__
from gateway_project.core.machine import database_is_shared, machine_name
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.schema import database_alone, schema_check
from gateway_project.core.services.alerts import alert_heal
from gateway_project.core.services.audit import audit_record
from gateway_project.core.shared import shared_check
from gateway_project.wiring.demonstration import Demonstration, demonstration_prepare, demonstration_wanted
from gateway_project.wiring.file_systems import store_locks_check
from gateway_project.wiring.login_limit import PROXY_ALERT
from studies.selectors import store_open
from uploads.services.identity import identity_ensure
from uploads.services.staging import staging_sweep

logger = logging.getLogger(__name__)


class PrepareError(Exception):
    """Why the gateway cannot start, and what to do about it."""


@dataclass(frozen=True)
class Service:
    """A port that one of our processes will bind."""

    name: str
    host: str
    port: int
    variable: str


def gateway_prepare() -> Demonstration | None:
    """Makes what is missing; seconds on the first start, well under one afterwards. May be killed and repeated."""
    data_directory_check()
    web_reach_check()
    static_collect()
    with database_alone():
        database_upgrade()
        store_locks_check()
        shared_check()
        store_open()
        identity_ensure()
        places = demonstration_prepare()
        staging_sweep()
        alert_heal(PROXY_ALERT)  # should the proxy still not be declared, the next address locked out tells of it again
        audit_record(
            AuditEventType.APPLICATION_ACTIVITY,
            actor="process:gateway",
            subject="gateway",
            detail={"action": "start"} | ({"machine": machine_name()} if database_is_shared() else {}),
        )
    return places


def data_directory_check() -> None:
    """The data directory is ours alone: it holds patients' data and keys. Raises PrepareError."""
    state = settings.DATA_DIR.stat()
    if state.st_mode & 0o077:
        raise PrepareError(f"{settings.DATA_DIR} can be entered by others. Run: chmod 700 {settings.DATA_DIR}")
    if state.st_uid != os.geteuid():
        raise PrepareError(
            f"{settings.DATA_DIR} belongs to another user. Run the gateway as its owner, or choose another one."
        )


def web_reach_check() -> None:
    """Passwords and patients travel in clear beyond this machine only when someone has said so. Raises PrepareError."""
    host = str(option("WEB.HOST"))
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not (local or settings.WEB_HTTPS or settings.WEB_TRUSTED_PROXIES or option("WEB.ALLOW_REMOTE")):
        raise PrepareError(
            f"The pages would be served in clear at {host}. For a proxy with TLS set GATEWAY_WEB__HTTPS=true and "
            "GATEWAY_WEB__TRUSTED_PROXIES; or set GATEWAY_WEB__HOST=127.0.0.1. GATEWAY_WEB__ALLOW_REMOTE=true serves "
            "them in clear all the same."
        )


def database_upgrade() -> None:
    """The database is this code's on return. Each step of an upgrade is one transaction: killed, it is done next time.

    Raises SchemaError for a database of a newer gateway or with gaps, PrepareError when a step fails.
    """
    schema_check(migrating=True)
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except DatabaseError as error:
        if database_is_shared():
            raise PrepareError(
                f"The database could not be brought up to date ({type(error).__name__}). Nothing of the step that "
                "failed is kept. See that DATABASE_URL is right and its user may make tables, then start again."
            ) from error
        raise PrepareError(
            f"The database could not be brought up to date ({type(error).__name__}). Nothing of the step that failed "
            "is kept. Make room on its disk, see that nothing else uses it, then start again."
        ) from error


def static_collect() -> None:
    """Collects the pages' static files when they changed since the last time."""
    stamp = settings.STATIC_ROOT / ".stamp"
    wanted = static_stamp()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    call_command("collectstatic", interactive=False, verbosity=0, clear=settings.STATIC_ROOT.exists())
    stamp.write_text(wanted)


def static_stamp() -> str:
    digest = hashlib.sha256(f"{__version__} {settings.BASE_DIR}".encode())
    for path in sorted(Path(settings.BASE_DIR / "static").rglob("*")):
        if path.is_file():
            state = path.stat()
            digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def services() -> list[Service]:
    """What will be bound, and which environment variable moves it."""
    found = [
        Service("web", option("WEB.HOST"), option("WEB.PORT"), "GATEWAY_WEB__PORT"),
        Service("DIMSE", option("DICOM.HOST"), option("DICOM.PORT"), "GATEWAY_DICOM__PORT"),
    ]
    if option("DICOM.TLS_CERTIFICATE"):
        found.append(
            Service("DIMSE over TLS", option("DICOM.HOST"), option("DICOM.TLS_PORT"), "GATEWAY_DICOM__TLS_PORT")
        )
    if demonstration_wanted():
        found.append(
            Service("demonstration vault", "127.0.0.1", option("VAULT_SERVER.PORT"), "GATEWAY_VAULT_SERVER__PORT")
        )
    return found


def ports_check() -> None:
    """Says at once which port is taken, instead of letting a process fail again and again. Raises PrepareError."""
    for service in services():
        family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((service.host, service.port))
            except OSError as error:
                raise PrepareError(
                    f"Port {service.port} for {service.name} cannot be bound ({error.strerror}). "
                    f"Stop what uses it, or set {service.variable} to another port."
                ) from error
