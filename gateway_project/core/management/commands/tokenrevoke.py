"""`manage.py tokenrevoke`: ends a token at once."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.clock import database_now
from gateway_project.core.models import ApiToken
from gateway_project.core.services.tokens import token_revoke

ACTOR = "command:tokenrevoke"


class Command(BaseCommand):
    help = "Revokes an API token: the next request with it is refused. It cannot be undone; make a new one instead."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="as tokenlist shows it")

    def handle(self, *_args: Any, name: str, **_options: Any) -> None:
        token = ApiToken.objects.filter(name=name).first()
        if token is None:
            raise CommandError(f"There is no token {name}. tokenlist shows all.", returncode=2)
        revoked = token_revoke(token, actor=ACTOR, now=database_now())
        self.stdout.write(f"Token {name} is revoked." if revoked else f"Token {name} was revoked before.")
