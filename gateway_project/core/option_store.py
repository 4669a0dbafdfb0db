"""The services that change options: checked, audited, and seen by every process within two seconds."""

import secrets
from typing import Any

from django.db import transaction
from django.db.models import F

from gateway_project.core.models import AuditEventType, ConfigOverride, ConfigVersion
from gateway_project.core.option_table import DjangoOverrideStore
from gateway_project.core.options import REGISTRY, Option, OptionLockedError
from gateway_project.core.secrets import secret_encrypt

__all__ = ["DjangoOverrideStore", "option_clear", "option_set"]

# A step of random width: a change that is rolled back and one that another process commits never share a number.
VERSION_STEP_MAX = 1 << 30


def option_set(key: str, value: object, *, actor: str) -> None:
    """Overrides an option in the caller's transaction, if there is one. May be repeated.

    Raises OptionUnknownError, OptionLockedError (the environment sets it), OptionError (the value does not fit).
    """
    option = _changeable(key)
    typed = option.validate(value)
    stored = secret_encrypt(typed) if option.secret else typed
    with transaction.atomic():
        _version_advance()
        before = _row_shown(option)
        ConfigOverride.objects.update_or_create(key=key, defaults={"value": stored, "updated_by": actor})
        _changed(option, actor=actor, before=before, after="set" if option.secret else typed)


def option_clear(key: str, *, actor: str) -> bool:
    """Gives an option its default back; answers whether there was an override. Raises as `option_set`."""
    option = _changeable(key)
    with transaction.atomic():
        _version_advance()
        before = _row_shown(option)
        deleted, _ = ConfigOverride.objects.filter(key=key).delete()
        if deleted:
            _changed(option, actor=actor, before=before, after=None)
    return bool(deleted)


def _changeable(key: str) -> Option:
    option = REGISTRY.get(key)
    if REGISTRY.environment_locks(key):
        raise OptionLockedError(
            f"option {key} is set by the environment variable {option.environment_name}; change it there"
        )
    return option


def _version_advance() -> None:
    # First in the transaction: its row is the lock that puts changes in one order.
    ConfigVersion.objects.get_or_create(pk=1)
    ConfigVersion.objects.filter(pk=1).update(version=F("version") + 1 + secrets.randbelow(VERSION_STEP_MAX))


def _row_shown(option: Option) -> Any:
    row = ConfigOverride.objects.filter(key=option.key).first()
    if row is None:
        return None
    return "set" if option.secret else row.value


def _changed(option: Option, *, actor: str, before: Any, after: Any) -> None:
    from gateway_project.core.services.audit import audit_record

    detail = {"option": option.key, "before": before, "after": after}
    audit_record(AuditEventType.CONFIGURATION, actor=actor, subject=f"option:{option.key}", detail=detail)
    REGISTRY.invalidate()  # this transaction sees its own change ...
    transaction.on_commit(REGISTRY.invalidate)  # ... and whoever read the older value meanwhile reads again
