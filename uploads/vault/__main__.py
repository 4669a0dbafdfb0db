"""`python -m uploads.vault`: run a vault, register who may use it, and open what it holds.

Exit codes: 0 all is well; 1 something was refused, is damaged or is missing; 2 wrong usage or an unusable input.
"""

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import (
    fingerprint,
    jwk_from_key,
    key_generate,
    private_key_read,
    private_key_write,
    thumbprint,
)
from uploads.vault.errors import VaultStoreError
from uploads.vault.recipient import open_upload, upload_verify, uploads_list
from uploads.vault.registry import gateway_register, public_key_write, recipient_register, token_write
from uploads.vault.server import vault_serve

EXIT_REFUSED = 1
EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors go to stderr as one line, results to stdout."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (VaultStoreError, EnvelopeError) as error:
        if options.json:
            _out(json.dumps({"error": {"code": error.code, "message": str(error)}}))
        sys.stderr.write(f"vault: {error}\n")
        return EXIT_REFUSED
    except OSError as error:
        sys.stderr.write(f"vault: {error.strerror}: {error.filename}\n")
        return EXIT_USAGE


def _serve(options: argparse.Namespace) -> int:
    vault_serve(
        options.directory,
        vault_id=options.vault_id,
        demonstration=options.demonstration,
        host=options.host,
        port=options.port,
        workers=options.workers,
        threads=options.threads,
        on_ready=lambda address: _out(f"vault listens on {address}"),
    )
    return 0


def _keygen(options: argparse.Namespace) -> int:
    key = key_generate()
    private_key_write(options.out, key)
    jwk = jwk_from_key(key)
    if options.jwk:
        public_key_write(options.jwk, {**jwk})
    named = {"kid": thumbprint({**jwk}), "fingerprint": fingerprint({**jwk}), "jwk": jwk}
    _show(options, named, [f"key id       {named['kid']}", f"fingerprint  {named['fingerprint']}"])
    return 0


def _gateway(options: argparse.Namespace) -> int:
    new = not options.token_file.exists()
    token = (
        secrets.token_urlsafe(32) if new else options.token_file.read_text(encoding="ascii", errors="replace").strip()
    )
    jwk = _jwk_read(options.jwk)
    gateway_register(options.directory, gateway_id=options.gateway_id, token=token, jwk=jwk)
    if new:
        token_write(options.token_file, token)
    _show(options, {"gateway_id": options.gateway_id}, [f"registered   {options.gateway_id} ({fingerprint(jwk)})"])
    return 0


def _recipient(options: argparse.Namespace) -> int:
    kid = recipient_register(options.directory, _jwk_read(options.jwk))
    _show(options, {"kid": kid}, [f"registered   {kid}"])
    return 0


def _list(options: argparse.Namespace) -> int:
    uploads = uploads_list(options.directory)
    lines = [
        f"{each.upload_id}  {each.stored_at or 'not committed':25}  {each.file_count:6} files"
        f"  {each.size_bytes:14} bytes  {each.gateway_id}"
        for each in uploads
    ]
    _show(options, [asdict(each) for each in uploads], lines)
    return 0


def _verify(options: argparse.Namespace) -> int:
    ids = options.upload or [each.upload_id for each in uploads_list(options.directory) if each.committed]
    results: list[dict[str, object]] = []
    lines: list[str] = []
    for upload_id in ids:
        try:
            found = upload_verify(options.directory, upload_id, gateway_fingerprint=options.gateway_fingerprint)
        except (VaultStoreError, EnvelopeError) as error:
            results.append({"upload_id": upload_id, "good": False, "code": error.code})
            lines.append(f"{upload_id}  BAD   {error}")
            continue
        results.append({"good": True, **asdict(found)})
        lines.append(f"{upload_id}  good  {found.file_count} files of {found.gateway_id} ({found.gateway_fingerprint})")
    _show(options, results, lines)
    return 0 if all(result["good"] for result in results) else EXIT_REFUSED


def _open(options: argparse.Namespace) -> int:
    key = private_key_read(options.key)
    opened = open_upload(
        options.directory,
        options.upload,
        private_key=key,
        target=options.out,
        gateway_fingerprint=options.gateway_fingerprint,
    )
    lines = [f"{len(opened.files)} files, revision {opened.revision}, from {opened.gateway_id}"]
    if options.gateway_fingerprint is None:
        lines.append(f"signed by    {opened.gateway_fingerprint}   (compare, or give --gateway-fingerprint)")
    lines += [f"FAILED       {failure.upload_id} {failure.name}: {failure.code}" for failure in opened.failed]
    _show(options, {"complete": opened.complete, **asdict(opened)}, lines)
    return 0 if opened.complete else EXIT_REFUSED


def _jwk_read(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_bytes()[: 64 * 1024])
    except (ValueError, RecursionError) as error:
        raise VaultStoreError("input-invalid") from error
    if not isinstance(document, dict):
        raise VaultStoreError("input-invalid")
    return document


def _show(options: argparse.Namespace, document: object, lines: list[str]) -> None:
    for line in [json.dumps(document, indent=1)] if options.json else lines:
        _out(line)


def _out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m uploads.vault", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: object, text: str, *, directory: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--json", action="store_true", help="write the result as JSON")
        if directory:
            added.add_argument("--directory", type=Path, required=True, help="the vault's directory")
        return added

    serve = command("serve", _serve, "Serve a vault, made if it is not there, until it is told to stop.")
    serve.add_argument("--vault-id", required=True, help="the vault's name, as gateways will know it")
    serve.add_argument(
        "--demonstration", action="store_true", help="mark every receipt as one that never allows deletion"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=11115, help="port, 0 for a free one (default: %(default)s)")
    serve.add_argument("--workers", type=int, choices=range(1, 17), default=1, metavar="1-16", help="processes")
    serve.add_argument("--threads", type=int, choices=range(1, 65), default=8, metavar="1-64", help="threads in each")

    keygen = command("keygen", _keygen, "Make a private key (PEM, 0600); for a recipient.", directory=False)
    keygen.add_argument("--out", type=Path, required=True, help="file to write; never overwritten")
    keygen.add_argument("--jwk", type=Path, help="file for the public key, to be registered")

    gateway = command("gateway", _gateway, "Let a gateway upload.")
    gateway.add_argument("--gateway-id", required=True)
    gateway.add_argument("--jwk", type=Path, required=True, help="the gateway's public identity")
    gateway.add_argument("--token-file", type=Path, required=True, help="its token; made and written if absent")

    recipient = command("recipient", _recipient, "Publish a recipient's public key.")
    recipient.add_argument("--jwk", type=Path, required=True)

    command("list", _list, "List the uploads in a vault's directory.")

    verify = command("verify", _verify, "Prove that the vault still holds what was committed; needs no private key.")
    verify.add_argument("--upload", action="append", help="an upload id; may be repeated (default: all committed)")
    verify.add_argument("--gateway-fingerprint", help="refuse uploads of any other gateway")

    opener = command("open", _open, "Give a study back byte for byte.")
    opener.add_argument("--upload", required=True, help="the upload's id")
    opener.add_argument("--key", type=Path, required=True, help="the recipient's private key")
    opener.add_argument("--out", type=Path, required=True, help="folder to write; absent or empty")
    opener.add_argument("--gateway-fingerprint", help="refuse a study of any other gateway")
    return parser


if __name__ == "__main__":
    sys.exit(main())
