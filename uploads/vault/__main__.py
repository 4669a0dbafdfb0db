"""`python -m uploads.vault`: run a vault, register who may use it, and open what it holds.

Exit codes: 0 all is well; 1 something was refused, is damaged or is missing; 2 wrong usage or an unusable input.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from uploads.envelope.errors import EnvelopeError
from uploads.vault import operator_commands, recipient_commands
from uploads.vault.console import EXIT_REFUSED, EXIT_USAGE, out
from uploads.vault.errors import VaultStoreError
from uploads.vault.server import vault_serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors go to stderr as one line, results to stdout."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (VaultStoreError, EnvelopeError) as error:
        if options.json:
            out(json.dumps({"error": {"code": error.code, "message": str(error)}}))
        sys.stderr.write(f"vault: {error}\n")
        return EXIT_REFUSED
    except OSError as error:
        sys.stderr.write(f"vault: {error.strerror}: {error.filename}\n")
        return EXIT_USAGE


def _serve(options: argparse.Namespace) -> int:
    def ready(address: str) -> None:
        out(json.dumps({"address": address}) if options.json else f"vault listens on {address}")

    vault_serve(
        options.directory,
        vault_id=options.vault_id,
        demonstration=options.demonstration,
        host=options.host,
        port=options.port,
        workers=options.workers,
        threads=options.threads,
        on_ready=ready,
    )
    return 0


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
    operator_commands.commands_add(command)
    recipient_commands.commands_add(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
