"""Periodic work that needs more than one app, and the studies app's own under names the ticker rings."""

from datetime import datetime

from gateway_project.wiring import pipeline
from gateway_project.wiring.procedure_steps import steps_watch
from studies.services import ingress, watch


def settle(now: datetime) -> None:
    """Settles due studies and writes the jobs of settled ones."""
    pipeline.settle_due(now)


def procedure_steps(now: datetime) -> None:
    """Settles studies whose procedure steps are complete, and tells of objects that have not come."""
    steps_watch(now)


def disk_watch(now: datetime) -> None:
    """Tells of a disk, a quota or a quarantine that is full, and heals what is well again."""
    watch.disk_watch(now)


def spool_watch(now: datetime) -> None:
    """Takes over what a dead receiver left while its siblings live."""
    watch.spool_watch(now)


def ingress_watch(now: datetime) -> None:
    """Tells of an ingress filter setting that cannot be used."""
    ingress.ingress_watch(now)
