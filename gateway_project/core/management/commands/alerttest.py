"""`manage.py alerttest`: does an alert reach anybody?"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.clock import database_now
from gateway_project.core.services.notices import notices_try


class Command(BaseCommand):
    help = "Sends a test alert by e-mail and by webhook, as far as they are set up, and says how each took it."

    def handle(self, *_args: Any, **_options: Any) -> None:
        tried = notices_try(actor="command:alerttest", now=database_now())
        if not tried:
            raise CommandError(
                "No way is set up: set ALERT.EMAIL_HOST and ALERT.EMAIL_TO, or ALERT.WEBHOOK_URL (docs/alerts.md)."
            )
        for each in tried:
            self.stdout.write(f"{each.way.label}: {each.words}")
        if not all(each.ok for each in tried):
            raise CommandError("Not every way works.")
