"""Periodic work that needs more than one app, and the studies app's own under names the ticker rings."""

from datetime import datetime

from gateway_project.core.models import WebSession
from gateway_project.wiring import pipeline
from gateway_project.wiring.procedure_steps import steps_watch
from network.services import retention
from studies.services import arrivals, ingress, pictures, silence, watch
from uploads.services import delivery


def settle(now: datetime) -> None:
    """Settles due studies and writes the jobs of settled ones."""
    pipeline.settle_due(now)


def procedure_steps(now: datetime) -> None:
    """Settles studies whose procedure steps are complete, and tells of objects that have not come."""
    steps_watch(now)


def exchanges_trim(now: datetime) -> None:
    """Forgets in detail what peers said about procedure steps and commitments that are long over."""
    retention.steps_trim(now=now)
    retention.commitments_trim(now=now)


def disk_watch(now: datetime) -> None:
    """Tells of a disk, a quota or a quarantine that is full, and heals what is well again."""
    watch.disk_watch(now)


def spool_watch(now: datetime) -> None:
    """Takes over what a dead receiver left while its siblings live."""
    watch.spool_watch(now)


def ingress_watch(now: datetime) -> None:
    """Tells of an ingress filter setting that cannot be used."""
    ingress.ingress_watch(now)


def rollups(now: datetime) -> None:
    """Counts what has arrived and what has reached a vault since the last time; who has sent is not silent."""
    silence.silence_heal(arrivals.arrivals_count())
    delivery.deliveries_count(now)


def rollups_measure(now: datetime) -> None:
    """Measures what is stored by source, and forgets what of the rollups is old."""
    arrivals.stored_measure()
    arrivals.arrivals_trim(now)


def silence_watch(now: datetime) -> None:
    """Tells of sources that are silent against their usual week."""
    silence.silence_watch(now)


def pictures_trim(now: datetime) -> None:
    """Keeps the pages' pictures within their disk and age."""
    pictures.pictures_trim()


def sessions_clear(now: datetime) -> None:
    """Removes sessions that let nobody in any more."""
    WebSession.objects.filter(expire_date__lt=now).delete()
