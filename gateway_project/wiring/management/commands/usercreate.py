"""`manage.py usercreate NAME --role ROLE`: an account from the machine itself, with the link to choose its password."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.core.roles import ROLES
from gateway_project.wiring.people import AccountError, account_create, password_link
from gateway_project.wiring.setup import address_absolute

ACTOR = "process:usercreate"


class Command(BaseCommand):
    help = "Makes an account and prints the one-time link with which its owner chooses a password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--role", required=True, choices=ROLES)

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            user = account_create(username=options["username"], role=options["role"], actor=ACTOR)
            link = password_link(user, actor=ACTOR)
        except (AccountError, ValidationError) as error:
            words = error.messages[0] if isinstance(error, ValidationError) else str(error)
            raise CommandError(words) from error
        self.stdout.write(f"The account {user} is made. Its owner chooses a password here, once, within a day:")
        self.stdout.write(address_absolute(link))
