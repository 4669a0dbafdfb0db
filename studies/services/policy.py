"""What is set for one calling AE title: changed by a person, audited, seen by every process within two seconds."""

from django.db import transaction

from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from studies.models import SourcePolicy
from studies.policies import source_policies_forget


def source_policy_save(policy: SourcePolicy, *, actor: str) -> SourcePolicy:
    """Makes or changes the row. Raises ValidationError when its values cannot be used."""
    policy.calling_ae_title = policy.calling_ae_title.strip()
    policy.full_clean()
    with transaction.atomic():
        policy.save()
        _audited(policy, "source policy set", actor)
    return policy


def source_policy_remove(policy: SourcePolicy, *, actor: str) -> None:
    """The options, and the row "*", apply to this source again. May be repeated."""
    with transaction.atomic():
        deleted, _rows = SourcePolicy.objects.filter(pk=policy.pk).delete()
        if deleted:
            _audited(policy, "source policy removed", actor)


def _audited(policy: SourcePolicy, action: str, actor: str) -> None:
    audit_record(
        AuditEventType.CONFIGURATION,
        actor=actor,
        subject=f"source:{policy.calling_ae_title}",
        detail={
            "action": action,
            "strictness": str(policy.strictness),
            "quiet_seconds": policy.quiet_seconds,
            "max_open_seconds": policy.max_open_seconds,
            "silence_watched": policy.silence_watched,
        },
    )
    transaction.on_commit(source_policies_forget)
