"""`manage.py tokenlist`: every token, never its secret."""

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand

from gateway_project.core.clock import database_now
from gateway_project.core.models import ApiToken


class Command(BaseCommand):
    """Prints tab separated: name, role, state, expires, last used, made by. Changes nothing."""

    help = "Shows every API token: name, role, state, when it expires, when it was last used, who made it."

    def handle(self, *_args: Any, **_options: Any) -> None:
        now = database_now()
        tokens = list(ApiToken.objects.all())
        for token in tokens:
            used = token.last_used_at.isoformat(timespec="minutes") if token.last_used_at else "never"
            expires = token.expires_at.isoformat(timespec="minutes")
            self.stdout.write("\t".join([token.name, token.role, _state(token, now), expires, used, token.created_by]))
        if not tokens:
            self.stderr.write("There is no token yet. Make one with: manage.py tokencreate NAME")


def _state(token: ApiToken, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "valid" if token.usable(now) else "expired"
