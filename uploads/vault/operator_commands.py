"""The commands of a vault's operator: who may use it, how much it holds, and what leaves it."""

import argparse
import secrets
from pathlib import Path

from uploads.envelope.keys import fingerprint
from uploads.vault.archive import upload_remove
from uploads.vault.console import AddCommand, jwk_read, show
from uploads.vault.registry import (
    gateway_register,
    gateway_revoke,
    quota_set,
    receipt_key_change,
    recipient_register,
    recipient_revoke,
    recipients_read,
    registered_read,
    token_write,
    vault_identity,
    vault_receipt_jwk,
)
from uploads.vault.rewrap import bundle_read, rewrapped_add
from uploads.vault.usage import Usage

GB = 10**9


def commands_add(command: AddCommand) -> None:
    """Adds this module's commands."""
    gateway = command("gateway", _gateway, "Let a gateway upload, or give it another token or identity.")
    gateway.add_argument("--gateway-id", required=True)
    gateway.add_argument("--jwk", type=Path, required=True, help="the gateway's public identity")
    gateway.add_argument("--token-file", type=Path, required=True, help="its token; made and written if absent")

    recipient = command("recipient", _recipient, "Publish a recipient's public key.")
    recipient.add_argument("--jwk", type=Path, required=True)

    command("identity", _identity, "Show the vault's name and the fingerprint of its receipt key, to tell gateways.")
    key = command("receipt-key", _receipt_key, "Sign receipts with a new key: signing.pem was lost, or read by others.")
    key.add_argument("--yes", action="store_true", help="really; every gateway then waits until it has pinned the key")
    command("gateways", _gateways, "List the gateways, also revoked ones, with what they store.")
    command("recipients", _recipients, "List the published public keys.")

    revoke = command("revoke", _revoke, "Refuse a gateway's token, or publish a recipient's key no more, at once.")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("--gateway-id", help="a gateway; its uploads stay, and `gateway` lets it in again")
    which.add_argument("--kid", help="a recipient's key (--kid=ID); what was sealed for it stays")

    quota = command("quota", _quota, "Bound what is stored, in the whole vault or by one gateway.")
    quota.add_argument("--gateway-id", help="a gateway (default: the whole vault)")
    size = quota.add_mutually_exclusive_group(required=True)
    size.add_argument("--gb", type=_size, metavar="GB", help="as many GB (10^9 octets)")
    size.add_argument("--none", action="store_true", help="no bound but the disk's")

    remove = command("remove", _remove, "Remove an upload's files for good. No gateway can do this.")
    remove.add_argument("--upload", required=True, help="the upload's id")
    remove.add_argument("--yes", action="store_true", help="really; without it, what would go is only shown")

    add = command("rewrap-add", _rewrap_add, "Take in the key documents that a recipient has made with `rewrap`.")
    add.add_argument("--bundle", type=Path, required=True, help="what `rewrap` has written")


def _gateway(options: argparse.Namespace) -> int:
    new = not options.token_file.exists()
    token = (
        secrets.token_urlsafe(32) if new else options.token_file.read_text(encoding="ascii", errors="replace").strip()
    )
    jwk = jwk_read(options.jwk)
    gateway_register(options.directory, gateway_id=options.gateway_id, token=token, jwk=jwk)
    if new:
        token_write(options.token_file, token)
    show(options, {"gateway_id": options.gateway_id}, [f"registered   {options.gateway_id} ({fingerprint(jwk)})"])
    return 0


def _recipient(options: argparse.Namespace) -> int:
    kid = recipient_register(options.directory, jwk_read(options.jwk))
    show(options, {"kid": kid}, [f"registered   {kid}"])
    return 0


def _identity(options: argparse.Namespace) -> int:
    identity, jwk = vault_identity(options.directory), vault_receipt_jwk(options.directory)
    named = {"vault_id": identity.vault_id, "demonstration": identity.demonstration, "fingerprint": fingerprint(jwk)}
    kind = " (demonstration)" if identity.demonstration else ""
    lines = [f"vault        {identity.vault_id}{kind}", f"receipt key  {named['fingerprint']}"]
    show(options, {**named, "receipt_jwk": jwk}, lines)
    return 0


def _receipt_key(options: argparse.Namespace) -> int:
    if not options.yes:
        show(options, {"receipt_jwk": None}, ["Nothing was changed. Add --yes to make a new receipt key."])
        return 0
    receipt_key_change(options.directory)
    return _identity(options)


def _gateways(options: argparse.Namespace) -> int:
    vault_identity(options.directory)
    registered, stored = registered_read(options.directory), Usage(options.directory).stored()
    found = [
        {
            "gateway_id": each.gateway_id,
            "fingerprint": fingerprint({**each.jwk}),
            "stored_bytes": stored.get(each.gateway_id, 0),
            "quota_bytes": each.quota_bytes,
            "revoked_at": each.revoked_at or None,
        }
        for each in registered.gateways
    ]
    document = {"stored_bytes": sum(stored.values()), "quota_bytes": registered.quota_bytes, "gateways": found}
    lines = [f"whole vault  {document['stored_bytes']} bytes of {_bound(registered.quota_bytes)}"]
    for each in found:
        state = f"  revoked {each['revoked_at']}" if each["revoked_at"] else ""
        lines.append(f"{each['gateway_id']}  {each['stored_bytes']} bytes of {_bound(each['quota_bytes'])}{state}")
        lines.append(f"    {each['fingerprint']}")
    show(options, document, lines)
    return 0


def _recipients(options: argparse.Namespace) -> int:
    vault_identity(options.directory)
    found = [{"kid": kid, "fingerprint": fingerprint(jwk)} for kid, jwk in recipients_read(options.directory).items()]
    show(options, found, [f"{each['kid']}  {each['fingerprint']}" for each in found])
    return 0


def _revoke(options: argparse.Namespace) -> int:
    if options.kid:
        recipient_revoke(options.directory, options.kid)
    else:
        gateway_revoke(options.directory, gateway_id=options.gateway_id)
    name = options.kid or options.gateway_id
    show(options, {"revoked": name}, [f"revoked      {name}"])
    return 0


def _quota(options: argparse.Namespace) -> int:
    quota_bytes = None if options.none else options.gb
    quota_set(options.directory, quota_bytes=quota_bytes, gateway_id=options.gateway_id)
    document = {"gateway_id": options.gateway_id, "quota_bytes": quota_bytes}
    show(options, document, [f"quota        {options.gateway_id or 'whole vault'}: {_bound(quota_bytes)}"])
    return 0


def _remove(options: argparse.Namespace) -> int:
    if not options.yes:
        show(options, {"removed": None}, ["Nothing was removed. Add --yes to remove the upload's files for good."])
        return 0
    size_bytes = upload_remove(options.directory, options.upload)
    show(options, {"removed": options.upload, "size_bytes": size_bytes}, [f"removed      {size_bytes} bytes"])
    return 0


def _rewrap_add(options: argparse.Namespace) -> int:
    added = 0
    for key in bundle_read(options.bundle):
        rewrapped_add(options.directory, key)
        added += 1
    show(options, {"added": added}, [f"added        {added} key documents"])
    return 0


def _bound(quota_bytes: object) -> str:
    return "no bound" if quota_bytes is None else f"{quota_bytes}"


def _size(text: str) -> int:
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError("a number of GB from 0")
    return round(value * GB)
