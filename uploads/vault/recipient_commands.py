"""The commands of the recipient, who alone has the private keys: never on the vault's machine."""

import argparse
import datetime as dt
from dataclasses import asdict
from pathlib import Path

from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import (
    fingerprint,
    jwk_from_key,
    key_from_jwk,
    key_generate,
    private_key_read,
    private_key_write,
    thumbprint,
)
from uploads.envelope.rotation import Rotation, rotation_sign
from uploads.vault.canary import canary_open
from uploads.vault.console import EXIT_REFUSED, AddCommand, jwk_read, show
from uploads.vault.durable import file_write
from uploads.vault.errors import VaultStoreError
from uploads.vault.recipient import open_upload, upload_verify, uploads_list
from uploads.vault.registry import public_key_write
from uploads.vault.rewrap import RewrappedKey, bundle_write, upload_rewrap


def commands_add(command: AddCommand) -> None:
    """Adds this module's commands."""
    keygen = command(
        "keygen", _keygen, "Make a private key (PEM, 0600): to open, or to sign rotations.", directory=False
    )
    keygen.add_argument("--out", type=Path, required=True, help="file to write; never overwritten")
    keygen.add_argument("--jwk", type=Path, help="file for the public key, to be registered or pinned")

    show_key = command("fingerprint", _fingerprint, "Show id and fingerprint of a public key.", directory=False)
    show_key.add_argument("--jwk", type=Path, required=True)

    command("list", _list, "List the uploads in a vault's directory.")

    verify = command("verify", _verify, "Prove that the vault still holds what was committed; needs no private key.")
    verify.add_argument("--upload", action="append", help="an upload id; may be repeated (default: all committed)")
    verify.add_argument("--gateway-fingerprint", help="refuse uploads of any other gateway")

    opener = command("open", _open, "Give a study back byte for byte.")
    opener.add_argument("--upload", required=True, help="the upload's id")
    opener.add_argument("--key", type=Path, required=True, help="the recipient's private key")
    opener.add_argument("--out", type=Path, required=True, help="folder to write; absent or empty")
    opener.add_argument("--gateway-fingerprint", help="refuse a study of any other gateway")

    canary = command("canary", _canary, "Open a gateway's canary and show the proof to be entered there.")
    canary.add_argument("--upload", required=True, help="the canary's upload id, as the gateway shows it")
    canary.add_argument("--key", type=Path, required=True, help="the recipient's private key")
    canary.add_argument("--gateway-fingerprint", help="refuse a canary of any other gateway")

    rewrap = command("rewrap", _rewrap, "Make key documents for another key of yours; the operator adds them.")
    rewrap.add_argument("--key", type=Path, required=True, help="the private key that opens the uploads now")
    rewrap.add_argument("--jwk", type=Path, required=True, help="the public key that is to open them too")
    rewrap.add_argument("--out", type=Path, required=True, help="bundle to write, for `rewrap-add`")
    rewrap.add_argument("--upload", action="append", help="an upload id; may be repeated (default: all committed)")
    rewrap.add_argument("--gateway-fingerprint", help="refuse uploads of any other gateway")

    rotation = command("rotation", _rotation, "Sign that another key counts from now on.", directory=False)
    rotation.add_argument(
        "--signing-key", type=Path, required=True, help="your private signing key (pinned by gateways)"
    )
    rotation.add_argument("--vault-id", required=True, help="the vault that this is for")
    rotation.add_argument("--from-kid", required=True, help="id of the key that counts now (--from-kid=ID)")
    rotation.add_argument("--jwk", type=Path, required=True, help="the public key that is to count")
    rotation.add_argument("--serial", type=int, required=True, help="higher than in any statement before")
    rotation.add_argument("--out", type=Path, required=True, help="statement to write, for `manage.py vaultpin`")


def _keygen(options: argparse.Namespace) -> int:
    key = key_generate()
    private_key_write(options.out, key)
    jwk = jwk_from_key(key)
    if options.jwk:
        public_key_write(options.jwk, {**jwk})
    return _key_shown(options, {**jwk})


def _fingerprint(options: argparse.Namespace) -> int:
    return _key_shown(options, {**jwk_from_key(key_from_jwk(jwk_read(options.jwk)))})


def _key_shown(options: argparse.Namespace, jwk: dict[str, object]) -> int:
    named = {"kid": thumbprint(jwk), "fingerprint": fingerprint(jwk), "jwk": jwk}
    show(options, named, [f"key id       {named['kid']}", f"fingerprint  {named['fingerprint']}"])
    return 0


def _list(options: argparse.Namespace) -> int:
    uploads = uploads_list(options.directory)
    lines = [
        f"{each.upload_id}  {'removed' if each.removed_at else each.stored_at or 'not committed':25}"
        f"  {each.file_count:6} files  {each.size_bytes:14} bytes  {each.gateway_id}"
        for each in uploads
    ]
    show(options, [asdict(each) for each in uploads], lines)
    return 0


def _ids(options: argparse.Namespace) -> list[str]:
    """The uploads that were named, or else all that can be read."""
    if options.upload:
        return list(options.upload)
    return [each.upload_id for each in uploads_list(options.directory) if each.committed and not each.removed_at]


def _verify(options: argparse.Namespace) -> int:
    results: list[dict[str, object]] = []
    lines: list[str] = []
    for upload_id in _ids(options):
        try:
            found = upload_verify(options.directory, upload_id, gateway_fingerprint=options.gateway_fingerprint)
        except (VaultStoreError, EnvelopeError) as error:
            results.append({"upload_id": upload_id, "good": False, "code": error.code})
            lines.append(f"{upload_id}  BAD   {error}")
            continue
        results.append({"good": True, **asdict(found)})
        lines.append(f"{upload_id}  good  {found.file_count} files of {found.gateway_id} ({found.gateway_fingerprint})")
    show(options, results, lines)
    return 0 if all(result["good"] for result in results) else EXIT_REFUSED


def _open(options: argparse.Namespace) -> int:
    opened = open_upload(
        options.directory,
        options.upload,
        private_key=private_key_read(options.key),
        target=options.out,
        gateway_fingerprint=options.gateway_fingerprint,
    )
    lines = [f"{len(opened.files)} files, revision {opened.revision}, from {opened.gateway_id}"]
    lines += _signer(options, opened.gateway_fingerprint)
    lines += [f"FAILED       {failure.upload_id} {failure.name}: {failure.code}" for failure in opened.failed]
    show(options, {"complete": opened.complete, **asdict(opened)}, lines)
    return 0 if opened.complete else EXIT_REFUSED


def _canary(options: argparse.Namespace) -> int:
    opened = canary_open(
        options.directory,
        options.upload,
        private_key=private_key_read(options.key),
        gateway_fingerprint=options.gateway_fingerprint,
    )
    lines = [f"proof        {opened.proof}", f"of key       {opened.kid}"]
    show(options, asdict(opened), lines + _signer(options, opened.gateway_fingerprint))
    return 0


def _signer(options: argparse.Namespace, found: str) -> list[str]:
    if options.gateway_fingerprint is not None:
        return []
    return [f"signed by    {found}   (compare, or give --gateway-fingerprint)"]


def _rewrap(options: argparse.Namespace) -> int:
    private_key, recipient = private_key_read(options.key), jwk_read(options.jwk)
    kid = thumbprint(recipient)
    keys: list[RewrappedKey] = []
    failed: list[dict[str, str]] = []
    ids = _ids(options)
    for upload_id in ids:
        try:
            keys += upload_rewrap(
                options.directory,
                upload_id,
                private_key=private_key,
                recipient=recipient,
                gateway_fingerprint=options.gateway_fingerprint,
            )
        except (VaultStoreError, EnvelopeError) as error:
            failed.append({"upload_id": upload_id, "code": error.code})
    bundle_write(options.out, keys)
    document = {"kid": kid, "uploads": len(ids) - len(failed), "keys": len(keys), "failed": failed}
    lines = [f"{document['uploads']} uploads, {len(keys)} key documents for {kid}"]
    lines += [f"FAILED       {each['upload_id']}: {each['code']}" for each in failed]
    show(options, document, lines)
    return EXIT_REFUSED if failed else 0


def _rotation(options: argparse.Namespace) -> int:
    rotation = Rotation(
        vault_id=options.vault_id,
        serial=options.serial,
        from_kid=options.from_kid,
        recipient_jwk=jwk_from_key(key_from_jwk(jwk_read(options.jwk))),
        issued_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    token = rotation_sign(rotation, signing_key=private_key_read(options.signing_key))
    file_write(options.out, token.encode("ascii") + b"\n")
    lines = [f"from         {rotation.from_kid}", f"to           {rotation.to_kid}"]
    lines.append(f"fingerprint  {fingerprint({**rotation.recipient_jwk})}")
    show(options, {"statement": token, "to_kid": rotation.to_kid, **asdict(rotation)}, lines)
    return 0
