"""`manage.py vaultcanary`: sends a canary to a vault, and takes the recipient's proof that it was opened."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.errors import JobFault
from uploads.models import Vault
from uploads.ports import VaultError
from uploads.selectors import deletion_allowed
from uploads.services.canary import canary_prove, canary_send
from uploads.services.pins import PinError
from uploads.services.vaults import vault_client

ACTOR = "command:vaultcanary"


class Command(BaseCommand):
    help = (
        "Shows whether the recipient has proved that its key opens what is sealed for it; with --send seals and "
        "uploads a canary, with --proof takes what the recipient's tool shows when it has opened that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the vault")
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--send", action="store_true", help="send a canary; the one before it counts no more")
        which.add_argument("--proof", default="", help="what `python -m uploads.vault canary` has shown")
        parser.add_argument("--json", action="store_true", help="write the result as JSON")

    def handle(self, *_args: Any, name: str, send: bool, proof: str, **options: Any) -> None:
        vault = Vault.objects.select_related("lane").filter(name=name).first()
        if vault is None:
            raise CommandError("There is no vault of this name. `vaultpin` lists them.")
        try:
            if send:
                canary_send(vault, vault_client(vault), actor=ACTOR)
            if proof:
                canary_prove(vault, proof, actor=ACTOR)
        except (PinError, VaultError, JobFault) as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self._show(vault, as_json=options["json"])

    def _show(self, vault: Vault, *, as_json: bool) -> None:
        moments = {"sent_at": vault.canary_sent_at, "proved_at": vault.canary_proved_at}
        document = {
            "name": vault.name,
            "recipient_key_id": vault.recipient_key_id,
            "canary_upload_id": vault.canary_upload_id or None,
            **{key: moment.isoformat() if moment else None for key, moment in moments.items()},
            "deletion_allowed": deletion_allowed(vault),
        }
        if as_json:
            self.stdout.write(json.dumps(document, indent=1))
            return
        for key, value in document.items():
            self.stdout.write(f"{key.replace('_', ' '):<17} {'-' if value is None else value}")
        if vault.canary_upload_id and not vault.canary_proved_at:
            upload_id = vault.canary_upload_id
            self.stdout.write("The recipient opens it, where its private key is, and tells you the proof:")
            self.stdout.write(
                f"  python -m uploads.vault canary --directory D --upload {upload_id} --key recipient.pem"
            )
