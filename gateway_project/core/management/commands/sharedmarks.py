"""`manage.py sharedmarks`: does this machine have what the others on its database have?"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.machine import database_is_shared
from gateway_project.core.shared import SHARED, shared_replace, shared_strange


class Command(BaseCommand):
    help = "Compares keys and store of this machine with those of the others on its database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--replace", choices=sorted(SHARED), help="what is here counts from now on, for all")

    def handle(self, *_args: Any, replace: str | None, **_options: Any) -> None:
        if not database_is_shared():
            self.stdout.write("The database is a file of this machine: there is nothing to compare.")
            return
        if replace:
            shared_replace(replace, actor="command:sharedmarks")
        strange = shared_strange()
        for name in SHARED:
            self.stdout.write(f"{name:12} {'another one here than on the other machines' if name in strange else 'ok'}")
        if strange:
            raise CommandError(SHARED[strange[0]].words)
