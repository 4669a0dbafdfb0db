"""`manage.py vaultpin`: whose keys are pinned, what the vault offers, and pinning what a person has compared."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.core.errors import JobFault
from uploads.client import VaultClient
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import fingerprint
from uploads.models import Vault
from uploads.ports import VaultError
from uploads.services import pins
from uploads.services.identity import identity_jwk
from uploads.services.vaults import ASKED_SECONDS, vault_access_set, vault_add, vault_client
from uploads.ways import way_check

ACTOR = "command:vaultpin"
FILE_BYTES_MAX = 64 * 1024


class Command(BaseCommand):
    help = (
        "Shows the pinned keys of all vaults; with NAME also what that vault offers now. Pins only what a person has "
        "compared: the fingerprint that the key's owner has told, given as an option or typed when asked."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("name", nargs="?", default="", help="the vault; a new one with --url, --token-file and --key-id")
        add("--identity", action="store_true", help="show this gateway's public identity, for vaults to register")
        add("--url", default="", help="a new vault's address; without --key-id the new address of a known vault")
        add("--token-file", type=Path, help="file with the token that the vault has given this gateway")
        add("--ca", type=Path, help="PEM file of the authority that alone is trusted for this vault")
        add("--proxy-file", type=Path, help="file with the proxy's address: http://name:password@host:port, or: direct")
        add("--gateway-id", default="", help="what a known vault calls this gateway now (at first: INSTANCE.ID)")
        add("--optional", action="store_true", help="a study is uploaded also without the new vault's receipt")
        add("--key-id", default="", help="pin the recipient key of this id; --key-id=ID, as one may begin with -")
        add("--fingerprint", default="", help="of the recipient key, as the recipient has told it")
        add("--receipt-fingerprint", default="", help="of the vault's receipt key, as its operator has told it")
        add("--recovery", type=Path, help="file with the public key (JWK) of an offline recovery recipient")
        add("--recovery-fingerprint", default="")
        add("--no-recovery", action="store_true", help="seal for no recovery recipient any more")
        add("--signing-key", type=Path, help="file with the recipient's public signing key (JWK)")
        add("--signing-fingerprint", default="")
        add("--no-signing-key", action="store_true", help="take no rotation statements any more")
        add("--statement", type=Path, help="file with a rotation statement signed by the recipient")
        add("--json", action="store_true", help="write the result as JSON")

    def handle(self, *_args: Any, name: str, **options: Any) -> None:
        self._options = options
        known = Vault.objects.select_related("lane").filter(name=name).first()
        try:
            if options["identity"]:
                self._identity()
            elif not name:
                self._list()
            elif options["url"] and (known is None or options["key_id"]):
                self._add(name)
            elif known is None:
                raise CommandError("There is no vault of this name. Without a name the command lists them.")
            else:
                self._known(known)
        except (pins.PinError, VaultError, JobFault, EnvelopeError) as error:
            raise CommandError(f"{error} [{error.code}]") from error
        except OSError as error:
            raise CommandError(f"{error.strerror}: {error.filename}") from error

    def _identity(self) -> None:
        jwk = identity_jwk()
        shown = fingerprint({**jwk})
        self._show({"jwk": jwk, "fingerprint": shown}, [json.dumps(jwk), f"fingerprint  {shown}"])

    def _list(self) -> None:
        vaults = list(Vault.objects.order_by("name"))
        lines = [line for vault in vaults for line in (vault.name, *self._lines(pins.pin_rows(vault, None)))]
        self._show([self._document(vault, pins.pin_rows(vault, None)) for vault in vaults], lines or ["No vaults."])

    def _add(self, name: str) -> None:
        if self._options["token_file"] is None or not self._options["key_id"]:
            raise CommandError("A new vault needs --token-file and --key-id.")
        token, ca, proxy = self._read("token_file").strip(), self._ca() or "", self._proxy() or ""
        way_check(proxy=proxy, ca=ca)
        client = VaultClient(
            self._options["url"], token=token, timeout_seconds=ASKED_SECONDS, ca=ca, proxy=proxy or None
        )
        offer = pins.offer_fetch(client, recipient_key_id=self._options["key_id"])
        vault = vault_add(
            name,
            base_url=self._options["url"],
            token=token,
            offer=offer,
            recipient_fingerprint=self._told("fingerprint", "recipient key", offer.recipient_jwk),
            receipt_fingerprint=self._told("receipt_fingerprint", "receipt key", offer.receipt_jwk),
            required=not self._options["optional"],
            ca=ca,
            proxy=proxy,
            actor=ACTOR,
        )
        self._pinned(vault, pins.pin_rows(vault, offer))

    def _known(self, vault: Vault) -> None:
        if self._options["fingerprint"] and not self._options["key_id"]:
            raise CommandError("Nothing was pinned. Say with --key-id which key the fingerprint is of.")
        self._access(vault)
        changed = self._offline(vault)
        key_id = self._options["key_id"] or vault.recipient_key_id
        if changed and not (self._options["key_id"] or self._options["receipt_fingerprint"]):
            self._pinned(vault, pins.pin_rows(vault, None))
            return
        offer = pins.offer_fetch(vault_client(vault, asked=True), recipient_key_id=key_id)
        if self._options["key_id"]:
            told = self._told("fingerprint", "recipient key", offer.recipient_jwk)
            pins.recipient_repin(vault, offer.recipient_jwk, expected_fingerprint=told, actor=ACTOR)
        if told := self._options["receipt_fingerprint"]:
            pins.receipt_repin(vault, offer.receipt_jwk, expected_fingerprint=told, actor=ACTOR)
        rows = pins.pin_rows(vault, offer)
        self._pinned(vault, rows)
        if not all(row.same for row in rows):
            raise CommandError("The vault offers something else than what is pinned. Nothing is sent to it like this.")

    def _access(self, vault: Vault) -> None:
        """Another address, token, authority or proxy counts once the vault that answers so shows what is pinned."""
        chosen = self._options
        files = ("token_file", "ca", "proxy_file")
        if not (chosen["url"] or chosen["gateway_id"] or any(chosen[name] is not None for name in files)):
            return
        token = self._read("token_file").strip() if chosen["token_file"] is not None else ""
        if chosen["token_file"] is not None and not token:
            raise CommandError("The file given as --token-file is empty. Nothing was changed.")
        vault_access_set(
            vault,
            base_url=chosen["url"],
            token=token,
            ca=self._ca(),
            proxy=self._proxy(),
            gateway_id=chosen["gateway_id"],
            actor=ACTOR,
        )

    def _ca(self) -> str | None:
        """The authority's certificates themselves, so that nothing depends on the file any more; None: not given."""
        return self._read("ca") if self._options["ca"] is not None else None

    def _proxy(self) -> str | None:
        """The address, "" for `direct`; None: not given."""
        if self._options["proxy_file"] is None:
            return None
        proxy = self._read("proxy_file").strip()
        return "" if proxy == "direct" else proxy

    def _offline(self, vault: Vault) -> bool:
        """What needs no vault: recovery and signing key, and the recipient's statement."""
        chosen = self._options
        for option, remove, pin in (
            ("recovery", "no_recovery", pins.recovery_pin),
            ("signing_key", "no_signing_key", pins.signing_pin),
        ):
            if chosen[remove]:
                pin(vault, None, expected_fingerprint="", actor=ACTOR)
            elif chosen[option] is not None:
                jwk = self._jwk(option)
                told = self._told(f"{option.removesuffix('_key')}_fingerprint", option.replace("_", " "), jwk)
                pin(vault, jwk, expected_fingerprint=told, actor=ACTOR)
        if chosen["statement"] is not None:
            pins.rotation_apply(vault, self._read("statement"), actor=ACTOR)
        names = ("no_recovery", "no_signing_key", "recovery", "signing_key", "statement")
        return any(chosen[each] not in (None, False) for each in names)

    def _told(self, option: str, what: str, jwk: dict[str, Any]) -> str:
        """The fingerprint as the key's owner has told it; asked for at a terminal when it was not given."""
        given = str(self._options[option])
        if given:
            return given
        self.stderr.write(f"offered {what}: {pins.fingerprint_shown(jwk)}")
        if not sys.stdin.isatty():
            raise CommandError(
                f"Nothing was pinned. Give --{option.replace('_', '-')} as the owner of the key told it."
            )
        return input(f"Type the fingerprint of the {what} as its owner told you: ")

    def _read(self, option: str) -> str:
        with Path(self._options[option]).open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode("utf-8", "replace")

    def _jwk(self, option: str) -> dict[str, Any]:
        try:
            jwk = json.loads(self._read(option))
        except (ValueError, RecursionError):
            jwk = None
        if not isinstance(jwk, dict):
            raise CommandError(f"The file given as --{option.replace('_', '-')} is no JWK.")
        return jwk

    def _pinned(self, vault: Vault, rows: list[pins.PinRow]) -> None:
        lines = self._lines(rows)
        if vault.lane.held:
            lines.append("The vault's lane is held. When the pins are right, resume it, on /vaults/.")
        self._show(self._document(vault, rows), lines)

    def _lines(self, rows: list[pins.PinRow]) -> list[str]:
        lines = []
        for row in rows:
            lines.append(f"  {row.what:<14} pinned   {row.pinned}")
            if row.offered is not None:
                lines.append(f"  {'':<14} offered  {row.offered}{'' if row.same else '   DIFFERENT'}")
        return lines

    def _document(self, vault: Vault, rows: list[pins.PinRow]) -> dict[str, Any]:
        keys = [{"what": row.what, "pinned": row.pinned, "offered": row.offered, "same": row.same} for row in rows]
        return {"name": vault.name, "recipient_key_id": vault.recipient_key_id, "pins": keys}

    def _show(self, document: object, lines: list[str]) -> None:
        for line in [json.dumps(document, indent=1)] if self._options["json"] else lines:
            self.stdout.write(line)
