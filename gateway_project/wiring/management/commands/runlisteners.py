"""`manage.py runlisteners`: the DIMSE listener, under a supervisor of your choice."""

from argparse import SUPPRESS, ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.errors import GatewayError
from gateway_project.core.options import boot_values_freeze
from gateway_project.core.schema import schema_check
from gateway_project.core.shared import shared_check
from gateway_project.wiring import listeners
from gateway_project.wiring.file_systems import store_locks_check
from gateway_project.wiring.locks import LockError, lock_hold
from network.dimse.errors import DimseError
from studies.dicom.spool import SpoolError


class Command(BaseCommand):
    help = "Receives DICOM objects until it is asked to stop (SIGTERM); finishes what is under way, in under 25 s."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--receiver", type=int, default=None, help=SUPPRESS)
        parser.add_argument("--channel", type=int, default=None, help=SUPPRESS)

    def handle(self, *_args: Any, receiver: int | None, channel: int | None, **_options: Any) -> None:
        try:
            if receiver is not None and channel is not None:
                boot_values_freeze()
                listeners.receiver_run(receiver, channel)
                return
            schema_check()
            store_locks_check()
            shared_check()
            boot_values_freeze()
            lock_hold(settings.DATA_DIR / "run" / "listeners.lock", what="A listener")
            listeners.acceptor_run()
        except (LockError, GatewayError, DimseError, SpoolError) as error:
            raise CommandError(str(error)) from error
