"""Tells, at every start, when the gateway's state lies where a lock or a flush may not be what it says."""

import logging
from pathlib import Path

from django.conf import settings

from gateway_project.core.models import Severity
from gateway_project.core.mounts import mounts_read, remote_file_system
from gateway_project.core.services.alerts import alert_heal, alert_open
from studies.selectors import store_root

logger = logging.getLogger(__name__)

ALERT = "file-system"


def file_systems_judge() -> str:
    """Opens one alert while the data directory or the store lies on a network file system, heals it when neither does.

    Answers its words, "" when all is well. The gateway works there, as far as that file system keeps its promises: what
    it refuses (locks, hard links, a flush) is refused in turn, and nothing is acknowledged that it did not flush.
    """
    table = mounts_read()
    places = {"data directory": Path(settings.DATA_DIR), "object store": store_root()}
    found = {name: kind for name, path in places.items() if (kind := remote_file_system(path, table))}
    if not found:
        alert_heal(ALERT)
        return ""
    listed = " and the ".join(f"{name} ({kind})" for name, kind in found.items())
    words = (
        f"On a network file system: the {listed}. A lost lock or a stale handle there stops receiving, and SQLite's "
        "database may be damaged. Move them to a local disk, or use PostgreSQL and a mount with working locks."
    )
    if alert_open(ALERT, code="file-system-remote", words=words, severity=Severity.WARNING):
        logger.warning("state lies on a network file system", extra={"kinds": sorted(set(found.values()))})
    return words
