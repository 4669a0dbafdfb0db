"""Leader leases: one process at a time does what must not be done twice at once."""

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from gateway_project.core.models import Lease


def lease_take(name: str, *, holder: str, now: datetime, seconds: float) -> bool:
    """Takes or renews the lease; False while another holder's has not run out. One conditional UPDATE."""
    until = now + timedelta(seconds=seconds)
    if Lease.objects.filter(Q(holder=holder) | Q(until__lt=now), name=name).update(holder=holder, until=until):
        return True
    if Lease.objects.filter(name=name).exists():
        return False
    try:
        with transaction.atomic():
            Lease.objects.create(name=name, holder=holder, until=until)
    except IntegrityError:
        return False
    return True


def lease_give_up(name: str, *, holder: str) -> None:
    """Lets the next one in at once; does nothing when the lease is another's."""
    Lease.objects.filter(name=name, holder=holder).delete()
