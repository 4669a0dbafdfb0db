"""`manage.py associations`: who is connected now, and ending one."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from network.dimse.control import ControlError
from network.selectors import associations_live
from network.services.associations import ae_title_shown, association_end

COLUMNS = "{:<32}  {:<16}  {:<16}  {:<22}  {:<19}  {:>8}  {:>8}  {:>8}"
MB = 1e6


class Command(BaseCommand):
    help = "Lists the associations that are open now; with --end ID aborts one of them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--end", metavar="ID", default="", help="abort this association (A-ABORT)")

    def handle(self, *_args: Any, end: str, **_options: Any) -> None:
        if end:
            self._end(end)
        else:
            self._list()

    def _end(self, association_id: str) -> None:
        try:
            found = association_end(association_id, actor="command:associations")
        except ControlError as error:
            raise CommandError(str(error)) from error
        if not found:
            raise CommandError("No association of this id is open. Without --end the command lists those that are.")
        self.stdout.write("It is being ended.")

    def _list(self) -> None:
        live = associations_live()
        if not live.running:
            raise CommandError("The listeners do not answer: start the gateway, or see its log.")
        if not live.associations:
            self.stdout.write("Nobody is connected.")
            return
        self.stdout.write(COLUMNS.format("id", "calling", "called", "from", "since", "objects", "MB", "MB/s"))
        for one in live.associations:
            self.stdout.write(
                COLUMNS.format(
                    one.association_id or "(not yet asked for)",
                    ae_title_shown(one.calling_ae_title),
                    ae_title_shown(one.called_ae_title),
                    f"{one.address}:{one.port}",
                    f"{one.connected_at:%Y-%m-%d %H:%M:%S}",
                    one.objects_stored,
                    f"{one.bytes_received / MB:.1f}",
                    f"{one.bytes_per_second / MB:.1f}",
                )
            )
