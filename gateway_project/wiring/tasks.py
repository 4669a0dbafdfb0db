"""Periodic work that needs more than one app."""

from datetime import datetime

from gateway_project.core.models import Severity
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.wiring import pipeline
from studies.dicom.spool import SpoolError
from studies.selectors import store_open

GIB = 1 << 30


def settle(now: datetime) -> None:
    """Settles due studies and writes the jobs of settled ones."""
    pipeline.settle_due(now)


def disk_watch(now: datetime) -> None:
    """Opens an alert while the store's disk runs low, a critical one when objects are refused; heals it by itself.

    A store that cannot be used at all is told of in the same way.
    """
    try:
        free = store_open().free_bytes()
    except SpoolError as error:
        alert_open("disk", code=error.code, words=str(error), severity=Severity.CRITICAL)
        return
    if free >= option("STORAGE.LOW_SPACE_GB") * GIB:
        alert_heal("disk")
        return
    stopped = free < option("STORAGE.STOP_SPACE_GB") * GIB
    words = "The store's disk is full: objects are refused (A700). " if stopped else "The store's disk runs low. "
    alert_open(
        "disk",
        code="disk-full" if stopped else "disk-low",
        words=f"{words}{free / GIB:.1f} GB are free. Make room or move the store.",
        severity=Severity.CRITICAL if stopped else Severity.WARNING,
    )
