"""`manage.py tokencreate`: a token for a program that uses the API; printed once, kept nowhere."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.clock import database_now
from gateway_project.core.roles import INTEGRATION, ROLES
from gateway_project.core.services.tokens import TokenError, token_create

ACTOR = "command:tokencreate"


class Command(BaseCommand):
    help = "Makes a token for the API and prints it, this once. tokenlist shows all, tokenrevoke ends one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="whose token it is, as the audit trail will name it: token:NAME")
        parser.add_argument("--role", choices=ROLES, default=INTEGRATION, help="what it may do (docs/api.md)")
        parser.add_argument("--days", type=int, default=90, help="how long it lives, 1 to 3650 (default 90)")

    def handle(self, *_args: Any, name: str, role: str, days: int, **_options: Any) -> None:
        try:
            token, text = token_create(name, role=role, days=days, actor=ACTOR, now=database_now())
        except TokenError as error:
            raise CommandError(str(error), returncode=2) from error
        self.stdout.write(text)
        self.stderr.write(
            f"Token {token.name}, role {token.role}, until {token.expires_at:%Y-%m-%d}. It is not shown again: keep it "
            "like a password. Send it as: Authorization: Bearer TOKEN"
        )
