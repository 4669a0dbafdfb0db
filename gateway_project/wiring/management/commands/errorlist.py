"""`manage.py errorlist`: every error code with its cause and next step; one of them by name."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.wiring.explain.catalogue import CATALOGUE, HEALS, WAITS, catalogue_markdown, explanation


class Command(BaseCommand):
    help = "Explains an error code, or lists all; --markdown writes the page docs/errors.md."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("code", nargs="?", help="e.g. disk-full")
        parser.add_argument("--markdown", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["markdown"]:
            self.stdout.write(catalogue_markdown(), ending="")
        elif options["code"]:
            found = explanation(options["code"])
            if found is None:
                raise CommandError("This is no code of the gateway's. `manage.py errorlist` shows them all.")
            for line in (f"{found.code}: {found.title}.", found.cause, found.step, HEALS if found.heals else WAITS):
                self.stdout.write(line)
        else:
            for each in CATALOGUE.values():
                self.stdout.write(f"{each.code:28} {each.title}")
