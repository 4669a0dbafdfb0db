"""`manage.py vaultcanary`: sends a canary to a vault, and takes the recipient's proof that it was opened."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.errors import JobFault
from uploads.models import Vault
from uploads.ports import VaultError
from uploads.selectors import deletion_allowed, pinned_key_ids
from uploads.services.canary import canary_prove, canary_send
from uploads.services.pins import PinError
from uploads.services.vaults import vault_client

ACTOR = "command:vaultcanary"


class Command(BaseCommand):
    help = (
        "Shows whether it is proved that the recipient's key (--recovery: the recovery key) opens what is sealed for "
        "it; with --send seals and uploads a canary, with --proof takes what the tool shows when it has opened that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the vault")
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--send", action="store_true", help="send a canary; the one before it counts no more")
        which.add_argument("--proof", default="", help="what `python -m uploads.vault canary` has shown")
        parser.add_argument("--recovery", action="store_true", help="of the recovery key, which is kept offline")
        parser.add_argument("--json", action="store_true", help="write the result as JSON")

    def handle(self, *_args: Any, name: str, send: bool, proof: str, recovery: bool, **options: Any) -> None:
        vault = Vault.objects.select_related("lane").filter(name=name).first()
        if vault is None:
            raise CommandError("There is no vault of this name. `vaultpin` lists them.")
        try:
            if send:
                canary_send(vault, vault_client(vault, asked=True), actor=ACTOR, recovery=recovery)
            if proof:
                canary_prove(vault, proof, actor=ACTOR, recovery=recovery)
        except (PinError, VaultError, JobFault) as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self._show(vault, recovery=recovery, as_json=options["json"])

    def _show(self, vault: Vault, *, recovery: bool, as_json: bool) -> None:
        prefix, key = ("recovery_", "recovery") if recovery else ("", "recipient")
        upload_id, sent_at, proved_at = (
            getattr(vault, f"{prefix}canary_{name}") for name in ("upload_id", "sent_at", "proved_at")
        )
        key_ids = pinned_key_ids(vault)[1:] if recovery else [vault.recipient_key_id]
        document = {
            "name": vault.name,
            f"{key}_key_id": key_ids[0] if key_ids else None,
            "canary_upload_id": upload_id or None,
            "sent_at": sent_at.isoformat() if sent_at else None,
            "proved_at": proved_at.isoformat() if proved_at else None,
            "deletion_allowed": deletion_allowed(vault),
        }
        if as_json:
            self.stdout.write(json.dumps(document, indent=1))
            return
        for name, value in document.items():
            self.stdout.write(f"{name.replace('_', ' '):<17} {'-' if value is None else value}")
        if upload_id and not proved_at:
            self.stdout.write("The key's holder opens it, where the private key is, and tells you the proof:")
            self.stdout.write(f"  python -m uploads.vault canary --directory D --upload {upload_id} --key {key}.pem")
