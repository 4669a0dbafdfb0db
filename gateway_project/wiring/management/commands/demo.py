"""`manage.py demo` (`make demo`): sends a real study through the running gateway and shows each step."""

import sys
from typing import Any

from django.core.management.base import BaseCommand
from django.db import OperationalError
from django.urls import reverse

from gateway_project.core.logs import console_silence
from gateway_project.wiring import supervision
from gateway_project.wiring.demo import Demo, DemoError

BAR = 24


class Command(BaseCommand):
    help = "Sends a real MR study to the running gateway and follows it into the vault and out again."
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        console_silence()
        try:
            study = Demo(tell=self._tell, progress=self._progress).run()
        except DemoError as error:
            self._fail(str(error))
        except OperationalError:
            self._fail("The gateway's database is not there yet. Start the gateway with `make run` first.")
        self.stdout.write("")
        self.stdout.write(f"Look at it: http://{supervision.web_address()}{reverse('study', args=[study.pk])}")

    def _fail(self, words: str) -> None:
        self._clear()
        self.stderr.write(self.style.ERROR(f"  FAILED  {words}"))
        sys.exit(1)

    def _tell(self, line: str) -> None:
        self._clear()
        self.stdout.write(f"  {self.style.SUCCESS('ok')}  {line}")
        self.stdout.flush()

    def _progress(self, what: str, done: int, total: int) -> None:
        if self.stdout.isatty():
            filled = BAR * done // max(total, 1)
            self.stdout.write(f"\r      {what} [{'#' * filled}{'.' * (BAR - filled)}] {done}/{total}", ending="")
            self.stdout.flush()

    def _clear(self) -> None:
        if self.stdout.isatty():
            self.stdout.write("\r\033[K", ending="")
