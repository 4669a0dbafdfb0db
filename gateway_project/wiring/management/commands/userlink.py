"""`manage.py userlink NAME`: a one-time link for a forgotten password, the only administrator's too."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.core.models import LoginCount
from gateway_project.wiring.people import AccountError, password_link
from gateway_project.wiring.setup import address_absolute

ACTOR = "process:userlink"


class Command(BaseCommand):
    help = "Prints a one-time link with which the account's owner chooses a new password, and lets everybody try again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *_args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError("There is no account of this name.")
        try:
            link = password_link(user, actor=ACTOR)
        except AccountError as error:
            raise CommandError(str(error)) from error
        LoginCount.objects.all().delete()  # whoever sits at the machine need not wait for the wrong guesses made before
        self.stdout.write(f"For {user}, once, within a day:")
        self.stdout.write(address_absolute(link))
