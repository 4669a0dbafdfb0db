"""What all sets of processes on one database must have in common, and the check that they do.

Each app registers what it needs. The first set writes a mark for each into the database; a set that it does not fit is
refused at its start. A mark tells nothing of a key.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import OperationalError

from gateway_project.core.errors import GatewayError
from gateway_project.core.machine import database_is_shared, machine_name
from gateway_project.core.models import AuditEventType, SharedMark
from gateway_project.core.services.audit import audit_record


class SharedError(GatewayError):
    """This set lacks what the others on its database have; the words say what to do."""

    code = "not-shared"
    permanent = True


@dataclass(frozen=True)
class Shared:
    """`make` answers the mark of what is here (making what is missing); `fits`: whether a mark is of what is here."""

    name: str
    make: Callable[[], str]
    fits: Callable[[str], bool]
    words: str


SHARED: dict[str, Shared] = {}


def shared_add(shared: Shared) -> None:
    """May be repeated."""
    SHARED[shared.name] = shared


def shared_check() -> None:
    """Raises SharedError unless this set fits the marks; writes those that are not there yet. May race.

    Nothing is checked on a database that is nobody else's, or that does not answer: who needs it waits for it anyway.
    """
    if not database_is_shared():
        return
    try:
        strange = shared_strange()
    except OperationalError:
        return
    if strange:
        first = SHARED[strange[0]]
        raise SharedError(
            f"{first.words} If what the others had is lost for good, stop them all and run "
            f"`manage.py sharedmarks --replace {first.name}` here."
        )


def shared_strange() -> list[str]:
    """The names of what does not fit; marks that are missing are written."""
    return [shared.name for shared in SHARED.values() if not shared.fits(_mark(shared).mark)]


def _mark(shared: Shared) -> SharedMark:
    known = SharedMark.objects.filter(name=shared.name).first()
    if known is not None:
        return known
    values = {"mark": shared.make(), "made_by": machine_name()}
    return SharedMark.objects.get_or_create(name=shared.name, defaults=values)[0]


def shared_replace(name: str, *, actor: str) -> None:
    """What is here counts from now on, and every other set is refused until it has the same."""
    values = {"mark": SHARED[name].make(), "made_by": machine_name()}
    SharedMark.objects.update_or_create(name=name, defaults=values)
    audit_record(
        AuditEventType.CONFIGURATION, actor=actor, subject=f"shared:{name}", detail={"action": "shared mark replaced"}
    )
