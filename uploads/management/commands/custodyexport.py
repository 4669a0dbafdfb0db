"""`manage.py custodyexport`: the chain of custody of a study as a signed file."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from studies.models import Study
from uploads.services.custody import custody_document

ACTOR = "command:custodyexport"


class Command(BaseCommand):
    help = "Writes the signed chain of custody of a study; an existing file is never overwritten."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="its number in the gateway, as in /studies/12/, or its Study Instance UID")
        parser.add_argument("--out", metavar="FILE", required=True, help="the file to write (mode 0600)")

    def handle(self, *_args: Any, study: str, out: str, **_options: Any) -> None:
        found = Study.objects.filter(study_instance_uid=study).first()
        if found is None and study.isascii() and study.isdecimal() and len(study) <= 18:
            found = Study.objects.filter(pk=int(study)).first()
        if found is None:
            raise CommandError("There is no such study here.", returncode=2)
        try:
            self._write(found, Path(out))
        except OSError as error:
            raise CommandError(f"The file cannot be written: {error.strerror}.", returncode=2) from error
        self.stdout.write(f"Written: {out}. Verify it with: manage.py custodyverify {out}")

    def _write(self, study: Study, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                for piece in custody_document(study, actor=ACTOR):
                    stream.write(piece)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
