"""Entering, changing and removing the peers that we know; every change is recorded with what it was before."""

from collections.abc import Collection, Iterable

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from network.models import RemoteAE


class PeerConflictError(Exception):
    """Somebody else has changed or removed it since it was read, or entered its AE title: nothing was changed."""


class PeerInUseError(Exception):
    """Something refers to it, so that it cannot be removed; the words say what."""


def remote_save(row: RemoteAE, *, actor: str, changed: Collection[str], tried: str = "") -> None:
    """Keeps a row that was validated: a new one whole, else the fields `changed`, if `row.version` is still that of the
    table. `tried` tells how its trial went. Raises PeerConflictError.
    """
    try:
        _save(row, actor=actor, changed=changed, tried=tried)
    except IntegrityError as error:  # the same AE title, entered at the same time
        raise PeerConflictError from error


def _save(row: RemoteAE, *, actor: str, changed: Collection[str], tried: str) -> None:
    with transaction.atomic():
        if row.pk is None:
            row.version = 1
            row.save()
            before: RemoteAE | None = None
        else:
            before = RemoteAE.objects.select_for_update().filter(pk=row.pk, version=row.version).first()
            if before is None:
                raise PeerConflictError
            row.version += 1
            row.save(update_fields=[*changed, "version"])
        audit_record(
            AuditEventType.CONFIGURATION,
            actor=actor,
            subject=f"remote:{row.ae_title}",
            detail={
                "action": "remote AE added" if before is None else "remote AE changed",
                "changed": _changes(before, row, changed),
                **({"trial": tried} if tried else {}),
            },
        )


def remote_delete(row: RemoteAE, *, actor: str) -> None:
    """Removes a peer: from its next association on it is unknown. Raises PeerInUseError."""
    title = row.ae_title
    try:
        with transaction.atomic():
            row.delete()
            audit_record(
                AuditEventType.CONFIGURATION,
                actor=actor,
                subject=f"remote:{title}",
                detail={"action": "remote AE removed"},
            )
    except ProtectedError as error:
        kinds = sorted({str(one._meta.verbose_name_plural) for one in error.protected_objects})
        raise PeerInUseError(
            f"{title} cannot be removed while {' and '.join(kinds)} refer to it. Switch it off instead."
        ) from error


def _changes(before: RemoteAE | None, after: RemoteAE, changed: Iterable[str]) -> dict[str, list[str]]:
    """Of each field, what it was and what it is."""
    return {
        name: [_text(before, name) if before is not None else "", _text(after, name)] for name in sorted(set(changed))
    }


def _text(row: RemoteAE, name: str) -> str:
    value = getattr(row, name)
    return "" if value is None else str(value)[:300]
