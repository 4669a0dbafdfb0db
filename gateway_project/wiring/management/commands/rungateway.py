"""`manage.py rungateway` (`make run`): prepares what is missing and runs the whole gateway in the foreground."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.errors import GatewayError
from gateway_project.core.logs import console_silence
from gateway_project.core.options import option
from gateway_project.wiring import prepare, supervision
from gateway_project.wiring.file_systems import file_systems_judge
from gateway_project.wiring.locks import LockError, lock_hold
from gateway_project.wiring.setup import administrator_exists, setup_link
from studies.dicom.errors import DicomError
from uploads.vault.errors import VaultStoreError


class Command(BaseCommand):
    help = "Sets up what is missing, then runs web, listeners, workers and the demonstration vault until Ctrl-C."
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        console_silence()  # the console is for people until the services speak for themselves
        try:
            lock_hold(settings.DATA_DIR / "run" / "gateway.lock", what="A gateway")
            self.stdout.write(f"Preparing {settings.DATA_DIR} ...")
            places = prepare.gateway_prepare()
            prepare.ports_check()
            warning = file_systems_judge()
        except (LockError, prepare.PrepareError, GatewayError, DicomError, VaultStoreError) as error:
            raise CommandError(str(error)) from error
        self._tell(demonstration=places is not None)
        if warning:
            self.stdout.write(self.style.WARNING(f"  Warning    {warning}"))
        code = supervision.supervise(places)
        self.stdout.write("The gateway has stopped. Everything received is safe in the data directory.")
        sys.exit(code)

    def _tell(self, *, demonstration: bool) -> None:
        web = f"http://{supervision.web_address()}"
        restricted = not administrator_exists()
        host = "127.0.0.1" if restricted else option("DICOM.HOST")
        lines = [
            "",
            f"  {option('INSTANCE.ID')} is starting.",
            "",
            f"  Pages      {web}/",
            f"  DICOM      {option('DICOM.AE_TITLE')} at {host}:{option('DICOM.PORT')}",
            f"  Data       {settings.DATA_DIR}",
        ]
        if demonstration:
            lines.append("  Vault      DEMONSTRATION vault on loopback: for trying out, not for patients' data")
        if link := setup_link():
            lines += [
                "",
                "  First, create the administrator (this link works once, on this machine):",
                f"    {link}",
            ]
        lines += ["", "  Try it: `make demo` in another terminal.   Stop: Ctrl-C.", ""]
        self.stdout.write("\n".join(lines))
        self.stdout.flush()
