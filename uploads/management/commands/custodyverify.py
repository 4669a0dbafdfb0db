"""`manage.py custodyverify`: does a chain of custody document hold, and what of it holds here?

Exit codes: 0 everything that can be judged here holds, 1 something does not, 2 the document or the call is of no use.
"""

import json
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError

from studies.dicom.spool import SpoolError, Store
from studies.selectors import store_open, store_root
from uploads.custody import CustodyError, CustodyReader
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import fingerprint, thumbprint
from uploads.services.custody_check import CustodyCheck, Finding
from uploads.services.identity import identity_jwk, identity_path

KEY_FILE_BYTES_MAX = 16 * 1024


class Command(BaseCommand):
    help = "Verifies a chain of custody: its signature, receipts, the files that are here, the audit trail."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="what custodyexport or the study's page gave")
        parser.add_argument(
            "--identity",
            metavar="JWK|FINGERPRINT",
            default="",
            help="whose signature is expected: a file with the gateway's public key (JWK), or its fingerprint; "
            "by default this gateway's own",
        )
        parser.add_argument("--faults", action="store_true", help="print only what does not hold, and the sum")

    def handle(self, *_args: Any, file: str, identity: str, faults: bool, **_options: Any) -> None:
        try:
            with Path(file).open("rb") as stream:
                failed = self._verify(stream, identity, faults=faults)
        except CustodyError as error:
            raise CommandError(str(error), returncode=1 if error.code == "records-changed" else 2) from error
        except EnvelopeError as error:
            raise CommandError(f"The signature does not hold: {error}", returncode=1) from error
        except OSError as error:
            raise CommandError(f"The file cannot be read: {error.strerror}.", returncode=2) from error
        if failed:
            raise CommandError(f"{failed} of the records do not hold.", returncode=1)

    def _verify(self, stream: BinaryIO, identity: str, *, faults: bool) -> int:
        reader = CustodyReader(stream)
        head = reader.verify(_expected(reader, identity))
        self.stdout.write(f"Signature: holds. Gateway {head.gateway_id}, key {fingerprint(head.identity_jwk)}")
        self.stdout.write(f"Made {head.made_at} by {head.made_by}, of study {head.study_instance_uid}")
        check = CustodyCheck(head, store=_store())
        if not check.study_is_here:
            self.stdout.write("This gateway does not have the study: files and audit trail are not judged.")
        kinds: Counter[str] = Counter()
        failed = 0
        for finding in check.findings(reader):
            kinds[finding.kind] += 1
            failed += bool(finding.fails)
            if finding.fails or not faults:
                self._tell(finding)
        listed = ", ".join(f"{kinds[kind]} {kind}s" for kind in ("upload", "instance", "event"))
        self.stdout.write(f"Judged: {listed}. Not holding: {failed}.")
        return failed

    def _tell(self, finding: Finding) -> None:
        verdict = "DOES NOT HOLD" if finding.fails else "holds" if finding.holds else "not judged"
        words = "; ".join(finding.fails + finding.holds + finding.unknown)
        self.stdout.write(f"{finding.kind} {finding.title}: {verdict} ({words})")


def _store() -> Store | None:
    """None on a machine without a store: signature and receipts are judged all the same. Nothing is made here."""
    if not store_root().exists():
        return None
    try:
        return store_open()
    except SpoolError as error:
        raise CommandError(f"The store cannot be opened: {error}", returncode=2) from error


def _expected(reader: CustodyReader, identity: str) -> dict[str, Any]:
    """The key that must have signed: this gateway's, one in a file, or the document's own if its fingerprint is so."""
    if not identity:
        if not identity_path().exists():
            raise CommandError("This gateway has no identity key yet: say with --identity whose it is.", returncode=2)
        return {**identity_jwk()}
    path = Path(identity)
    if path.exists():
        return _jwk_read(path)
    claimed = reader.claimed_jwk()
    named = _bare(identity)
    if named.lower() != _bare(fingerprint(claimed)) and named != thumbprint(claimed):
        raise CommandError("The document names another identity key than that fingerprint.", returncode=1)
    return claimed


def _jwk_read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            jwk = json.loads(stream.read(KEY_FILE_BYTES_MAX))
    except ValueError as error:
        raise CommandError("The identity file holds no JWK.", returncode=2) from error
    if not isinstance(jwk, dict):
        raise CommandError("The identity file holds no JWK.", returncode=2)
    return jwk


def _bare(text: str) -> str:
    """Without the spaces and colons that people put into fingerprints."""
    return "".join(character for character in text if character not in " :\t")
