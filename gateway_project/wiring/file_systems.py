"""Tells, at every start, when the gateway's state lies where a lock or a flush may not be what it says."""

import logging
from pathlib import Path

from django.conf import settings

from gateway_project.core.machine import database_is_shared, machine_key, machine_words
from gateway_project.core.models import Severity
from gateway_project.core.mounts import locks_local, mounts_read, remote_file_system
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.wiring.locks import LocksRefusedError
from studies.selectors import store_root

logger = logging.getLogger(__name__)

ALERT = "file-system"
SQLITE_WORDS = (
    " SQLite's database may be damaged there: move them to a local disk, or use PostgreSQL and a mount with working "
    "locks."
)


def file_systems_judge() -> str:
    """Opens one alert while the data directory or the store lies on a network file system, heals it when neither does.

    Answers its words, "" when all is well. The gateway works there, as far as that file system keeps its promises: what
    it refuses (locks, hard links, a flush) is refused in turn, and nothing is acknowledged that it did not flush.
    """
    table = mounts_read()
    places = {"data directory": Path(settings.DATA_DIR), "object store": store_root()}
    found = {name: kind for name, path in places.items() if (kind := remote_file_system(path, table))}
    if not found:
        alert_heal(machine_key(ALERT))
        return ""
    listed = " and the ".join(f"{name} ({kind})" for name, kind in found.items())
    words = (
        f"On a network file system: the {listed}. A lost lock or a stale handle there stops receiving. "
        "What it refuses is refused in turn: see docs/scaling.md for what it must be able to do."
    )
    if not database_is_shared():
        words = f"{words}{SQLITE_WORDS}"
    told = machine_words(words)
    if alert_open(machine_key(ALERT), code="file-system-remote", words=told, severity=Severity.WARNING):
        logger.warning("state lies on a network file system", extra={"kinds": sorted(set(found.values()))})
    return words


def store_locks_check() -> None:
    """Raises LocksRefusedError where several machines share the store and its mount keeps locks to each machine.

    There one machine would take what another is receiving for a dead receiver's, and throw away unfinished objects.
    """
    option = locks_local(store_root(), mounts_read()) if database_is_shared() else ""
    if option:
        raise LocksRefusedError(
            f"The store is mounted with {option}: locks there are not seen by other machines, and the database is one "
            "that other machines may use. Mount it with locks that all machines see (NFS 4 without that option)."
        )
