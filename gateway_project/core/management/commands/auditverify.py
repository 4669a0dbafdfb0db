"""`manage.py auditverify`: is the audit trail whole?"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.models import AuditEvent, AuditSeal
from gateway_project.core.services.audit import audit_verify


class Command(BaseCommand):
    help = "Recomputes the chain of the audit trail; ends with an error at the first record that does not hold."

    def handle(self, *_args: Any, **_options: Any) -> None:
        broken = audit_verify()
        if broken is not None:
            raise CommandError(
                f"The chain breaks at link {broken}: a record was changed, removed or put in another place."
            )
        chained = AuditSeal.objects.count()
        waiting = AuditEvent.objects.filter(seal__isnull=True).count()
        self.stdout.write(f"The chain holds: {chained} records, {waiting} more wait to be chained.")
