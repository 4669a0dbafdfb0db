"""What is looked at every minute or so: room on the disk, quotas, and what dead processes left."""

import logging
from datetime import datetime

from gateway_project.core.models import Alert, Severity
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from studies.dicom.spool import SpoolError
from studies.options import GB
from studies.selectors import store_open, stored_bytes_by_source
from studies.services.quarantine import quarantine_alerts_heal, quarantine_sweep
from studies.services.recover import spool_recover

logger = logging.getLogger(__name__)

WARN_SHARE = 0.9
ALERT_DISK = "disk"
ALERT_QUOTA = "quota:"


def disk_watch(_now: datetime) -> None:
    """Opens an alert while the store's disk or a quota runs low, a critical one when objects are refused; heals it.

    A store that cannot be used at all is told of in the same way.
    """
    try:
        free = store_open().free_bytes()
    except SpoolError as error:
        alert_open(ALERT_DISK, code=error.code, words=str(error), severity=Severity.CRITICAL)
        return
    _free_space_watch(free)
    _quotas_watch()
    quarantine_alerts_heal()


def spool_watch(_now: datetime) -> None:
    """Takes over what a dead process left while its siblings live, and removes what a crash left in the quarantine.

    Any process may do so: the lock says who owns a directory, and indexing locks the study, whoever does it.
    """
    store = store_open()
    spool_recover(store)
    removed = quarantine_sweep(store)
    if removed:
        logger.warning("quarantine swept", extra={"files": removed})


def _free_space_watch(free: int) -> None:
    stopped = free < option("STORAGE.STOP_SPACE_GB") * GB
    if not stopped and free >= option("STORAGE.LOW_SPACE_GB") * GB:
        alert_heal(ALERT_DISK)
        return
    words = "The store's disk is full: objects are refused (A700). " if stopped else "The store's disk runs low. "
    alert_open(
        ALERT_DISK,
        code="disk-full" if stopped else "disk-low",
        words=f"{words}{free / GB:.1f} GB are free. Make room or move the store.",
        severity=Severity.CRITICAL if stopped else Severity.WARNING,
    )


def _quotas_watch() -> None:
    quota, per_source = option("STORAGE.QUOTA_GB") * GB, option("STORAGE.QUOTA_PER_SOURCE_GB") * GB
    used = stored_bytes_by_source() if quota or per_source else {}
    troubled = set()
    if quota and sum(used.values()) >= WARN_SHARE * quota:
        troubled.add(_quota_tell("all", "The storage quota", sum(used.values()), quota))
    for source, size in used.items():
        if per_source and size >= WARN_SHARE * per_source:
            troubled.add(
                _quota_tell(f"source:{source}", f"The storage quota of {source or 'no name'}", size, per_source)
            )
    opened = Alert.objects.filter(key__startswith=ALERT_QUOTA, healed_at__isnull=True)
    for key in opened.exclude(key__in=troubled).values_list("key", flat=True):
        alert_heal(key)


def _quota_tell(key: str, name: str, used: int, quota: float) -> str:
    full = used >= quota
    words = "is used up: objects are refused (A700)" if full else "is nearly used up"
    alert_open(
        ALERT_QUOTA + key,
        code="quota-full" if full else "quota-low",
        words=f"{name} {words}: {used / GB:.1f} of {quota / GB:.1f} GB. Make room or raise it.",
        severity=Severity.CRITICAL if full else Severity.WARNING,
    )
    return ALERT_QUOTA + key
